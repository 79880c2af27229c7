/** The record of each payment's settlement: the guard against a second success. */
import type { SettlementQuery } from '../payment/payment-key.ts'

/** Where the settlement of a payment stands. */
export type SettlementState =
  /** Being settled by the holder of `claim`, until `leaseUntil` (Unix ms) at the latest. */
  | { readonly state: 'settling'; readonly claim: string; readonly leaseUntil: number }
  /**
   * It may have been charged, and was not delivered. Only one of `ownTransactions` can have charged it on behalf of this
   * settlement; any transaction, where they are absent.
   */
  | {
      readonly state: 'unresolved'
      readonly transaction?: string | undefined
      readonly ownTransactions?: readonly string[] | undefined
    }
  /** Not charged, as far as is known; `wasSent` when a facilitator had the request. */
  | { readonly state: 'failed'; readonly wasSent: boolean }
  /** Success was reported to the seller, once. */
  | { readonly state: 'settled'; readonly transaction: string }
  /** A deterministic rejection was reported. */
  | { readonly state: 'rejected'; readonly reason: string }

export interface LedgerEntry {
  /** Identifies the payment: what its chain accepts once. */
  readonly key: string
  /** Of the purchase: a claim with another one is refused, as the payment was made for something else. */
  readonly fingerprint: string
  readonly query: SettlementQuery
  /** Unix ms of the first claim: what was paid before is not this purchase. */
  readonly since: number
  readonly settlement: SettlementState
}

/** Asks to settle a payment. */
export interface ClaimRequest {
  readonly key: string
  readonly fingerprint: string
  /** Kept as the entry's if there is no entry yet; a lesser amount replaces that of the entry. */
  readonly query: SettlementQuery
  /** Names this attempt to settle; unique. */
  readonly claim: string
  /** Unix ms now; kept as the entry's `since` if there is no entry yet. */
  readonly since: number
  /** Unix ms after which the claim lapses, should its holder die. */
  readonly leaseUntil: number
}

/**
 * `claimed`: settle it. `before` is what an earlier settlement of the same purchase left behind, if there was one;
 * `since` is when the first of them began, and `query` what is asked of the chain: with the least amount of any of them.
 * `refused`: it is being settled, or has been, or the entry belongs to another purchase.
 */
export type Claim =
  | {
      readonly kind: 'claimed'
      readonly before: SettlementState | undefined
      readonly since: number
      readonly query: SettlementQuery
    }
  | { readonly kind: 'refused'; readonly entry: LedgerEntry }

/**
 * Where settlements are recorded. Give replicas of one seller the same ledger.
 *
 * An implementation makes `claim` atomic: of any number of claims of one key at the same time one is granted. `update`
 * may take 2 s, each other call 5 s. An entry may be forgotten when its authorization cannot be used any more, some
 * minutes after `query.validBefore` (Unix s).
 * `settlementLedgerConformance` in `x402-facilitator-aggregator/testing` checks an implementation.
 */
export interface SettlementLedger {
  /**
   * Grants the claim, and stores `settling`, when there is no entry, or when the entry has the same fingerprint
   * and is `unresolved`, `failed`, or `settling` with a lapsed lease (reported as `unresolved`). Refuses otherwise.
   *
   * @throws when the entry cannot be recorded; nothing is sent to a facilitator then
   */
  claim(request: ClaimRequest): Promise<Claim>
  /**
   * Stores how the settlement that holds `claim` went; does nothing when another one holds the entry by now.
   *
   * The claim is kept with the entry, though its state does not name it any more: the same update may come once more, as
   * its answer was lost.
   *
   * @returns whether it is stored, now or before
   */
  update(key: string, claim: string, settlement: SettlementState): Promise<boolean>
  get(key: string): Promise<LedgerEntry | undefined>
  /** The entries that are `unresolved`, or `settling` with a lapsed lease. */
  unresolved(): Promise<LedgerEntry[]>
  /** How full it is now, at no cost; absent where it cannot be full. Must not throw. */
  usage?(): LedgerUsage | undefined
}

/** How full a ledger is. */
export interface LedgerUsage {
  /** Those that must not be forgotten to make room. */
  readonly entries: number
  readonly maxEntries: number
  /** From nine tenths of `maxEntries`: raise it before settles are refused. */
  readonly isNearlyFull: boolean
}

/** What a lapsed claim left behind: nobody knows how far it came. */
export function effectiveState(settlement: SettlementState): SettlementState {
  return settlement.state === 'settling' && settlement.leaseUntil <= Date.now()
    ? { state: 'unresolved' }
    : settlement
}

export function isUnresolved<E extends Pick<LedgerEntry, 'settlement'>>(entry: E | undefined): entry is E {
  return entry !== undefined && effectiveState(entry.settlement).state === 'unresolved'
}

/** Whether this very purchase is being settled. */
export function isSettling({ fingerprint, settlement }: LedgerEntry, ofPurchase: string): boolean {
  return effectiveState(settlement).state === 'settling' && fingerprint === ofPurchase
}

/** Whether a claim of the same purchase may take this over. */
export function isOpen(settlement: SettlementState): boolean {
  return settlement.state === 'unresolved' || settlement.state === 'failed'
}

/** The reason of what the seller has delivered or refunded by hand. */
export const closedBySeller = 'closed by the seller'

/** What is said of a payment that is being settled, or has been: upstream's own reason for it. */
export const duplicate = {
  reason: 'duplicate_settlement',
  message: 'This payment is being settled, or has been.',
} as const
