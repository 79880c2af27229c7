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
