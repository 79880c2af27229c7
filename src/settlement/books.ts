/** The settlements of this seller, as its ledger and this process know them: claimed, recorded, closed. */
import { LedgerError } from '../errors.ts'
import type { Observer } from '../observe/observer.ts'
import { safeMessageOf } from '../observe/redact.ts'
import { type KeyedPayment, purchaseOf } from '../payment/payment-key.ts'
import { sortedBy } from '../runtime/sorted-by.ts'
import type { SettlementEvents, SettlementSummary } from './events.ts'
import {
  type Claim,
  closedBySeller,
  isOpen,
  isSettling,
  isUnresolved,
  type LedgerEntry,
  type LedgerUpdate,
  type LedgerUsage,
  type SettlementLedger,
  type SettlementState,
} from './ledger.ts'

/** A claim outlives its operation's deadline by this long (ms), and lapses then. */
const leaseMarginMs = 30_000

/** For so long (ms) after its reply was lost a payment may be delivered again. */
export const redeliveryMs = 10 * 60_000

/** Entries that are read together. */
const pageSize = 10_000

type Refused = Extract<Claim, { kind: 'refused' }>

/** An entry that is claimed here. */
export interface Held extends Omit<LedgerEntry, 'settlement'> {
  readonly kind: 'claimed'
  readonly before: SettlementState | undefined
  /** How often it may be delivered again, should replies be lost. */
  readonly redeliveries: number
}

export interface BooksOptions {
  readonly ledger: SettlementLedger
  readonly onRetry: 'deliver' | 'reject'
  readonly redeliveries: number
  /** A charge that was not delivered counts for the payer's next payment. */
  readonly credit: boolean
}

export class Books {
  readonly ledger: SettlementLedger
  #wasNearlyFull: boolean | undefined
  /** By payment and by purchase, what ends when it is recorded that a reply to it was lost. */
  readonly losses = new Map<string | undefined, Promise<unknown>>()

  constructor(
    private readonly options: BooksOptions,
    private readonly observer: Observer<SettlementEvents>,
  ) {
    this.ledger = options.ledger
    this.ledger.attach?.((what, why) => observer.fault('ledger:error', what, why))
  }

  /** Other processes may use the ledger too, and it may forget. */
  get isShared(): boolean {
    return this.ledger.isShared
  }

