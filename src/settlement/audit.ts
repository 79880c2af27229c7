/** Claims of success, judged by what the chain shows in the end. */
import { type Attempt, type Evidence, isMadeBy } from './evidence.ts'
import type { ProbeAnswer } from './probe-answer.ts'

/** The attempt's claim of success is false. */
export interface Accusation {
  readonly kind: 'accuse'
  readonly attempt: number
  readonly transaction: string
}

/** @param isFalse a claim that the answer does not show is false: the chain has never shown the payment before */
export function accusationsAfter(evidence: Evidence, answer: ProbeAnswer, isFalse: boolean): Accusation[] {
  switch (answer.state) {
    case 'paid':
      // Where no attempt names the transaction that paid, a claim may name it otherwise.
      return evidence.attempts.some(attempt => isMadeBy(attempt, answer.transaction))
        ? accuseAllBut(evidence, answer.transaction)
        : []
    case 'spent-otherwise':
      // By which transaction is not known: it may be the claimed one.
      return answer.transaction !== undefined && isFalse ? accuseAllBut(evidence, answer.transaction) : []
    case 'unspent':
      return isFalse ? accuseAllBut(evidence, undefined) : []
    case 'cannot-tell':
      return []
  }
}

export function accuseAllBut({ attempts }: Evidence, transaction: string | undefined): Accusation[] {
  return attempts.flatMap((claim, attempt) =>
    claim.kind === 'claimed' && !isMadeBy(claim, transaction)
      ? [{ kind: 'accuse' as const, attempt, transaction: claim.response.transaction }]
      : [],
  )
}

/** What it did, if anything, nobody knows. */
export function withoutClaim(attempt: Attempt): Attempt {
  return attempt.kind === 'claimed' ? { kind: 'unknown', transaction: undefined } : attempt
}
