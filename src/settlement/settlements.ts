/** The settlements of this seller: claimed, recorded, and handed to the watch while they are unresolved. */
import { LedgerError } from '../errors.ts'
import type { SettlementSummary } from '../observe/events.ts'
import type { Observer } from '../observe/observer.ts'
import { redact, safeMessageOf } from '../redact.ts'
import { ChainView } from './chain-view.ts'
import {
  type Claim,
  effectiveState,
  isOpen,
  isUnresolved,
  type LedgerEntry,
  type SettlementLedger,
  type SettlementState,
} from './ledger.ts'
import { MemoryLedger } from './memory-ledger.ts'
import { type KeyedPayment, summaryOf } from './payment-key.ts'
import type { SettlementProbe } from './probe.ts'
import { Watch } from './watch.ts'

export interface SettlementSettings {
  readonly ledger: SettlementLedger
  readonly probes: readonly SettlementProbe[]
  readonly audit: 'off' | 'sample' | 'always'
  readonly onRetry: 'deliver' | 'reject'
  readonly probeAfterMs: number
  readonly failoverAfterMs: number
  readonly watchIntervalMs: number
  /** Where no timers run between requests, what they would do is done beside requests. */
  readonly isLazy: boolean
}

/** A claim outlives its operation's deadline by this long (ms), and lapses then. */
const leaseMarginMs = 30_000

/** How many kinds of silence are told of. */
const maxSilences = 100

/** How many final states are kept that a failing ledger did not store. */
const maxUnstored = 10_000

/** A settlement that may have been charged and was not delivered. */
export interface UnresolvedSettlement extends SettlementSummary {
  /** Identifies the payment. */
  readonly key: string
}

export class Settlements {
  readonly #watch: Watch
  /** What was said of chains that cannot tell. */
  readonly #silences = new Set<string>()
  /** Final states that the ledger failed to store: a success must not be reported again for want of a record. */
  readonly #unstored = new Map<string, { entry: LedgerEntry; claim: string }>()

