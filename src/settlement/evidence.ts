/** What the attempts to settle one payment show of its money. */
import type { SettleResponse } from '@x402/core/types'
import { unreadable } from '../facilitator/classify.ts'
import type { Outcome } from '../facilitator/outcome.ts'
import { isExplainedByPayment } from '../facilitator/reasons.ts'
import type { SettlementState } from './ledger.ts'

/** What is known of one attempt. */
export type Attempt =
  /** It has not ended; `since` on the monotonic clock (ms). */
  | { readonly kind: 'open'; readonly since: number }
  /** Proven: no request reached the facilitator. */
  | { readonly kind: 'unsent' }
  /** Refused before processing, by the transport's word; or not sent, by the word of a client that is not ours. */
  | { readonly kind: 'refused'; readonly byClient: boolean }
  /** The facilitator says that it broadcast nothing. */
  | { readonly kind: 'denied'; readonly reason: string }
  /** It gave a verdict about the payment. */
  | { readonly kind: 'rejected'; readonly response: SettleResponse }
  /** It says that the authorization had been used before. */
  | { readonly kind: 'spent'; readonly response: SettleResponse }
  /** It may have charged. */
  | { readonly kind: 'unknown'; readonly transaction: string | undefined }
  /** It has broadcast this transaction. */
  | { readonly kind: 'pending'; readonly transaction: string }
  /** It claims a success that the chain has to confirm. */
  | { readonly kind: 'claimed'; readonly response: SettleResponse }

/** The attempts of a settlement, and what an earlier one of the same purchase left behind. */
export interface Evidence {
  readonly before: SettlementState | undefined
  readonly attempts: readonly Attempt[]
  /** A facilitator had the request and refused it, before it was asked once more within the same attempt. */
  readonly wasRefused: boolean
}

export function attemptAfter(outcome: Outcome<'settle'>): Attempt {
  switch (outcome.kind) {
    case 'answered':
      return { kind: outcome.response.success ? 'claimed' : 'rejected', response: outcome.response }
    case 'spent':
      return { kind: 'spent', response: outcome.response }
    case 'declined':
      if (outcome.isUnsent) return { kind: 'unsent' }
      return outcome.response
        ? { kind: 'denied', reason: outcome.reason }
        : { kind: 'refused', byClient: false }
    case 'unreachable':
      return outcome.isUnconfirmed ? { kind: 'refused', byClient: true } : { kind: 'unsent' }
    case 'pending':
      return { kind: 'pending', transaction: outcome.transaction }
    case 'unknown':
      return { kind: 'unknown', transaction: outcome.transaction }
  }
}

export function hasClaim({ attempts }: Evidence): boolean {
  return attempts.some(({ kind }) => kind === 'claimed')
}

/** The verdict that a facilitator gave; "used before" is one too. */
export function verdictOf({ attempts }: Evidence): SettleResponse | undefined {
  for (const attempt of attempts)
    if (attempt.kind === 'rejected' || attempt.kind === 'spent') return attempt.response
  return undefined
}

/** Whether the money may have moved, by what a facilitator has shown, and may move still. */
export function isInDoubt({ before, attempts }: Evidence): boolean {
  return (
    before?.state === 'unresolved' ||
    attempts.some(({ kind }) => kind === 'unknown' || kind === 'pending' || kind === 'claimed')
  )
}

/** Whether a facilitator had the request, now or in an earlier settlement. */
export function wasReached(evidence: Evidence): boolean {
  return wasReachedBefore(evidence) || evidence.attempts.some(({ kind }) => kind !== 'unsent')
}

/** Whether somebody had the request who gave no verdict: a verdict of the next may be what that one's payment looks like. */
export function isVerdictDoubtful(evidence: Evidence): boolean {
  const wasRefused = wasReachedBefore(evidence) || evidence.attempts.some(({ kind }) => kind === 'refused')
  return wasRefused && verdictOf(evidence) !== undefined
}

/**
 * The transactions that this settlement may have made, when each attempt is accounted for: by its own transaction, or
 * by saying why it made none. `undefined` when an attempt may have made any.
 */
export function ownTransactions(evidence: Evidence): string[] | undefined {
  const { before, attempts } = evidence
  const earlier = before?.state === 'unresolved' ? before.ownTransactions : undefined
  if (earlier === undefined ? wasReachedBefore(evidence) : evidence.wasRefused) return undefined
  if (!attempts.every(isAccountedFor)) return undefined
  return [...(earlier ?? []), ...attempts.flatMap(attempt => transactionOf(attempt) || [])]
}

/** Whether an attempt of this settlement can have made the transaction. */
export function mayHaveMade(evidence: Evidence, transaction: string): boolean {
  return isAmong(ownTransactions(evidence), transaction)
}

/** @param own the transactions that a settlement may have made; absent where it may have made any */
export function isAmong(own: readonly string[] | undefined, transaction: string): boolean {
  return own?.some(one => isSame(one, transaction)) !== false
}

export function transactionOf(attempt: Attempt): string | undefined {
  if (attempt.kind === 'claimed') return attempt.response.transaction
  return attempt.kind === 'unknown' || attempt.kind === 'pending' ? attempt.transaction : undefined
}

export function isMadeBy(attempt: Attempt, transaction: string | undefined): boolean {
  const own = transactionOf(attempt)
  return own !== undefined && transaction !== undefined && isSame(own, transaction)
}

/** The same transaction; hexadecimal names have no case. */
export function isSame(one: string, other: string): boolean {
  return one === other || (one.startsWith('0x') && one.toLowerCase() === other.toLowerCase())
}

/** Whether there was an attempt, before those that are listed, that had the request. */
function wasReachedBefore({ before, wasRefused }: Evidence): boolean {
  return wasRefused || before?.state === 'unresolved' || (before?.state === 'failed' && before.wasSent)
}

/** A denial that is what the payment of another process looks like accounts for its attempt. */
function isAccountedFor(attempt: Attempt): boolean {
  switch (attempt.kind) {
    case 'open':
    case 'refused':
    case 'claimed':
      return false
    case 'unknown':
      return ![undefined, unreadable].includes(attempt.transaction)
    case 'denied':
      return isExplainedByPayment(attempt.reason)
    case 'unsent':
    case 'rejected':
    case 'spent':
    case 'pending':
      return true
  }
}
