/** What makes a ledger of a store that replicas share, and that may be slow, be down, or forget. */
import { relationOf, withLesserAmount } from '../payment/payment-key.ts'
import { setBounded } from '../runtime/bounded-map.ts'
import { setBackgroundTimeout, within } from '../runtime/clock.ts'
import {
  type Claim,
  type ClaimRequest,
  isOpen,
  isUnresolved,
  type LedgerEntry,
  type LedgerFilter,
  type LedgerPage,
  type LedgerUpdate,
  type SettlementLedger,
} from '../settlement/ledger.ts'

/** A store for `sharedLedger`: what a ledger does, without what all of them need. */
export type LedgerStore = Omit<SettlementLedger, 'isShared' | 'attach' | 'flush'>

/** Milliseconds that one call may take; several fit into the time by which a claim outlives its operation. */
const timeoutMs = 5_000
/** The same for an update, for which a buyer waits who has paid. */
const updateTimeoutMs = 2_000
/** Milliseconds between tries to store what could not be stored. */
const retryMs = 10_000
/** Milliseconds for which an entry that was lost is claimed to be stored again. */
const restoreLeaseMs = 30_000
/** How many claims, and how many conclusions, this process remembers. */
const maxRecords = 10_000

/** A claim that was granted here. */
interface Held {
  readonly entry: Omit<LedgerEntry, 'settlement'>
  /** Unix ms by our own clock: it may have lapsed after that. */
  readonly endsAt: number
}

/**
 * A ledger for `settlement.ledger` of a store that several processes share.
 *
 * It bounds each call (an update 2 s, the others 5 s), repeats an update at once whose answer is lost, and remembers what
 * this process has concluded (10,000 at most) while the store is down or has lost it: no success is reported twice for
 * want of a record, and what is unresolved is not forgotten.
 */
export function sharedLedger(store: LedgerStore): SettlementLedger {
  return new SharedLedger(store)
}

/** The store's methods are called in async functions: it may answer or throw at once, against its contract. */
class SharedLedger implements SettlementLedger {
  readonly isShared = true
  readonly undelivered?: NonNullable<SettlementLedger['undelivered']>
  readonly prune?: NonNullable<SettlementLedger['prune']>
  readonly usage?: NonNullable<SettlementLedger['usage']>
  readonly #held = new Map<string, Held>()
  /** What this process has concluded, by key, where the store has not stored it or may lose it. */
  readonly #own = new Map<string, LedgerEntry>()
  /** The keys on the pages of the walk through what is unresolved. */
  #walked = new Set<string>()
  #retry: ReturnType<typeof setTimeout> | undefined
  #report: (what: string, why: unknown) => void = () => {}

  constructor(private readonly store: LedgerStore) {
    if (store.undelivered) this.undelivered = query => this.#undelivered(query)
    if (store.prune) this.prune = store.prune.bind(store)
    if (store.usage) this.usage = store.usage.bind(store)
  }

  attach(report: (what: string, why: unknown) => void): void {
    this.#report = report
    if (!this.undelivered)
      report("no charge is credited to a buyer's next payment", 'the ledger does not find charges by payer')
  }

  async claim(request: ClaimRequest): Promise<Claim> {
    const { key, fingerprint, claim, leaseMs, query } = request
    const own = this.#own.get(key)
    if (own && !(own.fingerprint === fingerprint && isOpen(own.settlement)))
      return { kind: 'refused', entry: own }
    const endsAt = Date.now() + leaseMs
    let claimed = await this.#claimInTime(request)
    if (claimed.kind === 'refused') return claimed
    // What the store has lost.
    if (own && claimed.before?.state !== 'unresolved')
      claimed = {
        kind: 'claimed',
        before: own.settlement,
        since: own.since,
        query: withLesserAmount(own.query, query),
      }
    const entry = { key, fingerprint, claim, query: claimed.query, since: claimed.since }
    setBounded(this.#held, key, { entry, endsAt }, maxRecords)
    return claimed
  }

  async #claimInTime(request: ClaimRequest): Promise<Claim> {
    const claim = async () => this.store.claim(request)
    const claiming = claim()
    try {
      const claimed = await within(timeoutMs, () => claiming)
      if (claimed?.kind === 'claimed' || claimed?.kind === 'refused') return claimed
      throw new TypeError('claim() answered neither claimed nor refused')
    } catch (error) {
      // Nobody settles under it: the next one shall not have to wait for its end.
      const lapsesAt = Date.now() + request.leaseMs
      void this.#release(request, claiming.catch(claim)).catch(() => this.#releaseLater(request, lapsesAt))
      throw error
    }
  }

