/** A ledger in the memory of this process. */
import { LedgerFullError } from '../errors.ts'
import { withLesserAmount } from '../payment/payment-key.ts'
import {
  type Claim,
  type ClaimRequest,
  closedBySeller,
  effectiveState,
  isOpen,
  isUnresolved,
  type LedgerEntry,
  type SettlementLedger,
  type SettlementState,
} from './ledger.ts'

/** Clocks differ: an authorization counts as usable this long (s) after its end. */
const marginSeconds = 60
/** How long (s) an entry is kept whose authorization says nothing of its end. */
const defaultKeepSeconds = 24 * 60 * 60

export interface MemoryLedgerOptions {
  /**
   * At most this many entries. When all of them are live, settle is refused rather than one forgotten.
   * @default 100000
   */
  maxEntries?: number
}

/** What is left when rejections make room, so that not every claim has to look for the next one. */
const keptShare = 0.9

/** Nothing was charged, and that is sure. */
function isUncharged(settlement: SettlementState): boolean {
  return settlement.state === 'rejected'
    ? settlement.reason !== closedBySeller
    : settlement.state === 'failed' && !settlement.wasSent
}

type Kept = Omit<LedgerEntry, 'settlement'> & {
  settlement: SettlementState
  /** The claim granted last. */
  readonly claim: string
  /** Unix s after which the authorization cannot be used any more. */
  readonly keepUntil: number
}

export class MemoryLedger implements SettlementLedger {
  /** In the order of claiming, so that the oldest are looked at first. */
  readonly #entries = new Map<string, Kept>()
  readonly #maxEntries: number

  /** @throws {RangeError} when `maxEntries` is no whole number above 0 */
  constructor({ maxEntries = 100_000 }: MemoryLedgerOptions = {}) {
    if (!(Number.isInteger(maxEntries) && maxEntries > 0))
      throw new RangeError(`MemoryLedger: maxEntries is no whole number above 0`)
    this.#maxEntries = maxEntries
  }

  /** @throws {LedgerFullError} when every entry is live */
  async claim(request: ClaimRequest): Promise<Claim> {
    const { key, fingerprint, claim, leaseUntil } = request
    const nowMs = Date.now()
    const known = this.#entries.get(key)
    const before = known && effectiveState(known.settlement)
    if (known && before && !(isOpen(before) && known.fingerprint === fingerprint))
      return { kind: 'refused', entry: { ...known } }
    if (!known) this.#makeRoom(nowMs)
    const since = known?.since ?? request.since
    const query = known ? withLesserAmount(known.query, request.query) : request.query
    const keepUntil = (query.validBefore ?? nowMs / 1000 + defaultKeepSeconds) + marginSeconds
    const settlement: SettlementState = { state: 'settling', claim, leaseUntil }
    this.#entries.set(key, { key, fingerprint, query, since, settlement, keepUntil, claim })
    return { kind: 'claimed', before, since, query }
  }

  async update(key: string, claim: string, settlement: SettlementState): Promise<boolean> {
    const entry = this.#entries.get(key)
    if (entry?.claim !== claim) return false
    // Sent once more, as its answer was lost.
    if (entry.settlement.state !== 'settling') return entry.settlement.state === settlement.state
    entry.settlement = settlement
    return true
  }

  async get(key: string): Promise<LedgerEntry | undefined> {
    const entry = this.#entries.get(key)
    return entry && { ...entry }
  }

  async unresolved(): Promise<LedgerEntry[]> {
    return [...this.#entries.values()].filter(isUnresolved).map(entry => ({ ...entry }))
  }

  get size(): number {
    return this.#entries.size
  }

  /**
   * Drops entries whose authorization cannot be used any more: the finished ones, and if that is not enough the oldest
   * unresolved ones. Then what was not charged, the oldest first: a facilitator will say the same again, and buyers
   * can make any number of them.
   */
  #makeRoom(nowMs: number): void {
    if (this.#entries.size < this.#maxEntries) return
    const isOver = (entry: Kept) => entry.keepUntil * 1000 < nowMs
    const isOpenStill = (entry: Kept) => entry.settlement.state === 'settling' || isUnresolved(entry)
    this.#drop(entry => isOver(entry) && !isOpenStill(entry))
    this.#drop(entry => isOver(entry) && isUnresolved(entry), this.#maxEntries - 1)
    this.#drop(({ settlement }) => isUncharged(settlement), this.#maxEntries * keptShare)
    if (this.#entries.size >= this.#maxEntries) throw new LedgerFullError(this.#maxEntries)
  }

  /** Drops what may go, the oldest first, until no more than `target` are left. */
  #drop(mayGo: (entry: Kept) => boolean, target = 0): void {
    for (const [key, entry] of this.#entries) {
      if (this.#entries.size <= target) return
      if (mayGo(entry)) this.#entries.delete(key)
    }
  }
}