  /**
   * @param deadlineMs milliseconds for the settlement
   * @throws {LedgerError} when it could not be recorded
   */
  async claim({ key, fingerprint, query }: KeyedPayment, deadlineMs: number): Promise<Held | Refused> {
    const claim = crypto.randomUUID()
    // By our own clock, where the settlement begins here.
    const now = Date.now()
    let claimed: Claim
    try {
      claimed = await this.ledger.claim({
        key,
        fingerprint,
        query,
        claim,
        leaseMs: deadlineMs + leaseMarginMs,
      })
    } catch (error) {
      this.failed(error)
      throw ledgerError(error, '; nothing was sent to a facilitator')
    } finally {
      this.#watchUsage()
    }
    if (claimed.kind === 'refused') return claimed
    const { before } = claimed
    const held: Held = {
      kind: 'claimed',
      key,
      fingerprint,
      query: claimed.query,
      since: before ? claimed.since : now,
      before,
      claim,
      redeliveries: redeliveriesLeft(before) ?? this.options.redeliveries,
    }
    if (!this.#rejectsRetry(before)) return held
    await this.ledger.update({ key, claim, settlement: before }).catch(error => this.failed(error))
    const entry = { ...held, settlement: before }
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
  #rejectsRetry(
    before: SettlementState | undefined,
  ): before is Extract<SettlementState, { state: 'unresolved' }> {
    return this.options.onRetry === 'reject' && before?.state === 'unresolved'
  }

  /**
   * Records how a settlement went. A ledger that fails now is reported; the settlement goes on.
   *
   * @returns false when the claim has lapsed: another one may hold the entry and deliver, so this one must not
   */
  async record({ key, claim }: Held, settlement: LedgerUpdate['settlement']): Promise<boolean> {
    const { state } = settlement
    let isHeld = true
    let fault: unknown = 'another claim holds the entry'
    try {
      isHeld = await this.ledger.update({ key, claim, settlement })
      if (isHeld) return true
    } catch (error) {
      fault = error
    }
    this.observer.fault('ledger:error', `the ledger did not record ${state}`, fault, { key, state })
    return isHeld
  }

  /** Whether all who presented a payment that is being settled here have left. */
  isAbandoned({ key }: Held): boolean {
    return this.losses.has(key)
  }

  /**
   * What this payer was charged for the same purchase, or may have been, and did not get. What is being recorded when it
   * is called is waited for, and nothing later: no two settlements wait for each other. What is known comes first.
   *
   * @throws what the ledger throws
   */
  async creditsFor({ key, query }: KeyedPayment): Promise<readonly LedgerEntry[]> {
    const { ledger, losses } = this
    if (!this.options.credit || !ledger.undelivered) return []
    if (losses.size > 0) await losses.get(purchaseOf(query))
    const entries = await ledger.undelivered(query)
    const credits = entries.filter(entry => {
      const purchase = purchaseOf(entry.query)
      return purchase && purchase === purchaseOf(query) && entry.key !== key
    })
    return sortedBy(credits, entry => Number(isUnresolved(entry)))
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
    let entry: LedgerEntry | undefined
    try {
      entry = await this.ledger.get(key)
    } catch (error) {
      // Settle will not go on without its ledger; if they say that it was used, that may be our own doing.
      this.failed(error)
      return 'suspect'
    }
    if (!entry) return 'new'
    const { settlement } = entry
    if (isSettling(entry, fingerprint)) return 'settling'
    if (entry.fingerprint !== fingerprint || !isOpen(settlement)) return 'duplicate'
    if (settlement.state === 'failed') return settlement.wasSent ? 'suspect' : 'new'
    if (!this.#rejectsRetry(settlement)) return 'resumable'
    this.#reportRejectedRetry(entry)
    return 'duplicate'
  }

  #reportRejectedRetry(entry: Omit<LedgerEntry, 'claim'>): void {
    this.observer.emit(
      'settlement:indeterminate',
      { ...summarize(entry), attempts: [], isRetryRejected: true },
      'warn',
      event => `a retry on ${event.network} was rejected by onRetry`,
    )
  }

  /** What may have been charged and was not delivered. */
  async unresolved(): Promise<LedgerEntry[]> {
    const all: LedgerEntry[] = []
    let cursor: string | undefined
    do {
      const page = await this.ledger.list({ states: ['unresolved'], limit: pageSize, cursor })
      all.push(...page.entries)
      cursor = page.cursor
    } while (cursor !== undefined)
    return all
  }

  /** The entry, if it is unresolved now. */
  async findUnresolved(key: string): Promise<LedgerEntry | undefined> {
    const entry = await this.ledger.get(key)
    return isUnresolved(entry) ? entry : undefined
  }

  /**
   * Closes an unresolved settlement: from now on the payment is a duplicate.
   *
   * @returns false when another claim has taken it, or it may have been charged at a lesser amount meanwhile
   */
  async close(entry: LedgerEntry, reason = closedBySeller): Promise<boolean> {
    const { key, query, settlement } = entry
    const claim = crypto.randomUUID()
    const claimed = await this.ledger.claim({ ...entry, claim, leaseMs: leaseMarginMs })
    if (claimed.kind !== 'claimed') return false
    // A retry at a lesser amount may have been charged since the chain was asked about this one.
    const isSame = claimed.query.amount === query.amount
    const before = (claimed.before ?? settlement) as LedgerUpdate['settlement']
    const isStored = await this.ledger.update({
      key,
      claim,
      settlement: isSame ? { state: 'rejected', reason } : before,
    })
    return isSame && isStored
  }

  /** What could not be stored before. */
  async flush(): Promise<void> {
    await this.ledger.flush?.()
  }

  /** Reports a fault of the ledger that no caller can be told. */
  failed(error: unknown): void {
    this.observer.fault('ledger:error', 'the ledger failed', error)
  }
}

/** Of a claim that has lapsed nobody knows whether it was the last redelivery. */
function redeliveriesLeft(before: SettlementState | undefined): number | undefined {
  if (!before || before.state === 'failed') return undefined
  return ('redeliveries' in before && before.redeliveries) || 0
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
export function summarize(
  entry: Pick<LedgerEntry, 'key' | 'query' | 'settlement'>,
): SettlementSummary & { readonly key: string } {
  const { settlement } = entry
  const transaction = settlement.state === 'unresolved' ? settlement.transaction : undefined
  return { ...summaryOf(entry), transaction }
}
