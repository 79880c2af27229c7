import { FacilitatorResponseError } from '@x402/core/server'
import { type AttemptReport, describeOutcome, type Operation } from './observe/attempt-report.ts'

/** Stable identifiers of what went wrong, for programs. */
export type AggregatorErrorCode =
  | 'INVALID_OPTIONS'
  | 'INVALID_ENVIRONMENT'
  | 'INVALID_PAYMENT'
  | 'ALL_FACILITATORS_FAILED'
  | 'NO_ELIGIBLE_FACILITATOR'
  | 'NO_HEALTHY_FACILITATOR'
  | 'SETTLEMENT_INDETERMINATE'
  | 'SETTLEMENT_IN_PROGRESS'
  | 'AGGREGATOR_STOPPED'
  | 'LEDGER_FULL'
  | 'LEDGER_FAILED'
  | 'RECONCILIATION_FAILED'

const brand = Symbol.for('x402-facilitator-aggregator.error')

/**
 * Base of every error of this library.
 *
 * `instanceof AggregatorError` also recognises the errors that extend upstream's
 * `FacilitatorResponseError` (a class has one parent only), and those of another copy of this library.
 */
export abstract class AggregatorError extends Error {
  abstract readonly code: AggregatorErrorCode
  /** The attempts made before this error, oldest first. */
  readonly attempts: readonly AttemptReport[] = []
  /** Known to every copy of this library. */
  get [brand](): true {
    return true
  }

  static override [Symbol.hasInstance](value: unknown): boolean {
    return this === AggregatorError ? brand in Object(value) : super[Symbol.hasInstance](value)
  }
}

/** The options given to the aggregator are wrong; lists every problem at once. */
export class InvalidOptionsError extends AggregatorError {
  override readonly name = 'InvalidOptionsError'
  readonly code = 'INVALID_OPTIONS'

  constructor(
    readonly problems: readonly string[],
    what = 'wrong options',
  ) {
    super([`FacilitatorAggregator: ${what}`, ...problems].join('\n  - '))
  }
}

/**
 * A payload or its requirements are not in the protocol's shape, or could be read as two payments. No facilitator was
 * asked.
 *
 * Not a `FacilitatorResponseError`: upstream's middleware answers 402 with this message, as the fault is
 * the buyer's (payload) or the seller's (requirements), not a facilitator's.
 */
export class InvalidPaymentError extends AggregatorError {
  override readonly name = 'InvalidPaymentError'
  readonly code = 'INVALID_PAYMENT'

  constructor(
    /** The wrong field, such as `paymentPayload.payload`. */
    readonly path: string,
    problem: string,
  ) {
    super(`Not an x402 payment: ${path}: ${problem}`)
  }
}

/** Errors that mean "the facilitators could not answer": upstream's middleware answers 502 to each. */
abstract class UnavailableError extends FacilitatorResponseError {
  abstract readonly code: AggregatorErrorCode
  readonly attempts: readonly AttemptReport[]

  get [brand](): true {
    return true
  }

  constructor(message: string, attempts: readonly AttemptReport[]) {
    super([message, ...attempts.map(describeAttempt)].join('\n  '))
    this.attempts = attempts
  }
}

/**
 * No facilitator served the request, and nothing shows that one of them has charged the buyer. The message says "nothing
 * was charged" only where that is proven: no settle request arrived, or the chain has shown the payment unspent afterwards.
 *
 * The message has one line per attempt: facilitator, outcome, reason, milliseconds.
 */
export class AllFacilitatorsFailedError extends UnavailableError {
  override readonly name = 'AllFacilitatorsFailedError'

  constructor(
    message: string,
    attempts: readonly AttemptReport[] = [],
    readonly code:
      | 'ALL_FACILITATORS_FAILED'
      | 'NO_ELIGIBLE_FACILITATOR'
      | 'NO_HEALTHY_FACILITATOR' = 'ALL_FACILITATORS_FAILED',
  ) {
    super(message, attempts)
  }
}

/**
 * A facilitator may have moved the buyer's money, and nobody could say whether it did.
 *
 * The buyer sees a 502 and must not be asked to sign again. Look the payment up on its chain before you
 * deliver or refund.
 */
export class SettlementIndeterminateError extends UnavailableError {
  override readonly name = 'SettlementIndeterminateError'
  readonly code = 'SETTLEMENT_INDETERMINATE'

  constructor(
    attempts: readonly AttemptReport[],
    /** The transaction that a facilitator named, if one did. */
    readonly transaction?: string,
  ) {
    super(
      `settle: the payment may have been charged${transaction === undefined ? '' : ` by transaction ${transaction}`}; ` +
        'do not ask the buyer to sign again, look it up on its chain.',
      attempts,
    )
  }
}

/**
 * Another request settles this payment, here or in a replica, or has just had its success. That is neither invalid nor
 * a duplicate: the buyer sees a 502, and the same payment may be presented again.
 */
export class SettlementInProgressError extends UnavailableError {
  override readonly name = 'SettlementInProgressError'
  readonly code = 'SETTLEMENT_IN_PROGRESS'

  constructor() {
    super('Another request settles this payment, or has just settled it.', [])
  }
}

/** The aggregator was stopped: it takes no new work until `start()`. */
export class AggregatorStoppedError extends UnavailableError {
  override readonly name = 'AggregatorStoppedError'
  readonly code = 'AGGREGATOR_STOPPED'

  constructor(operation: Operation, attempts: readonly AttemptReport[] = []) {
    super(`${operation}: the aggregator has been stopped. Call start() to use it again.`, attempts)
  }
}

/** The ledger could not record the settlement, so nothing was sent to a facilitator: nothing was charged. */
export class LedgerError extends UnavailableError {
  override readonly name: string = 'LedgerError'

  constructor(
    message: string,
    readonly code: 'LEDGER_FULL' | 'LEDGER_FAILED' = 'LEDGER_FAILED',
  ) {
    super(message, [])
  }
}

/** The in-memory ledger is full of settlements that must not be forgotten. */
export class LedgerFullError extends LedgerError {
  override readonly name = 'LedgerFullError'

  constructor(maxEntries: number) {
    super(
      `settle: the ledger is full (${maxEntries} live entries); nothing was charged. Raise maxEntries, or use another.`,
      'LEDGER_FULL',
    )
  }
}

function describeAttempt(attempt: AttemptReport): string {
  return `${attempt.facilitator}: ${describeOutcome(attempt)} (${Math.round(attempt.durationMs)} ms)`
}
