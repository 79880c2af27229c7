import type { DeclineCause } from './outcome.ts'

/** How far a request had come when it failed. */
export type RequestPhase =
  /** Nothing was sent. */
  | 'before-sending'
  /** The facilitator may have read the request. */
  | 'after-sending'
  /** The answer had begun. */
  | 'body'

export interface RequestErrorDetails {
  readonly phase: RequestPhase
  /** HTTP status of the answer. */
  readonly status?: number
  /** From `Retry-After`, in milliseconds from now. */
  readonly retryAfterMs?: number | undefined
  /** The protocol body of an answer whose status is not 2xx. */
  readonly response?: unknown
  /** Set where the reason is known without a status: credentials that could not be made, a redirect away. */
  readonly declined?: DeclineCause
  readonly cause?: unknown
}

/** A call of our HTTP client that did not end in a protocol answer with status 2xx. */
export class FacilitatorRequestError extends Error {
  override readonly name = 'FacilitatorRequestError'

  constructor(
    message: string,
    readonly details: RequestErrorDetails,
  ) {
    super(message, { cause: details.cause })
  }
}