  constructor(
    readonly settings: SettlementSettings,
    private readonly observer: Observer,
  ) {
    this.#watch = new Watch({
      intervalMs: settings.watchIntervalMs,
      isLazy: settings.isLazy,
      // A ledger of one's own may hold what another process left behind.
      isShared: settings.probes.length > 0 && !(settings.ledger instanceof MemoryLedger),
      look: entry => this.#lookAt(entry),
      entries: () => this.#entriesToWatch(),
      onFault: error => this.#ledgerFailed(error),
    })
  }

  /** The chain's view of a payment whose settlement began at `since`, where a probe can look at it. */
  viewOf({ query, since }: Pick<LedgerEntry, 'query' | 'since'>): ChainView | undefined {
    const probe = this.settings.probes.find(one => one.supports(query.network, query.method))
    return probe && new ChainView(probe, query, since, reason => this.#noteSilence(query.network, reason))
  }

  /** A node that does not answer is a fault of the configuration, or a long one: said once, not per question. */
  #noteSilence(network: string, reason: string): void {
    const key = `${network} ${reason}`
    if (this.#silences.has(key) || this.#silences.size >= maxSilences) return
    this.#silences.add(key)
    this.observer.log(
      'warn',
      'probe',
      { network, reason: redact(reason.replace(/(https?:\/\/[^\s/]+)\/\S*/g, '$1')) },
      fields => `the chain ${fields.network} cannot tell what became of a payment: ${fields.reason}`,
    )
  }

  /**
   * @param claim names this attempt to settle
   * @throws {LedgerError} when it could not be recorded
   */
  async claim({ key, fingerprint, query }: KeyedPayment, claim: string, deadlineMs: number): Promise<Claim> {
    const unstored = this.#unstored.get(key)
    if (unstored !== undefined) return { kind: 'refused', entry: unstored.entry }
    const since = Date.now()
    const leaseUntil = since + deadlineMs + leaseMarginMs
    try {
      return await this.settings.ledger.claim({ key, fingerprint, query, claim, since, leaseUntil })
    } catch (error) {
      if (error instanceof LedgerError) throw error
      throw new LedgerError(
        `settle: the ledger failed (${safeMessageOf(error)}); nothing was sent to a facilitator, nothing was charged.`,
      )
    }
  }

  /**
   * Records how a settlement went. A ledger that fails now is reported; the settlement goes on.
   *
   * @returns false when the claim had lapsed and another one holds the entry: its holder may deliver, so this one must
   * not
   */
  async record(payment: KeyedPayment, claim: string, settlement: SettlementState): Promise<boolean> {
    const { key } = payment
    const { state } = settlement
    const reportFault = (why: unknown) => {
      const what = `the ledger did not record that a settlement is ${state}`
      this.observer.fault('ledger:error', what, why, { key, state })
    }
    let isHeld = true
    try {
      const update = () => this.settings.ledger.update(key, claim, settlement)
      // Once more at once: a success that is not stored when its claim lapses may be delivered again by a replica.
      isHeld = await update().catch(update)
      if (!isHeld) reportFault('another claim holds the entry')
    } catch (error) {
      reportFault(error)
      if (state === 'settled') this.#keepUnstored({ ...payment, since: Date.now(), settlement }, claim)
    }
    if (state === 'unresolved') this.#watch.add(key)
    return isHeld
  }

  #keepUnstored(entry: LedgerEntry, claim: string): void {
    if (this.#unstored.size >= maxUnstored) this.#unstored.delete(this.#unstored.keys().next().value ?? '')
    this.#unstored.set(entry.key, { entry, claim })
    this.#watch.add(entry.key)
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
    const settlement = effectiveState(entry.settlement)
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

  /**
   * Closes an unresolved settlement by hand, after it was delivered or refunded: from now on the payment is a duplicate.
   *
   * @returns false when there is none, or it is being settled
   */
  async close(key: string): Promise<boolean> {
    const entry = await this.settings.ledger.get(key)
    return isUnresolved(entry) && this.#finish(entry, 'closed by the seller')
  }

  start(): void {
    this.#watch.start()
  }

  /** Called beside a request in lazy mode: looks at what is unresolved when it is time. */
  touch(): Promise<void> | undefined {
    return this.#watch.touch()
  }

  /** Ends the watch, and says which settlements are left. */
  async stop(): Promise<void> {
    this.#watch.stop()
    try {
      for (const left of (await this.#entriesToWatch()).map(summary))
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

  /** The unresolved settlements, after another try to store what the ledger did not. */
  async #entriesToWatch(): Promise<LedgerEntry[]> {
    const { ledger } = this.settings
    for (const [key, { entry, claim }] of this.#unstored) {
      const isStored =
        (await ledger.update(key, claim, entry.settlement)) ||
        // What took long may have been stored after all.
        (await ledger.get(key))?.settlement.state === 'settled'
      if (isStored) this.#unstored.delete(key)
    }
    return ledger.unresolved()
  }

  /** @returns whether its fate is known, and told */
  async #lookAt(entry: LedgerEntry): Promise<boolean> {
    const view = this.viewOf(entry)
    if (view === undefined) return true
    const answer = await view.ask()
    switch (answer.state) {
      case 'paid':
        // The buyer's retry may have delivered it meanwhile.
        if (isUnresolved(await this.settings.ledger.get(entry.key)))
          this.#tellResolved(entry, 'paid', answer.transaction)
        return true
      case 'spent-otherwise':
        return this.#reject(entry, 'spent-otherwise')
      case 'unspent':
        return view.hasExpired(answer) && this.#reject(entry, 'expired')
      case 'cannot-tell':
        return answer.isUndatable === true && isLongOver(entry)
    }
  }

  async #reject(entry: LedgerEntry, result: 'spent-otherwise' | 'expired'): Promise<boolean> {
    const isFinished = await this.#finish(entry, result)
    if (isFinished) this.#tellResolved(entry, result)
    return isFinished
  }

  async #finish(entry: LedgerEntry, reason: string): Promise<boolean> {
    const claim = crypto.randomUUID()
    const leaseUntil = Date.now() + leaseMarginMs
    const claimed = await this.settings.ledger.claim({ ...entry, claim, leaseUntil })
    return (
      claimed.kind === 'claimed' &&
      this.settings.ledger.update(entry.key, claim, { state: 'rejected', reason })
    )
  }

  #tellResolved(
    entry: LedgerEntry,
    result: 'paid' | 'spent-otherwise' | 'expired',
    transaction?: string,
  ): void {
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

  #ledgerFailed(error: unknown): void {
    this.observer.fault('ledger:error', 'the ledger failed', error)
  }
}

/** Nothing will change any more: it stays among the unresolved, and is not asked about again. */
function isLongOver({ query: { validBefore = 0 } }: LedgerEntry): boolean {
  return Date.now() / 1000 > validBefore + 3_600
}

function summary({ key, query, settlement }: LedgerEntry): UnresolvedSettlement {
  const transaction = settlement.state === 'unresolved' ? settlement.transaction : undefined
  return { key, ...summaryOf(query), transaction }
}