  async #release({ key, claim }: ClaimRequest, claiming: Promise<Claim>): Promise<void> {
    const claimed = await claiming
    if (claimed.kind !== 'claimed') return
    const { before } = claimed
    const settlement: LedgerUpdate['settlement'] =
      !before || before.state === 'settling' ? { state: 'failed', wasSent: false } : before
    await this.store.update({ key, claim, settlement })
  }

  /** The same claim once more tells whether it was granted, and what was there before. */
  #releaseLater(request: ClaimRequest, lapsesAt: number): void {
    if (Date.now() >= lapsesAt) return
    const release = async () => this.#release(request, this.store.claim(request))
    setBackgroundTimeout(() => void release().catch(() => this.#releaseLater(request, lapsesAt)), retryMs)
  }

  async update(update: LedgerUpdate): Promise<boolean> {
    const { key, claim, settlement } = update
    const held = this.#held.get(key)
    const entry = held?.entry.claim === claim ? { ...held.entry, settlement } : undefined
    let isStored = false
    try {
      const store = async () => this.store.update(update)
      // Once more at once: a success that is not stored when its claim lapses may be delivered again by a replica.
      isStored =
        (await within(updateTimeoutMs, () => store().catch(store))) ||
        (entry !== undefined && (await this.#restore(entry)))
      if (!isStored) return false
    } catch (error) {
      if (!entry || (settlement.state !== 'settled' && settlement.state !== 'unresolved')) throw error
      this.#report(`the ledger did not record ${settlement.state}`, error)
      // Nobody says that the claim still held: the process may have slept.
      if (!held || Date.now() > held.endsAt) return false
      // A success must not be reported again for want of a record.
      this.#scheduleRetry()
    }
    this.#held.delete(key)
    // What is unresolved must not be forgotten.
    if (entry && (settlement.state === 'unresolved' || !isStored))
      setBounded(this.#own, key, entry, maxRecords)
    else this.#own.delete(key)
    return true
  }

  /** Stores what the store has lost, so that nobody else holds it. */
  async #restore(entry: LedgerEntry): Promise<boolean> {
    const { key, claim, settlement } = entry
    if (settlement.state === 'settling') return false
    return within(timeoutMs, async () => {
      if (await this.store.get(key)) return false
      const claimed = await this.store.claim({ ...entry, leaseMs: restoreLeaseMs })
      return claimed.kind === 'claimed' && this.store.update({ key, claim, settlement })
    })
  }

  async get(key: string): Promise<LedgerEntry | undefined> {
    const own = this.#own.get(key)
    if (own?.settlement.state === 'settled') return own
    try {
      return (await within(timeoutMs, () => this.store.get(key))) ?? own
    } catch (error) {
      if (!own) throw error
      this.#report('the ledger failed', error)
      return own
    }
  }

  /** With what is unresolved and the store has lost, and without what was delivered, though that could not be stored. */
  async list(filter: LedgerFilter): Promise<LedgerPage> {
    const { entries, cursor } = await within(timeoutMs, () => this.store.list(filter))
    const listed = entries.filter(entry => !this.#isDelivered(entry))
    const { states, from, until } = filter
    if (states?.join() !== 'unresolved' || from !== undefined || until !== undefined)
      return { entries: listed, cursor }
    if (filter.cursor === undefined) this.#walked = new Set()
    for (const { key } of entries) this.#walked.add(key)
    if (cursor !== undefined) return { entries: listed, cursor }
    for (const entry of this.#own.values()) {
      const { key, settlement } = entry
      if (settlement.state !== 'unresolved' || this.#walked.has(key)) continue
      if (await within(timeoutMs, () => this.store.get(key))) this.#own.delete(key)
      else listed.push(entry)
    }
    return { entries: listed }
  }

  async #undelivered(query: LedgerEntry['query']): Promise<readonly LedgerEntry[]> {
    const entries = await within(timeoutMs, async () => this.store.undelivered?.(query) ?? [])
    const listed = entries.filter(entry => !this.#isDelivered(entry))
    const relation = relationOf(query)
    // What the store has lost: if it has not, its claim is refused where it is over.
    for (const own of this.#own.values())
      if (
        isUnresolved(own) &&
        relationOf(own.query) === relation &&
        !entries.some(({ key }) => key === own.key)
      )
        listed.push(own)
    return listed
  }

  #isDelivered({ key }: LedgerEntry): boolean {
    return this.#own.get(key)?.settlement.state === 'settled'
  }

  #scheduleRetry(): void {
    this.#retry ??= setBackgroundTimeout(() => {
      this.#retry = undefined
      void this.flush()
    }, retryMs)
  }

  /** Another try to store the successes that the store did not store. */
  async flush(): Promise<void> {
    await Promise.all(
      [...this.#own.values()].map(async entry => {
        const { key, claim, settlement } = entry
        if (settlement.state !== 'settled') return
        try {
          const isStored =
            (await within(updateTimeoutMs, () => this.store.update({ key, claim, settlement }))) ||
            (await this.#restore(entry)) ||
            // What took long may have been stored after all.
            (await within(timeoutMs, () => this.store.get(key)))?.settlement.state === 'settled'
          if (isStored) this.#own.delete(key)
        } catch (error) {
          this.#report('the ledger failed', error)
          this.#scheduleRetry()
        }
      }),
    )
  }
}
