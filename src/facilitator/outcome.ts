import type { SettleResponse, SupportedResponse, VerifyResponse } from '@x402/core/types'
import type { Operation } from '../observe/attempt-report.ts'
import type { DiscoveryResponse } from './client.ts'

export interface Responses {
  verify: VerifyResponse
  settle: SettleResponse
  supported: SupportedResponse
  list: DiscoveryResponse
}

/** Why a facilitator would not, or could not, serve a request that it did not act on. */
export type DeclineCause =
  /** It does not support this kind of payment; another one may. */
  | 'ability'
  /** It refused to read the request (413, 415; for a verify 400, 409 and 422 too). */
  | 'request'
  /** Credentials are missing, wrong or could not be made (401, 403). */
  | 'credentials'
  /** Its own quota is used up (402, for a verify). */
  | 'quota'
  /** Wrong URL, no such operation, or a redirect to another origin. */
  | 'address'
  /** Too many requests (429). */
  | 'rate-limit'
  /** Its own fault, by its own word before anything was broadcast. */
  | 'trouble'
  /** The payment would fail on its chain, it says: who is at fault is not known, and a buyer can bring it about. */
  | 'simulation'
  /** It rejected a payment that the chain takes. */
  | 'contradicted'

/**
 * What one attempt taught us. Never an exception that travels.
 *
 * - `answered`: a verdict about the payment, or the data asked for.
 * - `declined`: it did not act; another facilitator may.
 * - `unreachable`: the request did not arrive.
 * - `unknown`: it may have acted.
 * - `pending`: it has broadcast the payment and awaits the chain.
 * - `spent`: it says that the authorization has been used already.
 */
export type Outcome<O extends Operation = Operation> = {
  /**
   * It is only said that the request did not arrive. With `unreachable`: by a client that is not ours, where the
   * connection that failed may be one of its own, to its chain. With any kind: by an earlier attempt of the same `ask`.
   */
  readonly isUnconfirmed?: boolean
  /** It failed for want of descriptors, buffers or time of this process: nothing is known of the facilitator. */
  readonly isOurs?: boolean | undefined
} & (
  | { readonly kind: 'answered'; readonly response: Responses[O]; readonly reason?: string | undefined }
  | {
      readonly kind: 'declined'
      readonly cause: DeclineCause
      readonly reason: string
      /** The facilitator's own words; absent where it refused the request before it processed it, by an HTTP status. */
      readonly response?: Responses[O] | undefined
      /** Nothing was sent: no credentials or no request could be made. Any other decline is the facilitator's word. */
      readonly isUnsent?: boolean | undefined
      readonly retryAfterMs?: number | undefined
      /** Worth a second try at the same facilitator (408, 425). */
      readonly transient?: boolean
    }
  | { readonly kind: 'unreachable'; readonly reason: string }
  | {
      readonly kind: 'unknown'
      readonly reason: string
      readonly timedOut?: boolean
      readonly transaction?: string | undefined
      /** It says that its transaction was reverted. */
      readonly isReverted?: boolean
      readonly retryAfterMs?: number | undefined
    }
  | {
      readonly kind: 'pending'
      readonly reason: string
      readonly response: Responses[O]
      readonly transaction: string
    }
  | { readonly kind: 'spent'; readonly reason: string; readonly response: Responses[O] }
)
