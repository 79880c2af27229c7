/** Asks the chain what became of a payment, or would become of it. */
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import type { SettlementQuery } from '../payment/payment-key.ts'

/** What the chain says of a payment. */
export type ProbeAnswer =
  /**
   * The authorization has not been used, as of a block with this timestamp (Unix s); `Infinity` when it never can be
   * any more.
   */
  | { readonly state: 'unspent'; readonly asOf: number }
  /** It was used to pay the required payee at least the required amount. */
  | {
      readonly state: 'paid'
      readonly transaction: string
      readonly payer?: string | undefined
      /** Timestamp of its block (Unix s): a payment made before its settlement began is a replay. */
      readonly minedAt: number
      /** Timestamp of the newest block (Unix s): by the chain's own clock, so old is the payment. */
      readonly asOf: number
    }
  /** It was used otherwise: cancelled, or for another payee or a smaller amount. */
  | { readonly state: 'spent-otherwise'; readonly transaction?: string | undefined }
  /** Nobody knows: the chain's node does not answer, lags or limits, or the confirmations are still missing. */
  | {
      readonly state: 'cannot-tell'
      readonly reason: string
      /** It has paid, but confirmations are missing. */
      readonly isMined?: boolean
      /** It has paid by this transaction, at a time that may be before or after its settlement began. */
      readonly undatable?: string
    }

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

export interface SettlementProbe {
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
