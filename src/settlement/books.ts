/** The settlements of this seller, as its ledger and this process know them: claimed, recorded, closed. */
import { LedgerError } from '../errors.ts'
import type { Observer } from '../observe/observer.ts'
import { safeMessageOf } from '../observe/redact.ts'
import { type KeyedPayment, withLesserAmount } from '../payment/payment-key.ts'
import { setBounded } from '../runtime/bounded-map.ts'
import type { SettlementEvents, SettlementSummary } from './events.ts'
import {
  type Claim,
  closedBySeller,
  effectiveState,
  isOpen,
  isSettling,
  isUnresolved,
  type LedgerEntry,
  type LedgerUsage,
  type SettlementLedger,
  type SettlementState,
} from './ledger.ts'
import { MemoryLedger } from './memory-ledger.ts'

/** A claim outlives its operation's deadline by this long (ms), and lapses then. */
const leaseMarginMs = 30_000

type Refused = Extract<Claim, { kind: 'refused' }>

/** An entry that is claimed here, until `leaseUntil` (Unix ms). */
export interface Held extends Omit<LedgerEntry, 'settlement'> {
  readonly kind: 'claimed'
  readonly before: SettlementState | undefined
  readonly claim: string
  readonly leaseUntil: number
}

export class Books {
  /** Other processes may use the ledger too, and it may forget. */
  readonly isShared: boolean
  /** What this process has concluded, by key, where the ledger could not store it or may lose it. */
  readonly #own = new Map<string, OwnRecord>()
  #wasNearlyFull: boolean | undefined

  constructor(
    private readonly ledger: SettlementLedger,
    private readonly onRetry: 'deliver' | 'reject',
    private readonly observer: Observer<SettlementEvents>,
  ) {
    this.isShared = !(ledger instanceof MemoryLedger)
  }

  /**
   * @param deadlineMs milliseconds for the settlement
   * @throws {LedgerError} when it could not be recorded
   */
  async claim(payment: KeyedPayment, deadlineMs: number): Promise<Held | Refused> {
    const { key, fingerprint, query } = payment
    const own = this.#own.get(key)?.entry
    if (own && !(own.fingerprint === fingerprint && isOpen(own.settlement)))
      return { kind: 'refused', entry: own }
    const claim = crypto.randomUUID()
    const since = Date.now()
    const leaseUntil = since + deadlineMs + leaseMarginMs
    let claimed: Claim
    try {
      claimed = await this.ledger.claim({ key, fingerprint, query, claim, since, leaseUntil })
      if (!['claimed', 'refused'].includes(claimed?.kind))
        throw new TypeError('claim() answered neither claimed nor refused')
    } catch (error) {
      this.failed(error)
      throw ledgerError(error, '; nothing was sent to a facilitator')
    }
    this.#watchUsage()
    if (claimed.kind === 'refused') return claimed
    // What the ledger has lost.
    if (own && claimed.before?.state !== 'unresolved')
      claimed = {
        ...claimed,
        before: own.settlement,
        since: own.since,
        query: withLesserAmount(own.query, query),
      }
    const { before } = claimed
    const held: Held = {
      kind: 'claimed',
      key,
      fingerprint,
      query: claimed.query,
      since: claimed.since,
      before,
      claim,
      leaseUntil,
    }
    if (!this.#rejectsRetry(before)) return held
    await this.ledger.update(key, claim, before).catch(error => this.failed(error))
    const entry = entryOf(held, before)
    this.#reportRejectedRetry(entry)
    return { kind: 'refused', entry }
  }

  /** How full the ledger is, where it tells. */
  get usage(): LedgerUsage | undefined {
    return this.ledger.usage?.()
  }

  /** A ledger that fills is reported once, before it refuses payments, and anew when it has had room again. */
  #watchUsage(): void {
    const { usage } = this
    if (!this.#wasNearlyFull && usage?.isNearlyFull)
      this.observer.log('warn', 'ledger:usage', usage, () => 'the ledger is nearly full')
    this.#wasNearlyFull = usage?.isNearlyFull
  }

  /** With `onRetry: 'reject'` what was left unresolved is the seller's to deliver or to refund, and nobody else's. */
  #rejectsRetry(before: SettlementState | undefined): before is SettlementState {
    return this.onRetry === 'reject' && before?.state === 'unresolved'
  }

