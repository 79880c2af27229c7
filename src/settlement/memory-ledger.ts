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

/** Clocks differ: an authorization counts as usable this long (ms) after its end. */
const marginMs = 60_000
/** An authorization that names no end, or a later one, counts as over so long (s) after it was claimed. */
const longestSeconds = 24 * 60 * 60
/**
 * What was delivered, and what a chain accepts once only, is kept so long (ms) in a full ledger: a replay of it fails at
 * every facilitator that looks at the chain.
 */
const deliveredMs = 60 * 60 * 1000
/** The share of its entries from which a ledger is nearly full. */
const nearlyFullShare = 0.9
/** The share that is forgotten at once, so that not every claim has to look for the next one. */
const batchShare = 0.01
/** After a look at all entries that has not freed so many, the next one comes so much later (ms). */
const restMs = 10_000

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
  /** Unix ms after which it may be forgotten. */
  keepUntil: number
}

export class MemoryLedger implements SettlementLedger {
  /** In the order of claiming, so that the oldest are looked at first. */
  readonly #entries = new Map<string, Kept>()
  readonly #maxEntries: number
  /** What was not charged: a facilitator will say the same again, and buyers can make any number of them. */
  readonly #uncharged = new Set<Kept>()
  /** Unix ms. */
  #restUntil = 0

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
    if (known && before && !(isOpen(before) && known.fingerprint === fingerprint))
      return { kind: 'refused', entry: { ...known } }
    if (known) this.#uncharged.delete(known)
    else {
      this.#makeRoom(this.#maxEntries, true)
      if (this.#entries.size >= this.#maxEntries) throw new LedgerFullError(this.#maxEntries)
    }
    const since = known?.since ?? request.since
    const query = known ? withLesserAmount(known.query, request.query) : request.query
    const { validBefore = never, lifetimeSeconds = longestSeconds } = query
    const keepUntil = Math.min(validBefore * 1000, Date.now() + lifetimeSeconds * 1000) + marginMs
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
    if (isUncharged(settlement)) this.#uncharged.add(entry)
    if (settlement.state === 'settled' && entry.query.method !== 'payload')
      entry.keepUntil = Math.min(entry.keepUntil, Date.now() + deliveredMs)
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

  /** Where it seems nearly full, it forgets what is over and closed; what is over since then is counted. */
  usage(): LedgerUsage {
    const maxEntries = this.#maxEntries
    const limit = maxEntries * nearlyFullShare
    this.#makeRoom(this.#uncharged.size + limit, false)
    const entries = this.#entries.size - this.#uncharged.size
    return { entries, maxEntries, isNearlyFull: entries >= limit }
  }

  /**
   * Makes room for a batch of entries below `limit`, if that many are to be forgotten, the oldest first. Where the ledger
   * is full, what was not charged is the first, and what may have been charged and was not delivered the last.
   */
  #makeRoom(limit: number, isFull: boolean): void {
    const entries = this.#entries
    if (entries.size < limit) return
    const now = Date.now()
    const target = limit - this.#maxEntries * batchShare
    const forget = (those: Iterable<Kept>, mayGo: (entry: Kept) => boolean, least = target) => {
      for (const entry of those) {
        if (entries.size <= least) return
        if (mayGo(entry)) {
          this.#uncharged.delete(entry)
          entries.delete(entry.key)
        }
      }
    }
    const isOver = ({ keepUntil, settlement }: Kept) =>
      keepUntil < now && effectiveState(settlement).state !== 'settling'
    if (isFull) forget(this.#uncharged, () => true)
    if (entries.size <= target || now < this.#restUntil) return
    // All of it: the next look is the later.
    forget(entries.values(), entry => isOver(entry) && !isUnresolved(entry), 0)
    if (isFull && entries.size >= limit) forget(entries.values(), isOver)
    if (entries.size > target) this.#restUntil = now + restMs
  }
}
