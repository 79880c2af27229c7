/** The settlements of this seller: claimed, recorded, and handed to the watch while they are unresolved. */
import { LedgerError } from '../errors.ts'
import type { AggregatorEvents, SettlementSummary } from '../observe/events.ts'
import type { Observer } from '../observe/observer.ts'
import { redact, safeMessageOf } from '../redact.ts'
import { ChainView } from './chain-view.ts'
import { mayHaveMade } from './evidence.ts'
import {
  type Claim,
  closedBySeller,
  effectiveState,
  isOpen,
  isUnresolved,
  type LedgerEntry,
  type SettlementLedger,
  type SettlementState,
} from './ledger.ts'
import { MemoryLedger } from './memory-ledger.ts'
import { OwnRecords } from './own-records.ts'
import { type KeyedPayment, summaryOf, withLesserAmount } from './payment-key.ts'
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

type PaidResult = Extract<
  AggregatorEvents['settlement:resolved']['result'],
  'paid' | 'undatable' | 'unattributed'
>

/** A settlement that may have been charged and was not delivered. */
export interface UnresolvedSettlement extends SettlementSummary {
  /** Identifies the payment. */
  readonly key: string
  /** What the chain has told this process: as the event `settlement:resolved` says it. */
  readonly result?: PaidResult | undefined
}

/** What is added to an unresolved settlement when the chain has told of it. */
type Fate = Pick<UnresolvedSettlement, 'result' | 'transaction'>

/** Of what the chain will tell nothing, or has told that it is unresolved no more. */
const nothingMore: Fate = {}

export class Settlements {
  readonly #watch: Watch<Fate>
  /** What was said of chains that cannot tell. */
  readonly #silences = new Set<string>()
  readonly #own = new OwnRecords()
  /** The ledger may be shared, and may forget. */
  readonly #isForeign: boolean

