/** What a reconciliation reports. It is plain JSON, so that it can be stored and resumed. */
import type { LedgerEntry, SettlementState } from '../settlement/ledger.ts'

/** Money that has arrived at the payee: one event of the token. */
export interface Transfer {
  readonly transaction: string
  readonly block: number
  /** Of the event in its block. */
  readonly logIndex: number
  /** In lower case. */
  readonly payer: string
  /** In atomic units of the token. */
  readonly amount: string
}

/** A payment as the ledger has it. */
export interface RecordedPayment {
  readonly key: string
  readonly state: SettlementState['state']
  readonly payer?: string | undefined
  /** In atomic units of the token. */
  readonly amount: string
  /** Unix ms of the first claim. */
  readonly since: number
  /** What the ledger names. */
  readonly transaction?: string | undefined
  /** What was bought. */
  readonly resource?: string | undefined
}

/** A discrepancy between the ledger and the chain; `reason` is a sentence about it. */
export type Finding =
  /** The buyer was charged, and the ledger knows of no delivery. Deliver or refund. */
  | {
      readonly kind: 'paid-not-delivered'
      readonly transfer: Transfer
      readonly payment: RecordedPayment
      readonly reason: string
    }
  /** Success was reported to the seller, and the chain shows no payment, or less than the price (`transfer`). */
  | {
      readonly kind: 'delivered-not-paid'
      readonly transfer?: Transfer | undefined
      readonly payment: RecordedPayment
      readonly reason: string
    }
  /** The buyer was charged for a payment that was rejected. */
  | {
      readonly kind: 'charged-but-rejected'
      readonly transfer: Transfer
      readonly payment: RecordedPayment
      readonly reason: string
    }
  /** Money arrived that no payment of the ledger explains. */
  | { readonly kind: 'unknown-income'; readonly transfer: Transfer; readonly reason: string }

export type FindingKind = Finding['kind']

/** What nobody could see: what is hidden in it is not among the findings. */
export type Unseen =
  /** The nodes have no events of these blocks, the last one included. */
  | {
      readonly kind: 'blocks'
      readonly fromBlock: number
      readonly toBlock: number
      readonly reason: string
    }
  /** The ledger may have forgotten payments. */
  | { readonly kind: 'ledger'; readonly reason: string }
  /** Money arrived, and nobody can tell by which authorization, or its payment is being settled. */
  | { readonly kind: 'transfer'; readonly transfer: Transfer; readonly reason: string }
  /** Nobody can tell whether this was paid. */
  | { readonly kind: 'payment'; readonly payment: RecordedPayment; readonly reason: string }

/** A payment that was delivered for an earlier charge of its payer, which had not been delivered. */
export interface CreditUse {
  readonly transaction: string
  readonly key: string
  /** Whether it kept the delivery, and has not passed it on to another payment. */
  readonly isLast: boolean
}

/** The ledger held against a range of blocks, as far as it has come. */
export interface Reconciliation {
  readonly network: string
  /** In lower case. */
  readonly asset: string
  /** In lower case. */
  readonly payTo: string
  readonly fromBlock: number
  /** The last block, included. */
  readonly toBlock: number
  /** Unix ms: entries of the ledger are those that were claimed first from then on. */
  readonly fromTime: number
  /** Unix ms: before this time. */
  readonly toTime: number
  /** The first block that was not read; it is after `toBlock` when all have been. */
  readonly nextBlock: number
  /** How many transfers have arrived. */
  readonly transfers: number
  /** What has arrived, in atomic units of the token. */
  readonly received: string
  /** How many payments the ledger has from this time. */
  readonly payments: number
  readonly credits: readonly CreditUse[]
  readonly findings: readonly Finding[]
  /** Empty when everything was seen. */
  readonly unseen: readonly Unseen[]
}

export function recorded({ key, query, since, settlement }: LedgerEntry): RecordedPayment {
  const { payer, amount, resource } = query
  const transaction = 'transaction' in settlement ? settlement.transaction : undefined
  return { key, state: settlement.state, payer, amount, since, transaction, resource }
}
