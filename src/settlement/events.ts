/** What is emitted about settlements. */
import type { AttemptReport, Operation } from '../observe/attempt-report.ts'
import type { ObserverEvents } from '../observe/events.ts'

/** A payment, without anything secret. */
export interface SettlementSummary {
  /** Identifies the payment, for `closeSettlement`; absent where nothing that can be spent only once is known of it. */
  readonly key?: string | undefined
  readonly network: string
  readonly payer?: string | undefined
  readonly payTo: string
  readonly asset: string
  /** In atomic units. */
  readonly amount: string
  /** The transaction that a facilitator or the chain has named, if one has. */
  readonly transaction?: string | undefined
}

/** A settlement that may have been charged and was not delivered. */
export interface UnresolvedSettlement extends SettlementSummary {
  /** Identifies the payment. */
  readonly key: string
  /** What the chain has shown this process: as the event `settlement:resolved` says it. */
  readonly result?: 'paid' | 'undatable' | 'unattributed' | undefined
}

export interface SettlementEvents extends ObserverEvents {
  /** A settlement succeeded although the facilitator's answer did not say so: the chain did. */
  'settlement:recovered': SettlementSummary & { readonly attempts: readonly AttemptReport[] }
  /** A payment may have been charged, and nobody could say whether it was. */
  'settlement:indeterminate': SettlementSummary & {
    readonly attempts: readonly AttemptReport[]
    /** The aggregator is stopping, and this settlement is still unresolved. */
    readonly isLeftAtStop?: boolean
    /** The buyer sent the payment again, and `onRetry: 'reject'` turned it away. */
    readonly isRetryRejected?: boolean
  }
  /**
   * An earlier charge that was not delivered, of the payment with `chargedKey`, was delivered for a new payment of the same
   * payer, which was not sent.
   */
  'settlement:credited': SettlementSummary & { readonly key: string; readonly chargedKey: string }
  /**
   * The chain has shown what became of an indeterminate settlement. After `paid`: deliver, or refund. After `undatable`:
   * by the clocks it was paid before its settlement began: they differ, or it is a replay of one that was delivered. After
   * `unattributed`: it was paid by a transaction that no attempt of this settlement made; another process may have
   * delivered it.
   */
  'settlement:resolved': SettlementSummary & {
    readonly key: string
    readonly result: 'paid' | 'undatable' | 'unattributed' | 'spent-otherwise' | 'expired'
  }
  /** A facilitator claimed a success that the chain does not know: it is asked no more until enabled again. */
  'facilitator:quarantined': {
    readonly facilitator: string
    readonly network: string
    readonly transaction: string
  }
  /** A facilitator rejected a payment that its chain takes: the next one is asked, and its lane takes a failure. */
  'facilitator:contradicted': {
    readonly facilitator: string
    readonly operation: Operation
    /** As the requirements name it. */
    readonly network: string
    /** Why it rejected the payment. */
    readonly reason: string
  }
}
