/** The record of each payment's settlement: the guard against a second success. */
import type { SettlementQuery } from '../payment/payment-key.ts'

/** Where the settlement of a payment stands. */
export type SettlementState =
  /** Being settled by the holder of the claim, whose lease has not ended. */
  | { readonly state: 'settling' }
  /**
   * It may have been charged, and was not delivered. Only one of `ownTransactions` can have charged it on behalf of this
   * settlement; any transaction, where they are absent.
   */
  | {
      readonly state: 'unresolved'
      readonly transaction?: string | undefined
      readonly ownTransactions?: readonly string[] | undefined
      /** How often it may be delivered again after that, should replies be lost; absent before the first delivery. */
      readonly redeliveries?: number | undefined
    }
  /** Not charged, as far as is known; `wasSent` when a facilitator had the request. */
  | { readonly state: 'failed'; readonly wasSent: boolean }
  /** Success was reported to the seller. */
  | {
      readonly state: 'settled'
      readonly transaction: string
      /** Who settled it; absent where the chain showed it. */
      readonly facilitator?: string | undefined
      /** How often it may be delivered again; absent when that was never needed. */
      readonly redeliveries?: number | undefined
    }
  /** Success was reported and its reply was lost: it may be delivered again for `windowMs` (ms from now), then `settled`. */
  | {
      readonly state: 'undelivered'
      readonly transaction: string
      /** How often after that, should replies be lost again. */
      readonly redeliveries: number
      readonly windowMs: number
    }
  /** A deterministic rejection was reported. */
  | { readonly state: 'rejected'; readonly reason: string }

export interface LedgerEntry {
  /** Identifies the payment: what its chain accepts once. */
  readonly key: string
  /** Of the purchase: a claim with another one is refused, as the payment was made for something else. */
  readonly fingerprint: string
  readonly query: SettlementQuery
  /** Unix ms of the first claim, by the ledger's clock: what was paid before is not this purchase. */
  readonly since: number
  /** The claim granted last. */
  readonly claim: string
  /** As of now, by the ledger's clock: a claim whose lease has ended is `unresolved`, nobody knows how far it came. */
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
  /** Milliseconds after which the claim lapses, by the ledger's clock, should its holder die. */
  readonly leaseMs: number
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

/** How the settlement that holds `claim` went. */
export interface LedgerUpdate {
  readonly key: string
  readonly claim: string
  readonly settlement: Exclude<SettlementState, { state: 'settling' }>
}

/** Which entries to list: all that match every field given. */
export interface LedgerFilter {
  /** By the states as of now: a lapsed claim is `unresolved`. */
  readonly states?: readonly SettlementState['state'][] | undefined
  /** Claimed first at this time or later: Unix ms, by the ledger's clock. */
  readonly from?: number | undefined
  /** Claimed first before this time. */
  readonly until?: number | undefined
  /** Entries to a page at most. */
  readonly limit: number
  /** What the page before named; absent for the first one. */
  readonly cursor?: string | undefined
}

export interface LedgerPage {
  /** The oldest first. */
  readonly entries: readonly LedgerEntry[]
  /** For the next page; absent on the last. */
  readonly cursor?: string | undefined
}

/**
 * Where settlements are recorded. Give replicas of one seller the same ledger.
 *
 * An implementation makes `claim` atomic: of any number of claims of one key at the same time one is granted. Leases and
 * windows are judged by the ledger's own clock, so that replicas' clocks do not matter. An entry may be forgotten when
 * its authorization cannot be used any more, some minutes after `query.validBefore` (Unix s). `update` may take 2 s, each
 * other call 5 s. `settlementLedgerConformance` in `x402-facilitator-aggregator/testing` checks an implementation.
 */
export interface SettlementLedger {
  /** Other processes may use it too, and it may fail or forget. `sharedLedger` makes such a ledger of a store. */
  readonly isShared: boolean
  /** Called at first, with whom to tell of faults that no caller can be told. */
  attach?(report: (what: string, why: unknown) => void): void
  /**
   * Grants the claim, and stores `settling`, when there is no entry, or when the entry has the same fingerprint
   * and is `unresolved`, `failed`, or `undelivered`. Refuses otherwise. The very claim that holds the entry is granted
   * once more, with the same answer: its first answer may have been lost.
   *
   * @throws when the entry cannot be recorded; nothing is sent to a facilitator then
   */
  claim(request: ClaimRequest): Promise<Claim>
  /**
   * Stores how a settlement went; does nothing when another claim holds the entry by now. The same update may come once
   * more, as its answer was lost. After the claim has ended, its holder may turn `settled` into `undelivered`.
   *
   * @returns whether it is stored, now or before
   */
  update(update: LedgerUpdate): Promise<boolean>
  get(key: string): Promise<LedgerEntry | undefined>
  list(filter: LedgerFilter): Promise<LedgerPage>
  /**
   * The entries with the same `payer`, `network`, `payTo` and `asset` (addresses of EVM chains in any case) that are
   * `unresolved` or `undelivered`. Called with each claim: let an index answer it. Without it no charge that was not
   * delivered is credited to the buyer's next payment.
   */
  undelivered?(query: SettlementQuery): Promise<readonly LedgerEntry[]>
  /**
   * Forgets what was claimed first longer ago than that and is `settled`, `failed` or `rejected`, once its authorization
   * cannot be used any more; one that names no end can be used for 24 hours after the first claim. What is `settling`,
   * `unresolved` or `undelivered` is never forgotten, however old it is.
   *
   * @returns how many entries it has forgotten
   */
  prune?(options: { readonly olderThanMs: number }): Promise<number>
  /** Stores what could not be stored before; called when the aggregator stops. */
  flush?(): Promise<void>
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

/** Whether it was charged, or may have been, and was not delivered. */
export function isUndelivered({ settlement }: Pick<LedgerEntry, 'settlement'>): boolean {
  return ['unresolved', 'undelivered'].includes(settlement.state)
}

export function isUnresolved(entry: LedgerEntry | undefined): entry is LedgerEntry {
  return entry?.settlement.state === 'unresolved'
}

/** Whether this very purchase is being settled. */
export function isSettling({ fingerprint, settlement }: LedgerEntry, ofPurchase: string): boolean {
  return settlement.state === 'settling' && fingerprint === ofPurchase
}

/** Whether a claim of the same purchase may take this over. */
export function isOpen(settlement: SettlementState): boolean {
  return ['unresolved', 'failed', 'undelivered'].includes(settlement.state)
}

/** The reason of what the seller has delivered or refunded by hand. */
export const closedBySeller = 'closed by the seller'

/** What is said of a payment that is being settled, or has been: upstream's own reason for it. */
export const duplicate = {
  reason: 'duplicate_settlement',
  message: 'This payment is being settled, or has been.',
} as const
