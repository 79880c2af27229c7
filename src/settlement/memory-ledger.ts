/** A ledger in the memory of this process. */
import { LedgerFullError } from '../errors.ts'
import { withLesserAmount } from '../payment/payment-key.ts'
import { never } from '../runtime/clock.ts'
import {
  type Claim,
  type ClaimRequest,
  closedBySeller,
  effectiveState,
  isOpen,
  isUnresolved,
  type LedgerEntry,
  type LedgerUsage,
  type SettlementLedger,
  type SettlementState,
} from './ledger.ts'
import { Shelf } from './shelf.ts'

/** Clocks differ: an authorization counts as usable this long (s) after its end. */
const marginSeconds = 60
/** An authorization that names no end, or a later one, counts as over so long (s) after it was claimed. */
const longestSeconds = 24 * 60 * 60
/**
 * What was delivered, and what a chain accepts once only, is kept so long (s) in a full ledger: a replay of it fails at
 * every facilitator that looks at the chain.
 */
const deliveredSeconds = 60 * 60
/** The share of its entries from which a ledger is nearly full. */
const nearlyFullShare = 0.9

export interface MemoryLedgerOptions {
  /**
   * At most this many entries. When all of them are live, settle is refused rather than one forgotten. An entry takes
   * about 1 kB.
   * @default 100000
   */
  maxEntries?: number
}

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
  /** Unix s after which the authorization counts as over. */
  readonly keepUntil: number
  /** Those that may be forgotten together with it. */
  shelf: Set<string>
}

export class MemoryLedger implements SettlementLedger {
  readonly #entries = new Map<string, Kept>()
  readonly #maxEntries: number
  /** What was not charged: a facilitator will say the same again, and buyers can make any number of them. */
  readonly #uncharged = new Set<string>()
  /** What nothing can become of any more once its time has come. */
  readonly #closed = new Shelf()
  /** What is being settled, or may have been charged and was not delivered. */
  readonly #open = new Shelf()

  /** @throws {RangeError} when `maxEntries` is no whole number above 0 */
  constructor({ maxEntries = 100_000 }: MemoryLedgerOptions = {}) {
    if (!(Number.isInteger(maxEntries) && maxEntries > 0))
      throw new RangeError(`MemoryLedger: maxEntries is no whole number above 0`)
    this.#maxEntries = maxEntries
  }

  /** @throws {LedgerFullError} when every entry is live */
  async claim(request: ClaimRequest): Promise<Claim> {
    const { key, fingerprint, claim, leaseUntil } = request
    const known = this.#entries.get(key)
    const before = known && effectiveState(known.settlement)
    if (known !== undefined && before !== undefined && !(isOpen(before) && known.fingerprint === fingerprint))
      return { kind: 'refused', entry: entryOf(known) }
    if (known === undefined) this.#makeRoom()
    else known.shelf.delete(key)
    const since = known?.since ?? request.since
    const query = known === undefined ? request.query : withLesserAmount(known.query, request.query)
    const { validBefore = never, lifetimeSeconds = longestSeconds } = query
    const keepUntil = Math.min(validBefore, Date.now() / 1000 + lifetimeSeconds) + marginSeconds
    const settlement: SettlementState = { state: 'settling', claim, leaseUntil }
    const shelf = this.#open.slot(Math.max(keepUntil, leaseUntil / 1000)).add(key)
    this.#entries.set(key, { key, fingerprint, query, since, settlement, keepUntil, claim, shelf })
    return { kind: 'claimed', before, since, query }
  }

  async update(key: string, claim: string, settlement: SettlementState): Promise<boolean> {
    const entry = this.#entries.get(key)
    if (entry?.claim !== claim) return false
    // Sent once more, as its answer was lost.
    if (entry.settlement.state !== 'settling') return entry.settlement.state === settlement.state
    entry.settlement = settlement
    entry.shelf.delete(key)
    entry.shelf = this.#shelfOf(entry).add(key)
    return true
  }

  async get(key: string): Promise<LedgerEntry | undefined> {
    const entry = this.#entries.get(key)
    return entry && entryOf(entry)
  }

  async unresolved(): Promise<LedgerEntry[]> {
    return [...this.#entries.values()].filter(isUnresolved).map(entryOf)
  }

  get size(): number {
    return this.#entries.size
  }

  usage(): LedgerUsage {
    const { size } = this.#entries
    const maxEntries = this.#maxEntries
    const limit = maxEntries * nearlyFullShare
    let entries = size - this.#uncharged.size
    if (entries >= limit) for (const keys of this.#closed.due()) entries -= keys.size
    return { entries, maxEntries, isNearlyFull: entries >= limit }
  }

  #shelfOf({ settlement, query, keepUntil }: Kept): Set<string> {
    if (settlement.state === 'unresolved') return this.#open.slot(keepUntil)
    if (isUncharged(settlement)) return this.#uncharged
    const isAcceptedOnce = settlement.state === 'settled' && query.method !== 'payload'
    return this.#closed.slot(
      isAcceptedOnce ? Math.min(keepUntil, Date.now() / 1000 + deliveredSeconds) : keepUntil,
    )
  }

  /** Forgets what can hurt least, the oldest first. What may have been charged and was not delivered is the last. */
  #makeRoom(): void {
    if (this.#entries.size < this.#maxEntries) return
    const shelf = [this.#uncharged, this.#closed.due()[0], this.#open.due()[0]].find(keys => keys?.size)
    for (const key of shelf ?? []) {
      shelf?.delete(key)
      this.#entries.delete(key)
      return
    }
    throw new LedgerFullError(this.#maxEntries)
  }
}

function entryOf({ shelf: _, ...entry }: Kept): LedgerEntry {
  return entry
}
