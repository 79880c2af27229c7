/**
 * What the chain's answers mean to a settlement: a part of the machine that comes with a probe, and as pure as the rest.
 */
import { accusationsAfter, accuseAllBut, withoutClaim } from './audit.ts'
import { isSame } from './evidence.ts'
import {
  type ChainEvent,
  type ChainReading,
  type Conclusion,
  indeterminate,
  rejection,
  repeatLater,
  type State,
} from './machine.ts'
import type { ProbeAnswer } from './probe-answer.ts'

/** The longest pause (ms) between questions to the chain. */
const longestPauseMs = 2_000

function absorb(state: State, { answer, blockAt }: ChainEvent, now: number): State {
  const { question, pauseMs, patienceEndsAt } = state
  const at = patienceEndsAt > now ? Math.min(now + pauseMs, patienceEndsAt) : now + pauseMs
  const next: State = {
    ...state,
    question: { kind: 'next', at },
    pauseMs: Math.min(pauseMs * 1.5, longestPauseMs),
  }
  if (answer.state === 'unspent') {
    if (question.kind === 'stale') return next
    const headAt = state.headAt ?? (question.at >= state.changedAt ? blockAt : undefined)
    return { ...next, headAt, unspent: { askedAt: question.at, blockAt } }
  }
  const isMined = answer.state === 'cannot-tell' && answer.isMined === true
  const seen: State = { ...next, wasMined: state.wasMined || isMined }
  const pending = state.attempts.findLastIndex(({ kind }) => kind === 'pending')
  return pending >= 0 && state.rules.may.nobodyOpen(state, now) ? repeatLater(seen, pending, now) : seen
}

function conclude(answer: ProbeAnswer, state: State, now: number): Conclusion | undefined {
  const { may } = state.rules
  switch (answer.state) {
    case 'paid': {
      const { transaction, payer } = answer
      // Whose transaction is pending may have replaced it by this one, and is asked.
      if (!may.isOurs(state, now, transaction))
        return state.repeat === undefined ? indeterminate(state, transaction) : undefined
      if (!may.isAttributed(state, now, transaction)) return undefined
      const claims = state.attempts.filter(attempt => attempt.kind === 'claimed')
      const claim = claims.find(({ response }) => isSame(response.transaction, transaction)) ?? claims[0]
      return claim === undefined
        ? { kind: 'recovered', transaction, payer }
        : { kind: 'settled', response: { ...claim.response, transaction } }
    }
    case 'spent-otherwise':
      return { kind: 'rejected', response: rejection(state, 'nonce_already_used') }
    case 'unspent':
      return answer.asOf >= state.rules.expiresAt
        ? { kind: 'rejected', response: rejection(state, 'payment_expired') }
        : undefined
    case 'cannot-tell':
      // What cannot be dated now cannot be dated later.
      return answer.undatable !== undefined && may.nobodyOpen(state, now)
        ? indeterminate(state, answer.undatable)
        : undefined
  }
}

export const chainReading: ChainReading = {
  absorb,
  conclude,
  accuse: (state, answer, now) => accusationsAfter(state, answer, state.rules.may.claimWasFalse(state, now)),
  disprove(state, now) {
    const { may } = state.rules
    if (!may.claimIsDisproved(state, now)) return [state, []]
    const accusations = may.claimWasFalse(state, now) ? accuseAllBut(state, undefined) : []
    return [{ ...state, attempts: state.attempts.map(withoutClaim) }, accusations]
  },
}