  constructor(
    readonly settings: SettlementSettings,
    private readonly observer: Observer,
  ) {
    this.#isForeign = !(settings.ledger instanceof MemoryLedger)
    this.#watch = new Watch({
      intervalMs: settings.watchIntervalMs,
      isLazy: settings.isLazy,
      // It may hold what another process left behind.
      isShared: settings.probes.length > 0 && this.#isForeign,
      look: entry => this.#lookAt(entry),
      entries: () => this.#entriesToWatch(),
      onFault: error => this.#ledgerFailed(error),
    })
  }

  /**
   * The chain's view of a payment, where a probe can look at it.
   *
   * @param isOurs this process has made the entry just now
   */
  viewOf({ query, since }: Pick<LedgerEntry, 'query' | 'since'>, isOurs = false): ChainView | undefined {
    const { network, method } = query
    const probe =
      method === 'payload' ? undefined : this.settings.probes.find(one => one.supports(network, method))
    if (probe !== undefined) {
      const isOurClock = isOurs || !this.#isForeign
      return new ChainView(probe, query, { at: since, isOurClock }, reason =>
        this.#noteSilence(network, reason),
      )
    }
    if (this.settings.audit !== 'off')
      this.#noteSilence(network, `no probe covers ${method}: it is not audited`)
    return undefined
  }

  /** A node that does not answer is a fault of the configuration, or a long one: said once, not per question. */
  #noteSilence(network: string, reason: string): void {
    const key = `${network} ${reason}`
    if (this.#silences.has(key) || this.#silences.size >= maxSilences) return
    this.#silences.add(key)
    this.observer.log(
      'warn',
      'probe',
      { network, reason: redact(reason.replace(/(\w+:\/\/[^\s/]+)\/\S*/g, '$1')) },
      fields => `the chain ${fields.network} cannot tell what became of a payment: ${fields.reason}`,
    )
  }

  /**
   * @param claim names this attempt to settle
   * @throws {LedgerError} when it could not be recorded
   */
  async claim(payment: KeyedPayment, claim: string, deadlineMs: number): Promise<Claim> {
    const { key, fingerprint, query } = payment
    const own = this.#own.get(key)
    if (own !== undefined && !isResumedBy(own, fingerprint)) return { kind: 'refused', entry: own }
    const since = Date.now()
    const leaseUntil = since + deadlineMs + leaseMarginMs
    let claimed: Claim
    try {
      claimed = await this.settings.ledger.claim({ key, fingerprint, query, claim, since, leaseUntil })
      if (claimed?.kind !== 'claimed' && claimed?.kind !== 'refused')
        throw new TypeError("claim() answered neither { kind: 'claimed' } nor { kind: 'refused' }")
    } catch (error) {
      this.#ledgerFailed(error)
      throw ledgerError(error, '; nothing was sent to a facilitator, nothing was charged')
    }
    if (claimed.kind === 'refused') return claimed
    // What the ledger has lost.
    if (claimed.before === undefined && own !== undefined)
      claimed = {
        ...claimed,
        before: own.settlement,
        since: own.since,
        query: withLesserAmount(own.query, query),
      }
    if (!this.#rejectsRetry(claimed.before)) return claimed
    const entry = { ...payment, query: claimed.query, since: claimed.since, settlement: claimed.before }
    await this.#giveBack(entry, claim)
    return { kind: 'refused', entry }
  }

  /** With `onRetry: 'reject'` what was left unresolved is the seller's to deliver or to refund, and nobody else's. */
  #rejectsRetry(before: SettlementState | undefined): before is SettlementState {
    return this.settings.onRetry === 'reject' && before?.state === 'unresolved'
  }

  async #giveBack(entry: LedgerEntry, claim: string): Promise<void> {
    await this.settings.ledger
      .update(entry.key, claim, entry.settlement)
      .catch(error => this.#ledgerFailed(error))
    this.#watch.goOn()
    this.#tellRetryRejected(entry)
  }

  /**
   * Records how a settlement went. A ledger that fails now is reported; the settlement goes on.
   *
   * @returns false when the claim had lapsed and another one holds the entry: its holder may deliver, so this one must
   * not
   */
  async record(entry: LedgerEntry, claim: string): Promise<boolean> {
    const { key, settlement } = entry
    const { state } = settlement
    const reportFault = (why: unknown) => {
      const what = `the ledger did not record that a settlement is ${state}`
      this.observer.fault('ledger:error', what, why, { key, state })
    }
    let isHeld = true
    let mayBeForgotten = state === 'unresolved' && this.#isForeign
    try {
      isHeld = await this.#store(entry, claim)
      if (!isHeld) reportFault('another claim holds the entry')
    } catch (error) {
      reportFault(error)
      // A success must not be reported again for want of a record.
      mayBeForgotten ||= state === 'settled'
    }
    if (mayBeForgotten) this.#own.keep(entry, claim)
    else this.#own.forget(key)
    if (mayBeForgotten || state === 'unresolved') this.#watch.add(key)
    return isHeld
  }

  async #store(entry: LedgerEntry, claim: string): Promise<boolean> {
    const { ledger } = this.settings
    const { key, settlement } = entry
    if (await ledger.update(key, claim, settlement)) return true
    if ((await ledger.get(key)) !== undefined) return false
    // The ledger has lost the entry, so that nobody else holds it.
    const claimed = await ledger.claim({ ...entry, claim, leaseUntil: Date.now() + leaseMarginMs })
    return claimed.kind === 'claimed' && ledger.update(key, claim, settlement)
  }

  /**
   * What the ledger says of a payment that is about to be verified: `new` (ask the facilitators), `suspect` (ask them,
   * but if they say that it was used, that may be our own doing), `resumable` (a settlement of this very purchase that
   * was not delivered; its settle will resume it), or `duplicate`.
   */
  async standing({ key, fingerprint }: KeyedPayment): Promise<'new' | 'suspect' | 'resumable' | 'duplicate'> {
    const own = this.#own.get(key)
    if (own?.settlement.state === 'settled') return 'duplicate'
    let entry: LedgerEntry | undefined
    try {
      entry = await this.settings.ledger.get(key)
    } catch (error) {
      // The facilitators know a used authorization too, and settle will not go on without its ledger.
      this.#ledgerFailed(error)
    }
    entry ??= own
    if (entry === undefined) return 'new'
    const settlement = effectiveState(entry.settlement)
    if (entry.fingerprint !== fingerprint || !isOpen(settlement)) return 'duplicate'
    if (settlement.state === 'failed') return settlement.wasSent ? 'suspect' : 'new'
    if (!this.#rejectsRetry(settlement)) return 'resumable'
    this.#tellRetryRejected(entry)
    return 'duplicate'
  }

  #tellRetryRejected(entry: LedgerEntry): void {
    this.observer.tell(
      'settlement:indeterminate',
      { ...summary(entry), attempts: [], isRetryRejected: true },
      'warn',
      event => `the retry of an unresolved settlement on ${event.network} was rejected, as onRetry says`,
    )
  }

  /** @throws {LedgerError} when the ledger does not answer */
  async unresolved(): Promise<UnresolvedSettlement[]> {
    try {
      const entries = await this.#unresolvedEntries()
      return entries.map(entry => ({ ...summary(entry), ...this.#watch.told(entry.key) }))
    } catch (error) {
      throw ledgerError(error)
    }
  }

  /** With those that the ledger has lost, and without those that were delivered, which it could not be told. */
  async #unresolvedEntries(): Promise<LedgerEntry[]> {
    const { ledger } = this.settings
    const entries = await ledger.unresolved()
    const isListed = new Set(entries.map(({ key }) => key))
    for (const { entry } of this.#own.all()) {
      const { key, settlement } = entry
      if (settlement.state !== 'unresolved' || isListed.has(key)) continue
      if ((await ledger.get(key)) === undefined) entries.push(entry)
      else this.#own.forget(key)
    }
    return entries.filter(({ key }) => this.#own.get(key)?.settlement.state !== 'settled')
  }

  /**
   * Closes an unresolved settlement by hand, after it was delivered or refunded: from now on the payment is a duplicate.
   *
   * @returns false when there is none, or it is being settled
   * @throws {LedgerError} when the ledger does not answer
   */
  async close(key: string): Promise<boolean> {
    try {
      const entry = await this.settings.ledger.get(key)
      return isUnresolved(entry) && (await this.#finish(entry, closedBySeller))
    } catch (error) {
      throw ledgerError(error)
    }
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
          event => `stopped with an unresolved settlement: ${event.key}`,
        )
    } catch (error) {
      this.#ledgerFailed(error)
    }
  }

  /** The unresolved settlements, after another try to store what the ledger did not. */
  async #entriesToWatch(): Promise<LedgerEntry[]> {
    const { ledger } = this.settings
    for (const { entry, claim } of this.#own.all()) {
      if (entry.settlement.state !== 'settled') continue
      try {
        const isStored =
          (await this.#store(entry, claim)) ||
          // What took long may have been stored after all.
          (await ledger.get(entry.key))?.settlement.state === 'settled'
        if (isStored) this.#own.forget(entry.key)
      } catch (error) {
        this.#ledgerFailed(error)
      }
    }
    return this.#unresolvedEntries()
  }

  async #lookAt(entry: LedgerEntry): Promise<Fate | undefined> {
    const view = this.viewOf(entry)
    if (view === undefined) return nothingMore
    const answer = await view.ask()
    switch (answer.state) {
      case 'paid': {
        const before = effectiveState(entry.settlement)
        const isOurs = mayHaveMade({ before, attempts: [], wasRefused: false }, answer.transaction)
        return this.#tellPaid(entry, isOurs ? 'paid' : 'unattributed', answer.transaction)
      }
      case 'cannot-tell':
        return answer.undatable === undefined
          ? undefined
          : this.#tellPaid(entry, 'undatable', answer.undatable)
      case 'spent-otherwise':
        return this.#tellUncharged(entry, 'spent-otherwise')
      case 'unspent':
        return answer.asOf >= view.expiresAt ? this.#tellUncharged(entry, 'expired') : undefined
    }
  }

  async #tellPaid(entry: LedgerEntry, result: PaidResult, transaction: string): Promise<Fate> {
    // The buyer's retry may have delivered it meanwhile.
    if (isUnresolved(await this.settings.ledger.get(entry.key)))
      this.#tellResolved(entry, result, transaction)
    return { result, transaction }
  }

  async #tellUncharged(entry: LedgerEntry, result: 'spent-otherwise' | 'expired'): Promise<Fate | undefined> {
    if (!(await this.#finish(entry, result))) return undefined
    this.#tellResolved(entry, result)
    return nothingMore
  }

  async #finish(entry: LedgerEntry, reason: string): Promise<boolean> {
    const claim = crypto.randomUUID()
    const leaseUntil = Date.now() + leaseMarginMs
    const { ledger } = this.settings
    const claimed = await ledger.claim({ ...entry, claim, leaseUntil })
    if (claimed.kind !== 'claimed') return false
    // A retry at a lesser amount may have been charged since the chain was asked about this one.
    const isSame = claimed.query.amount === entry.query.amount
    const before = claimed.before ?? entry.settlement
    const isStored = await ledger.update(entry.key, claim, isSame ? { state: 'rejected', reason } : before)
    return isSame && isStored
  }

  #tellResolved(
    entry: LedgerEntry,
    result: AggregatorEvents['settlement:resolved']['result'],
    transaction?: string,
  ): void {
    this.observer.tell(
      'settlement:resolved',
      { ...summary(entry), result, transaction },
      transaction === undefined ? 'info' : 'warn',
      event => `an unresolved settlement on ${event.network} ${fate(event)}`,
    )
  }

  #ledgerFailed(error: unknown): void {
    this.observer.fault('ledger:error', 'the ledger failed', error)
  }
}

function ledgerError(error: unknown, consequence = ''): LedgerError {
  if (error instanceof LedgerError) return error
  return new LedgerError(`the ledger failed (${safeMessageOf(error)})${consequence}.`)
}

function fate({ result, transaction }: AggregatorEvents['settlement:resolved']): string {
  if (result === 'paid') return `was paid by ${transaction}: deliver or refund`
  return result === 'undatable' || result === 'unattributed'
    ? `or an earlier one of the same payment was paid by ${transaction}: look whether that was delivered`
    : `was never charged (${result})`
}

function isResumedBy({ fingerprint, settlement }: LedgerEntry, other: string): boolean {
  return fingerprint === other && isOpen(settlement)
}

function summary(entry: LedgerEntry): UnresolvedSettlement {
  const { settlement } = entry
  const transaction = settlement.state === 'unresolved' ? settlement.transaction : undefined
  return { ...summaryOf(entry), transaction }
}
