/** The settlements of this seller: claimed, recorded, and watched while they are unresolved. */
import { setBackgroundTimeout } from '../clock.ts'
import { LedgerError } from '../errors.ts'
import type { SettlementSummary } from '../observe/events.ts'
import type { Observer } from '../observe/observer.ts'
import { redact } from '../redact.ts'
import { ChainView } from './chain-view.ts'
import {
  type Claim,
  effectiveState,
  isOpen,
  type LedgerEntry,
  type SettlementLedger,
  type SettlementState,
} from './ledger.ts'
import type { KeyedPayment, SettlementQuery } from './payment-key.ts'
import type { SettlementProbe } from './probe.ts'

export interface SettlementSettings {
  readonly ledger: SettlementLedger
  readonly probes: readonly SettlementProbe[]
  readonly audit: 'off' | 'sample' | 'always'
  readonly onRetry: 'deliver' | 'reject'
  readonly probeAfterMs: number
  readonly failoverAfterMs: number
  readonly watchIntervalMs: number
}

/** A claim outlives its operation's deadline by this long (ms), and lapses then. */
const leaseMarginMs = 30_000

/** How many final states are kept that a failing ledger did not store. */
const maxUnstored = 10_000

/** A settlement that may have been charged and was not delivered. */
export interface UnresolvedSettlement extends SettlementSummary {
  /** Identifies the payment. */
  readonly key: string
}

export class Settlements {
  #watchTimer: ReturnType<typeof setTimeout> | undefined
  /** Keys whose fate the chain has told, and the seller has been told. */
  readonly #told = new Set<string>()
  /** Final states that the ledger failed to store: a success must not be reported again for want of a record. */
  readonly #unstored = new Map<string, LedgerEntry>()
  #isStopped = false

  constructor(
    readonly settings: SettlementSettings,
    private readonly observer: Observer,
  ) {}

  /** The chain's view of a payment whose settlement began at `since`, where a probe can look at it. */
  viewOf(query: SettlementQuery, since: number): ChainView | undefined {
    const probe = this.settings.probes.find(one => one.supports(query.network, query.method))
    return probe && new ChainView(probe, query, since)
  }

  /**
   * @param claim names this attempt to settle
   * @throws {LedgerError} when it could not be recorded
   */
  async claim({ key, fingerprint, query }: KeyedPayment, claim: string, deadlineMs: number): Promise<Claim> {
    const unstored = this.#unstored.get(key)
    if (unstored !== undefined) return { kind: 'refused', entry: unstored }
    const since = Date.now()
    const leaseUntil = since + deadlineMs + leaseMarginMs
    try {
      return await this.settings.ledger.claim({ key, fingerprint, query, claim, since, leaseUntil })
    } catch (error) {
      if (error instanceof LedgerError) throw error
      throw new LedgerError(
        `settle: the ledger failed (${describe(error)}); nothing was sent to a facilitator, nothing was charged.`,
      )
    }
  }

  /** Records how a settlement went. A ledger that fails now is reported; the settlement goes on. */
  async record(payment: KeyedPayment, claim: string, settlement: SettlementState): Promise<void> {
    const { key } = payment
    try {
      const isStored = await this.settings.ledger.update(key, claim, settlement)
      if (!isStored) throw new Error('another claim holds the entry')
    } catch (error) {
      this.observer.log(
        'error',
        'ledger:error',
        { key, state: settlement.state, error: describe(error) },
        fields => `the ledger did not record that a settlement is ${fields.state}: ${fields.error}`,
      )
      if (settlement.state === 'settled') this.#keepUnstored({ ...payment, since: Date.now(), settlement })
    }
    if (settlement.state === 'unresolved') {
      this.#told.delete(key)
      this.#watch()
    }
  }

  #keepUnstored(entry: LedgerEntry): void {
    if (this.#unstored.size >= maxUnstored) this.#unstored.delete(this.#unstored.keys().next().value ?? '')
    this.#unstored.set(entry.key, entry)
  }

