/** A ledger in the memory of this process. */
import { LedgerFullError } from '../errors.ts'
import { relationOf, type SettlementQuery, withLesserAmount } from '../payment/payment-key.ts'
import { never } from '../runtime/clock.ts'
import {
  type Claim,
  type ClaimRequest,
  closedBySeller,
  isOpen,
  isUndelivered,
  type LedgerEntry,
  type LedgerFilter,
  type LedgerPage,
  type LedgerUpdate,
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

/** An entry; `settlement` as it was stored. */
interface Kept extends LedgerEntry {
  settlement: SettlementState
  query: SettlementQuery
  claim: string
  /** What the holder of the claim was told that an earlier settlement had left. */
  before: SettlementState | undefined
  /** Unix ms at which a lease, or the window for another delivery, ends. */
  endsAt: number
  /** Unix ms after which it may be forgotten. */
  keepUntil: number
  /** Of all entries ever made. */
  readonly number: number
}

export class MemoryLedger implements SettlementLedger {
  readonly isShared: boolean = false
  /** In the order of claiming, so that the oldest are looked at first. */
  readonly #entries = new Map<string, Kept>()
  readonly #maxEntries: number
  #count = 0
  /** What was not charged: a facilitator will say the same again, and buyers can make any number of them. */
  readonly #uncharged = new Set<Kept>()
  /** What is or may be undelivered, by payer and payee. */
  readonly #owed = new Map<string | undefined, Set<Kept>>()
  /** Unix ms. */
  #restUntil = 0

  /** @throws {RangeError} when `maxEntries` is no whole number above 0 */
  constructor({ maxEntries = 100_000 }: MemoryLedgerOptions = {}) {
    if (!(Number.isInteger(maxEntries) && maxEntries > 0))
      throw new RangeError(`MemoryLedger: maxEntries is no whole number above 0`)
    this.#maxEntries = maxEntries
  }

  /** @throws {LedgerFullError} when every entry is live */
  async claim({ key, fingerprint, claim, leaseMs, query }: ClaimRequest): Promise<Claim> {
    const known = this.#entries.get(key)
    if (known?.claim !== claim || known.settlement.state !== 'settling') {
      const before = known && stateOf(known)
      if (known && before && !(isOpen(before) && known.fingerprint === fingerprint))
        return { kind: 'refused', entry: entryOf(known) }
      if (!known) this.#makeRoom(this.#maxEntries, true)
      if (!known && this.#entries.size >= this.#maxEntries) throw new LedgerFullError(this.#maxEntries)
      const now = Date.now()
      const asked = known ? withLesserAmount(known.query, query) : query
      const { validBefore = never, lifetimeSeconds = longestSeconds } = asked
      const entry: Kept = {
        key,
        fingerprint,
        query: asked,
        since: known?.since ?? now,
        claim,
        settlement: { state: 'settling' },
        before,
        endsAt: now + leaseMs,
        keepUntil: Math.min(validBefore * 1000, now + lifetimeSeconds * 1000) + marginMs,
        number: known?.number ?? this.#count++,
      }
      if (known) this.#forget(known)
      this.#entries.set(key, entry)
      this.#owe(entry)
      return granted(entry)
    }
    return granted(known)
  }

  async update({ key, claim, settlement }: LedgerUpdate): Promise<boolean> {
    const entry = this.#entries.get(key)
    if (entry?.claim !== claim) return false
    const { state } = entry.settlement
    const isReplyLost = state === 'settled' && settlement.state === 'undelivered'
    // Sent once more, as its answer was lost.
    if (state !== 'settling' && !isReplyLost) return state === settlement.state
    entry.settlement = settlement
    this.#owe(entry)
    if (settlement.state === 'undelivered') entry.endsAt = Date.now() + settlement.windowMs
    if (isUncharged(settlement)) this.#uncharged.add(entry)
    if (settlement.state === 'settled' && entry.query.method !== 'payload')
      entry.keepUntil = Math.min(entry.keepUntil, Date.now() + deliveredMs)
    return true
  }

  async get(key: string): Promise<LedgerEntry | undefined> {
    const entry = this.#entries.get(key)
    return entry && entryOf(entry)
  }

  async list({ states, from = 0, until = never, limit, cursor = '-1' }: LedgerFilter): Promise<LedgerPage> {
    const entries: LedgerEntry[] = []
    let last: Kept | undefined
    for (const kept of this.#entries.values()) {
      if (kept.number <= Number(cursor) || kept.since < from || kept.since >= until) continue
      if (states?.includes(stateOf(kept).state) === false) continue
      if (entries.length === limit) return { entries, cursor: `${last?.number}` }
      last = kept
      entries.push(entryOf(kept))
    }
    return { entries }
  }

  async undelivered(query: SettlementQuery): Promise<readonly LedgerEntry[]> {
    return [...(this.#owed.get(relationOf(query)) ?? [])].map(entryOf).filter(isUndelivered)
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
          this.#forget(entry)
          entries.delete(entry.key)
        }
      }
    }
    const isOver = (entry: Kept) => entry.keepUntil < now && stateOf(entry).state !== 'settling'
    if (isFull) forget(this.#uncharged, () => true)
    if (entries.size <= target || now < this.#restUntil) return
    // All of it: the next look is the later.
    forget(entries.values(), entry => isOver(entry) && !isUndelivered(entryOf(entry)), 0)
    if (isFull && entries.size >= limit) forget(entries.values(), isOver)
    if (entries.size > target) this.#restUntil = now + restMs
  }

  #owe(entry: Kept): void {
    const relation = relationOf(entry.query)
    if (!relation) return
    const owed = this.#owed.get(relation)
    if (entry.settlement.state === 'settling' || isUndelivered(entry)) {
      if (owed) owed.add(entry)
      else this.#owed.set(relation, new Set([entry]))
    } else if (owed?.delete(entry) && owed.size === 0) this.#owed.delete(relation)
  }

  #forget(entry: Kept): void {
    this.#uncharged.delete(entry)
    entry.settlement = { state: 'failed', wasSent: false }
    this.#owe(entry)
  }
}

function granted({ before, since, query }: Kept): Claim {
  return { kind: 'claimed', before, since, query }
}

function entryOf(kept: Kept): LedgerEntry {
  const { key, fingerprint, query, since, claim } = kept
  return { key, fingerprint, query, since, claim, settlement: stateOf(kept) }
}

/** The state as of now. */
function stateOf({ settlement, endsAt }: Kept): SettlementState {
  const leftMs = endsAt - Date.now()
  switch (settlement.state) {
    case 'settling':
      return leftMs > 0 ? settlement : { state: 'unresolved' }
    case 'undelivered': {
      const { transaction, redeliveries } = settlement
      return leftMs > 0
        ? { ...settlement, windowMs: leftMs }
        : { state: 'settled', transaction, redeliveries }
    }
    default:
      return settlement
  }
}
