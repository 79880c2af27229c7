import type { DeclineCause } from './outcome.ts'

/** What is known of a request that did not end in a protocol answer with status 2xx. */
export type RequestFailure =
  /** The facilitator did not act, and why is known without a status: nothing could be sent, or a redirect away. */
  | { readonly kind: 'declined'; readonly cause: DeclineCause; readonly isUnsent?: boolean }
  /** Nothing was sent. */
  | { readonly kind: 'unreachable'; readonly isUnconfirmed?: boolean }
  /** The facilitator may have read the request; what it answered, if anything, says nothing. */
  | { readonly kind: 'unknown' }
  /** The answer's status is not 2xx. */
  | {
      readonly kind: 'status'
      readonly status: number
      /** The answer's body, where it is the protocol's. */
      readonly response: unknown
      /** From `Retry-After`, in milliseconds from now. */
      readonly retryAfterMs: number | undefined
    }

/** What is said of an answer in another shape. */
export const notTheProtocols = "an answer that is not the protocol's"

/** What is said of a payload nested some thousand deep, which can be read, but not written. */
export const notWritable = 'a payment that cannot be written as JSON'

/** The facilitator may have read the request. */
export const mayHaveRead: RequestFailure = { kind: 'unknown' }

/** A call of our HTTP client that failed. */
export class FacilitatorRequestError extends Error {
  override readonly name = 'FacilitatorRequestError'

  constructor(
    message: string,
    readonly failure: RequestFailure,
    cause?: unknown,
  ) {
    super(message, { cause })
  }
}