  /**
   * Records how a settlement went. A ledger that fails now is reported; the settlement goes on.
   *
   * @returns `closed`: there is nothing left to do. `open`: it is unresolved, or still to be stored. `taken`: the claim
   * had lapsed and another one holds the entry: its holder may deliver, so this one must not.
   */
  async record(held: Held, settlement: SettlementState): Promise<'closed' | 'open' | 'taken'> {
    const { key, claim, leaseUntil } = held
    const { state } = settlement
    const reportFault = (why: unknown) => {
      const what = `the ledger did not record ${state}`
      this.observer.fault('ledger:error', what, why, { key, state })
    }
    let isStored = false
    try {
      isStored =
        (await this.ledger.update(key, claim, settlement)) ||
        (await this.#restore(entryOf(held, settlement), claim))
      if (!isStored) {
        reportFault('another claim holds the entry')
        return 'taken'
      }
    } catch (error) {
      reportFault(error)
      // Nobody says that the claim still held: the process may have slept.
      if (Date.now() > leaseUntil) return 'taken'
    }
    // A success must not be reported again for want of a record, and what is unresolved must not be forgotten.
    const isKept = state === 'unresolved' ? this.isShared : state === 'settled' && !isStored
    if (isKept) setBounded(this.#own, key, { entry: entryOf(held, settlement), claim }, maxOwnRecords)
    else this.#own.delete(key)
    return isKept || state === 'unresolved' ? 'open' : 'closed'
  }

  /** Stores what the ledger has lost, so that nobody else holds it. */
  async #restore(entry: LedgerEntry, claim: string): Promise<boolean> {
    const { key, settlement } = entry
    if (await this.ledger.get(key)) return false
    const claimed = await this.ledger.claim({ ...entry, claim, leaseUntil: Date.now() + leaseMarginMs })
    return claimed.kind === 'claimed' && this.ledger.update(key, claim, settlement)
  }

  /** Another try to store the successes that the ledger did not store. */
  async storeLate(): Promise<void> {
    await Promise.all(
      [...this.#own.values()].map(async ({ entry, claim }) => {
        if (entry.settlement.state !== 'settled') return
        try {
          const isStored =
            (await this.ledger.update(entry.key, claim, entry.settlement)) ||
            (await this.#restore(entry, claim)) ||
            // What took long may have been stored after all.
            (await this.ledger.get(entry.key))?.settlement.state === 'settled'
          if (isStored) this.#own.delete(entry.key)
        } catch (error) {
          this.failed(error)
        }
      }),
    )
  }

  /**
   * What is known of a payment that is about to be verified: `new` (ask the facilitators), `suspect` (ask them, but if
   * they say that it was used, that may be our own doing), `resumable` (a settlement of this very purchase that was not
   * delivered; its settle will resume it), `settling`, or
   * `duplicate`.
   */
  async standing({
    key,
    fingerprint,
  }: KeyedPayment): Promise<'new' | 'suspect' | 'resumable' | 'settling' | 'duplicate'> {
    const own = this.#own.get(key)?.entry
    if (own?.settlement.state === 'settled') return 'duplicate'
    let entry: LedgerEntry | undefined
    try {
      entry = await this.ledger.get(key)
    } catch (error) {
      // Settle will not go on without its ledger; if they say that it was used, that may be our own doing.
      this.failed(error)
      if (!own) return 'suspect'
    }
    entry ??= own
    if (!entry) return 'new'
    const settlement = effectiveState(entry.settlement)
    if (isSettling(entry, fingerprint)) return 'settling'
    if (entry.fingerprint !== fingerprint || !isOpen(settlement)) return 'duplicate'
    if (settlement.state === 'failed') return settlement.wasSent ? 'suspect' : 'new'
    if (!this.#rejectsRetry(settlement)) return 'resumable'
    this.#reportRejectedRetry(entry)
    return 'duplicate'
  }

  #reportRejectedRetry(entry: LedgerEntry): void {
    this.observer.emit(
      'settlement:indeterminate',
      { ...summarize(entry), attempts: [], isRetryRejected: true },
      'warn',
      event => `a retry on ${event.network} was rejected by onRetry`,
    )
  }

  /**
   * What may have been charged and was not delivered: with what the ledger has lost, and without what was delivered,
   * though that could not be stored.
   */
  async unresolved(): Promise<LedgerEntry[]> {
    const entries = await this.ledger.unresolved()
    const isListed = new Set(entries.map(({ key }) => key))
    for (const { entry } of this.#own.values()) {
      const { key, settlement } = entry
      if (settlement.state !== 'unresolved' || isListed.has(key)) continue
      if (await this.ledger.get(key)) this.#own.delete(key)
      else entries.push(entry)
    }
    return entries.filter(({ key }) => this.#own.get(key)?.entry.settlement.state !== 'settled')
  }

  /** The entry, if it is unresolved now. */
  async findUnresolved(key: string): Promise<LedgerEntry | undefined> {
    const entry = (await this.ledger.get(key)) ?? this.#own.get(key)?.entry
    return isUnresolved(entry) ? entry : undefined
  }

  /**
   * Closes an unresolved settlement: from now on the payment is a duplicate.
   *
   * @returns false when another claim has taken it, or it may have been charged at a lesser amount meanwhile
   */
  async close(entry: LedgerEntry, reason = closedBySeller): Promise<boolean> {
    const claim = crypto.randomUUID()
    const leaseUntil = Date.now() + leaseMarginMs
    const claimed = await this.ledger.claim({ ...entry, claim, leaseUntil })
    if (claimed.kind !== 'claimed') return false
    // A retry at a lesser amount may have been charged since the chain was asked about this one.
    const isSame = claimed.query.amount === entry.query.amount
    const before = claimed.before ?? entry.settlement
    const isStored = await this.ledger.update(
      entry.key,
      claim,
      isSame ? { state: 'rejected', reason } : before,
    )
    if (isSame && isStored) this.#own.delete(entry.key)
    return isSame && isStored
  }

  /** Reports a fault of the ledger that no caller can be told. */
  failed(error: unknown): void {
    this.observer.fault('ledger:error', 'the ledger failed', error)
  }
}

function entryOf({ key, fingerprint, query, since }: Held, settlement: SettlementState): LedgerEntry {
  return { key, fingerprint, query, since, settlement }
}

/** A fault of the ledger, for the caller. */
export function ledgerError(error: unknown, consequence = ''): LedgerError {
  if (error instanceof LedgerError) return error
  return new LedgerError(`the ledger failed (${safeMessageOf(error)})${consequence}.`)
}

/** What outsiders may know of a payment. */
export function summaryOf({
  key,
  query: { network, payer, payTo, asset, amount },
}: Pick<KeyedPayment, 'key' | 'query'>): SettlementSummary & { readonly key: string } {
  return { key, network, payer, payTo, asset, amount }
}

/** What outsiders may know of an entry. */
export function summarize(entry: LedgerEntry): SettlementSummary & { readonly key: string } {
  const { settlement } = entry
  const transaction = settlement.state === 'unresolved' ? settlement.transaction : undefined
  return { ...summaryOf(entry), transaction }
}
