/** Asks the chain what became of a payment, or would become of it. */
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import type { Outcome } from '../facilitator/outcome.ts'
import type { Operation } from '../observe/attempt-report.ts'
import type { Observer } from '../observe/observer.ts'
import type { Payment } from '../payment/payment.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import type { Alarms } from '../runtime/clock.ts'
import type { Books } from './books.ts'
import type { SettlementEvents, UnresolvedSettlement } from './events.ts'
import type { LedgerEntry } from './ledger.ts'
import type { ChainEvent, ChainReading } from './machine.ts'
import type { ProbeAnswer } from './probe-answer.ts'

/** A payment with what is signed of it. */
export interface SignedPayment {
  readonly query: SettlementQuery
  /** Of version 1 too, as the buyer sent it. */
  readonly payload: PaymentPayload
  readonly requirements: PaymentRequirements
}

/** What the chain would do with a payment if somebody sent it now. */
export type DryRun =
  /** It takes it, and has taken it for longer than a node may lag: a facilitator that rejects it is wrong. */
  | 'accepts'
  /** It takes it as of its newest block: a facilitator whose node is at another height may be right to reject it. */
  | 'accepts-now'
  | 'refuses'
  /** The node does not answer or lags, or the payment is of a kind of which a call that fails proves nothing. */
  | 'cannot-tell'

/** Reads chains; `settlementProbe` of `x402-facilitator-aggregator/probe` makes a probe of one. */
export interface ChainReader {
  /** Whether it can look at payments on this network (CAIP-2), made this way. */
  supports(network: string, method: SettlementQuery['method']): boolean
  /**
   * Never throws: what cannot be known is `cannot-tell`.
   *
   * @param options.since Unix time in seconds: a payment made before it is not this one. The caller has allowed for
   * clocks that differ; absent where nobody knows.
   */
  ask(
    query: SettlementQuery,
    options: { readonly signal: AbortSignal; readonly since?: number | undefined },
  ): Promise<ProbeAnswer>
  /**
   * Tries the payment without sending it. Optional: without it, facilitators that reject a payment are believed.
   *
   * Never throws: what cannot be known is `cannot-tell`.
   */
  wouldAccept?(payment: SignedPayment, options: { readonly signal: AbortSignal }): Promise<DryRun>
}

/**
 * What `settlement.probes` takes: a reader of chains, and the code that acts on what it reads, which comes with the probe
 * so that an aggregator without one does not carry it.
 */
export interface SettlementProbe extends ChainReader {
  /**
   * Called once by each aggregator, of its first probe only.
   *
   * @param readers all probes of the aggregator, in order: of those that support a payment, the first is asked
   * @internal
   */
  connect(readers: readonly ChainReader[], host: ProbeHost): Chains
}

/** The chains that an aggregator's probes can read. */
export interface Chains {
  /**
   * The chain's view of a payment, where a probe can look at it.
   *
   * @param isOurClock the clock of this process has dated the entry
   */
  viewOf(entry: Pick<LedgerEntry, 'query' | 'since'>, isOurClock: boolean): ChainView | undefined
  /**
   * Asks the chain whether a facilitator that rejects a payment is right. Never throws.
   *
   * @returns the decline that the rejection is where the chain takes the payment; nothing where the rejection stands
   */
  crossExamine<O extends Operation>(
    rejection: Rejection<O>,
    examined: Examined<O>,
  ): Promise<Extract<Outcome<O>, { kind: 'declined' }> | undefined>
  readonly reading: ChainReading
  /** Whether the chain has to confirm the next settlement's claims of success. */
  isAudited(): boolean
  /** A facilitator claimed a success that the chain does not know: it is asked no more. */
  accuse(member: Accused, network: string, transaction: string): void
  readonly watcher: Watcher
}

/** An answer after which nobody else is asked. */
export type Rejection<O extends Operation> = Extract<Outcome<O>, { kind: 'answered' | 'spent' }>

/** A payment that a facilitator has rejected. */
export interface Examined<O extends Operation> {
  readonly facilitator: string
  readonly operation: O
  readonly payment: Payment & SignedPayment
  /** Milliseconds that the question may take. */
  readonly timeoutMs: number
}

/** A facilitator of the pool that the probe works for. */
export interface Accused {
  readonly id: string
  quarantine(): void
}

/** What the chain says of one payment. */
export interface ChainView {
  /**
   * One question, and its answer as an event of the settlement. A payment that was made before its settlement began is a replay of another one: spent otherwise.
   *
   * @param timeoutMs milliseconds that it may take, where they are fewer than a question may take anyway
   */
  ask(timeoutMs?: number): Promise<ChainEvent>
  /** Unix seconds from which an unused authorization counts as run out: then it can never be charged. */
  readonly expiresAt: number
}

/** What is added to an unresolved settlement when the chain has shown something of it. */
export type Finding = Pick<UnresolvedSettlement, 'result' | 'transaction'>

/** Looks at unresolved settlements in the background. */
export interface Watcher {
  /** By key. */
  readonly findings: ReadonlyMap<string, Finding>
  start(): void
  stop(): void
  /** Looks at another settlement from now on, or at one anew. */
  watch(key: string): void
  /** There is something to look at again, though a look in between may have seen nothing. */
  resume(): void
  /** Looks, if it is time: called beside requests where no timer may run. */
  runIfDue(): Promise<void> | undefined
}

/**
 * The aggregator that a probe works for. By what it can do, not by its classes: the probe may come from the other module
 * format.
 */
export interface ProbeHost {
  readonly books: Pick<Books, 'isShared' | 'unresolved' | 'findUnresolved' | 'close' | 'failed'>
  readonly pool: { quarantine(member: Accused): void }
  readonly observer: Pick<Observer<SettlementEvents>, 'emit'>
  readonly alarms: Pick<Alarms, 'setTimeout' | 'clearTimeout'>
  readonly settlement: {
    readonly audit: 'off' | 'sample' | 'always'
    readonly crossExamine: boolean
    /** Milliseconds between looks. */
    readonly watchIntervalMs: number
    /** No timers: `runIfDue` is called beside requests instead. */
    readonly isLazy: boolean
  }
  readonly noteSilence: NoteSilence
}

/**
 * Notes that a chain gave no answer.
 *
 * @param reason short; by default that no probe covers the payment
 */
export type NoteSilence = (query: SettlementQuery, reason?: string) => void