  /**
   * What the ledger says of a payment that is about to be verified: `new` (ask the facilitators), `suspect` (ask them,
   * but if they say that it was used, that may be our own doing), `resumable` (a settlement of this very purchase that
   * was not delivered; its settle will resume it), or `duplicate`.
   */
  async standing({ key, fingerprint }: KeyedPayment): Promise<'new' | 'suspect' | 'resumable' | 'duplicate'> {
    if (this.#unstored.has(key)) return 'duplicate'
    let entry: LedgerEntry | undefined
    try {
      entry = await this.settings.ledger.get(key)
    } catch (error) {
      // The facilitators know a used authorization too, and settle will not go on without its ledger.
      this.#ledgerFailed(error)
    }
    if (entry === undefined) return 'new'
    const settlement = effectiveState(entry.settlement, Date.now())
    if (entry.fingerprint !== fingerprint || !isOpen(settlement)) return 'duplicate'
    if (settlement.state === 'failed') return settlement.isWordOnly ? 'suspect' : 'new'
    if (this.settings.onRetry === 'deliver') return 'resumable'
    this.observer.tell(
      'settlement:indeterminate',
      { ...summary(entry), attempts: [], isRetryRejected: true },
      'warn',
      event => `the retry of an unresolved settlement on ${event.network} was rejected, as onRetry says`,
    )
    return 'duplicate'
  }

  async unresolved(): Promise<UnresolvedSettlement[]> {
    return (await this.settings.ledger.unresolved()).map(summary)
  }

  start(): void {
    this.#isStopped = false
  }

  /** Ends the watch, and says which settlements are left. */
  async stop(): Promise<void> {
    this.#isStopped = true
    clearTimeout(this.#watchTimer)
    this.#watchTimer = undefined
    try {
      for (const left of await this.unresolved())
        this.observer.tell(
          'settlement:indeterminate',
          { ...left, attempts: [], isLeftAtStop: true },
          'error',
          event =>
            `stopped with an unresolved settlement of ${event.amount} on ${event.network} by ${event.payer}`,
        )
    } catch (error) {
      this.#ledgerFailed(error)
    }
  }

  #ledgerFailed(error: unknown): void {
    this.observer.log(
      'error',
      'ledger:error',
      { error: describe(error) },
      fields => `the ledger failed: ${fields.error}`,
    )
  }

  /** Looks at unresolved settlements in the background until the chain has told the fate of each. */
  #watch(): void {
    if (this.#isStopped || this.#watchTimer !== undefined || this.settings.probes.length === 0) return
    this.#watchTimer = setBackgroundTimeout(async () => {
      const isAllTold = await this.#lookAtAll()
      this.#watchTimer = undefined
      if (!isAllTold) this.#watch()
    }, this.settings.watchIntervalMs)
  }

  async #lookAtAll(): Promise<boolean> {
    try {
      const entries = await this.settings.ledger.unresolved()
      const keys = new Set(entries.map(entry => entry.key))
      for (const key of this.#told) if (!keys.has(key)) this.#told.delete(key)
      await Promise.all(entries.filter(entry => !this.#told.has(entry.key)).map(entry => this.#lookAt(entry)))
      return entries.every(entry => this.#told.has(entry.key))
    } catch (error) {
      this.#ledgerFailed(error)
      return false
    }
  }

  async #lookAt(entry: LedgerEntry): Promise<void> {
    const view = this.viewOf(entry.query, entry.since)
    const answer = await view?.ask()
    if (view === undefined || answer === undefined) return void this.#told.add(entry.key)
    if (answer.state === 'paid') return this.#resolve(entry, 'paid', answer.transaction)
    if (answer.state !== 'spent-otherwise' && !view.hasExpired(answer)) return
    const result = answer.state === 'spent-otherwise' ? 'spent-otherwise' : 'expired'
    const claim = crypto.randomUUID()
    const claimed = await this.settings.ledger.claim({
      ...entry,
      claim,
      leaseUntil: Date.now() + leaseMarginMs,
    })
    if (claimed.kind === 'refused') return
    await this.record(entry, claim, { state: 'rejected', reason: result })
    this.#resolve(entry, result)
  }

  #resolve(entry: LedgerEntry, result: 'paid' | 'spent-otherwise' | 'expired', transaction?: string): void {
    this.#told.add(entry.key)
    this.observer.tell(
      'settlement:resolved',
      { ...summary(entry), result, transaction },
      result === 'paid' ? 'warn' : 'info',
      event =>
        event.result === 'paid'
          ? `an unresolved settlement on ${event.network} was paid by ${event.transaction}: deliver or refund`
          : `an unresolved settlement on ${event.network} was never charged (${event.result})`,
    )
  }
}

function summary({ key, query, settlement }: LedgerEntry): UnresolvedSettlement {
  const { network, payer, payTo, asset, amount } = query
  const transaction = settlement.state === 'unresolved' ? settlement.transaction : undefined
  return { key, network, payer, payTo, asset, amount, transaction }
}

function describe(error: unknown): string {
  return redact(error instanceof Error ? error.message : String(error))
}
