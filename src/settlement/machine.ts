/**
 * The settlement of one payment as a pure machine: what has happened so far, and what is to be done next. It reads no
 * clock, draws no random number and asks nobody; `flows/drive.ts` does what it says, and reports back.
 *
 * All times are milliseconds on the driver's monotonic clock, those of blocks included.
 */

import type { SettleResponse } from '@x402/core/types'
import type { Outcome } from '../facilitator/outcome.ts'
import { never } from '../runtime/clock.ts'
import type { Accusation } from './audit.ts'
import {
  attemptAfter,
  type Evidence,
  hasClaim,
  isInDoubt,
  isMadeBy,
  isVerdictDoubtful,
  mayHaveMade,
  ownTransactions,
  transactionOf,
  verdictOf,
  wasReached,
} from './evidence.ts'
import type { SettlementState } from './ledger.ts'
import type { ProbeAnswer } from './probe-answer.ts'

/** What does not change while a payment is settled. */
export interface Rules {
  readonly deadline: number
  /** Where a probe can look at the payment: what follows from the chain's answers, `chainReading`. */
  readonly chain: ChainReading | undefined
  /** The chain is known to accept the payment once only: a second facilitator cannot charge it twice. */
  readonly isProtected: boolean
  /** Whoever else may settle the payment shares the ledger: what is paid while it is claimed here, is paid by us. */
  readonly isExclusive: boolean
  /** A claim of success counts when the chain confirms it. */
  readonly isAudited: boolean
  /** Nothing has to move: a success need not name a transaction. */
  readonly isFree: boolean
  /** Unix seconds from which an unused authorization counts as run out. */
  readonly expiresAt: number
  readonly network: SettleResponse['network']
  readonly probeAfterMs: number
  readonly failoverAfterMs: number
  /** What has to hold before something is done that cannot be taken back: `guards`. */
  readonly may: Guards
}

/** What the chain's answers mean to a settlement; it comes with a probe. */
export interface ChainReading {
  /** What is known after an answer. */
  absorb(state: State, event: ChainEvent, now: number): State
  /** The end, where the answer is one. */
  conclude(answer: ProbeAnswer, state: State, now: number): Conclusion | undefined
  /** The claims of success that the answer of the end shows to be false. */
  accuse(state: State, answer: ProbeAnswer, now: number): readonly Accusation[]
  /** Without the claims of success that a block made since does not show. */
  disprove(state: State, now: number): readonly [State, readonly Accusation[]]
}

export type Event =
  | { readonly kind: 'started' }
  /** A facilitator is being asked; attempts are numbered in this order. */
  | { readonly kind: 'asking' }
  /** There is no facilitator left on the route. */
  | { readonly kind: 'route-empty' }
  | { readonly kind: 'ended'; readonly attempt: number; readonly outcome: Outcome<'settle'> }
  | ChainEvent
  /** Time has passed. */
  | { readonly kind: 'tick' }
  | { readonly kind: 'stopped' }

export interface ChainEvent {
  readonly kind: 'chain'
  readonly answer: ProbeAnswer
  /** When the newest block was made that the answer knows. */
  readonly blockAt: number
}

export type Action =
  /** `isAnew`: begins the route anew, without the facilitators whose attempts are open. */
  | { readonly kind: 'ask-next'; readonly isAnew: boolean }
  /** Asks the facilitator of this attempt once more: it has broadcast, and knows how that went. */
  | { readonly kind: 'ask-again'; readonly attempt: number }
  | { readonly kind: 'ask-chain' }
  /** The attempt is given up waiting for, though it stays open. */
  | { readonly kind: 'overtake'; readonly attempt: number }
  | Accusation
  /** Nobody is asked any more, not even as the retry of an attempt that is open. */
  | { readonly kind: 'end-route' }
  | { readonly kind: 'conclude'; readonly conclusion: Conclusion }

/** How a settlement ended. */
export type Conclusion =
  /** A facilitator said so. */
  | { readonly kind: 'settled'; readonly response: SettleResponse }
  /** The chain said so. */
  | { readonly kind: 'recovered'; readonly transaction: string; readonly payer?: string | undefined }
  /** A deterministic rejection; nothing was charged, or not by this purchase. */
  | { readonly kind: 'rejected'; readonly response: SettleResponse }
  /** No facilitator settled. `wasSent`: one of them had the request. `isProven`: nothing was charged, and that is sure. */
  | { readonly kind: 'failed'; readonly wasSent: boolean; readonly isProven: boolean }
  | {
      readonly kind: 'indeterminate'
      readonly transaction: string | undefined
      /** As in the ledger's `unresolved`. */
      readonly ownTransactions: readonly string[] | undefined
    }

export interface State extends Evidence {
  readonly rules: Rules
  readonly route: 'ready' | 'asking' | 'exhausted'
  /** How often every facilitator has been asked. */
  readonly rounds: number
  /** When the latest attempt may be overtaken, or its claim be called false. */
  readonly patienceEndsAt: number
  /** When something last happened that an older block cannot show. */
  readonly changedAt: number
  /** What the chain has shown: the payment unspent, as of a block made at `blockAt`. */
  readonly unspent: { readonly askedAt: number; readonly blockAt: number } | undefined
  /** The head that was shown first since then: what a newer block shows is newer, whatever the clocks say. */
  readonly headAt: number | undefined
  /** The chain has shown the payment, though not under enough blocks yet. */
  readonly wasMined: boolean
  /**
   * The question to the chain, one at a time: `asked` at `at`, or the `next` one then, if it is wanted. `stale`: asked
   * before the doubt arose.
   */
  readonly question: { readonly kind: 'asked' | 'stale' | 'next'; readonly at: number }
  /** Milliseconds between two questions. */
  readonly pauseMs: number
  /** The facilitator of a pending attempt is to be asked again. */
  readonly repeat: { readonly attempt: number; readonly at: number } | undefined
  readonly repeatMs: number
}

/** Milliseconds between questions to the chain; grows by half with each. */
const firstPauseMs = 250
/** Milliseconds after which a facilitator that answered "pending" is asked again; doubles. */
const firstRepeatMs = 1_000
/** Milliseconds by which our clock may be behind the chain's before a block counts as made after an attempt. */
const skewMs = 3_000

export function start(rules: Rules, before: SettlementState | undefined, now: number): State {
  return {
    rules,
    before,
    attempts: [],
    wasRefused: false,
    route: 'ready',
    rounds: 0,
    patienceEndsAt: now,
    changedAt: now,
    headAt: undefined,
    unspent: undefined,
    wasMined: false,
    question: { kind: 'next', at: now },
    pauseMs: firstPauseMs,
    repeat: undefined,
    repeatMs: firstRepeatMs,
  }
}

type Guard = (state: State, now: number, transaction?: string) => boolean

/** What has to hold before something is done that cannot be taken back. */
export const guards = {
  /** A verdict is not shopped (invariant 4). */
  noVerdict: state => !verdictOf(state),
  /** After a denial, another facilitator is asked only where two cannot charge twice. */
  deniedIsSafe: ({ rules }) => rules.isProtected,
  /** After doubt, another one is asked only where two cannot charge twice, and the chain shows the payment unspent. */
  doubtIsSafe: ({ rules, unspent, patienceEndsAt }) =>
    rules.isProtected && unspent !== undefined && unspent.askedAt >= patienceEndsAt,
  /** Those asked before are asked again only after a block made since shows that nothing came of it. */
  anewIsSafe: state => state.rules.isProtected && isUnspentAfresh(state),
  /** An attempt that has not ended may still charge. */
  nobodyOpen: ({ attempts }) => attempts.every(({ kind }) => kind !== 'open'),
  /** What may have been charged, and may land still, is no failure: nor is what is said to be used, and is not yet. */
  noDoubt: state =>
    !isInDoubt(state) &&
    !state.wasMined &&
    !(state.rules.chain && state.attempts.some(({ kind }) => kind === 'spent')),
  /** Where a chain can be asked, only a block made since is believed that nothing was charged (invariant 2). */
  shownUncharged: state => !wasReached(state) || isUnspentAfresh(state),
  /** Without a chain, a facilitator's word that it broadcast nothing is not believed. */
  nobodyDenied: ({ attempts }) => attempts.every(({ kind }) => kind !== 'denied'),
  /** Nor a verdict, after another one had the request and gave none. */
  verdictStands: state => !isVerdictDoubtful(state),
  /** What the chain shows is delivered only where an attempt of this settlement can have made it (invariant 3). */
  isOurs: (state, _now, transaction = '') => mayHaveMade(state, transaction),
  /**
   * Another process may have paid it: an attempt that may answer yet is given its time to name its transaction, or to
   * say that it made none.
   */
  isAttributed: (state, now, transaction) =>
    state.rules.isExclusive ||
    now >= state.patienceEndsAt ||
    state.attempts.at(-1)?.kind !== 'open' ||
    state.attempts.some(attempt => isMadeBy(attempt, transaction)),
  /** A claim of success waits for the chain, unless nothing had to move. */
  claimSuffices: ({ rules }, _now, transaction) =>
    !(rules.isAudited && rules.chain) || (rules.isFree && transaction === ''),
  /** An old block disproves no claim of success. */
  claimIsDisproved: state => isUnspentAfresh(state) && (state.unspent?.askedAt ?? 0) >= state.patienceEndsAt,
  /** A payment that was seen on the chain, and taken back by a reorganization, was no false claim. */
  claimWasFalse: ({ wasMined }) => !wasMined,
} as const satisfies Record<string, Guard>

export type Guards = Readonly<Record<keyof typeof guards, Guard>>

/** What follows from an event, and what is to be done about it. */
export function step(before: State, event: Event, now: number): readonly [State, readonly Action[]] {
  const { may, chain } = before.rules
  const success = event.kind === 'ended' ? successOf(event.outcome) : undefined
  if (success !== undefined && may.claimSuffices(before, now, success.transaction))
    return [before, [{ kind: 'conclude', conclusion: { kind: 'settled', response: success } }]]
  const known = absorb(before, event, now)
  const conclusion = conclude(known, event, now)
  if (!conclusion) return proceed(known, event, now)
  const accusations = event.kind === 'chain' ? chain?.accuse(known, event.answer, now) : undefined
  return [known, [...(accusations ?? []), { kind: 'conclude', conclusion }]]
}

function successOf(outcome: Outcome<'settle'>): SettleResponse | undefined {
  return outcome.kind === 'answered' && outcome.response.success ? outcome.response : undefined
}

/** When the driver is to report a `tick`, if nothing happens before. */
export function wakesAt(state: State): number {
  const { rules, repeat } = state
  // Without a chain the time-outs of the attempts end every wait.
  if (!rules.chain && !repeat) return never
  return Math.min(questionDueAt(state), repeat?.at ?? never, rules.deadline)
}

function absorb(state: State, event: Event, now: number): State {
  switch (event.kind) {
    case 'asking':
      return {
        ...state,
        attempts: [...state.attempts, { kind: 'open', since: now }],
        route: 'ready',
        patienceEndsAt: now + state.rules.failoverAfterMs,
      }
    case 'route-empty':
      return { ...state, route: 'exhausted', rounds: state.rounds + 1, ...changed(now) }
    case 'ended':
      return absorbEnd(
        {
          ...state,
          attempts: state.attempts.with(event.attempt, attemptAfter(event.outcome)),
          wasRefused: state.wasRefused || event.outcome.isUnconfirmed === true,
        },
        event.attempt,
        now,
      )
    case 'chain':
      return state.rules.chain?.absorb(state, event, now) ?? state
    case 'started':
    case 'tick':
    case 'stopped':
      return state
  }
}

function absorbEnd(state: State, index: number, now: number): State {
  const ended = state.attempts[index]
  const isLatest = index === state.attempts.length - 1
  // The chain need not be asked again about one that did nothing.
  const clearedAt = isLatest && !hasClaim(state) ? (state.unspent?.askedAt ?? now) : state.patienceEndsAt
  switch (ended?.kind) {
    case 'unsent':
      return { ...state, patienceEndsAt: clearedAt }
    case 'unknown':
      return askSoon({ ...state, patienceEndsAt: isLatest ? now : state.patienceEndsAt }, now)
    case 'claimed':
      return askSoon({ ...state, patienceEndsAt: now + state.rules.failoverAfterMs }, now)
    case 'pending': {
      const pending = askSoon(state, now)
      return state.rules.chain ? pending : repeatLater(pending, index, now)
    }
    case undefined:
    case 'open':
    case 'refused':
    case 'denied':
    case 'rejected':
    case 'spent':
      return { ...state, ...changed(now), patienceEndsAt: clearedAt }
  }
}

function changed(now: number): Pick<State, 'changedAt' | 'headAt'> {
  return { changedAt: now, headAt: undefined }
}

/** Something has happened that the chain should show now, or soon, and has not shown before. */
function askSoon(state: State, now: number): State {
  const { question } = state
  return {
    ...state,
    ...changed(now),
    unspent: undefined,
    pauseMs: firstPauseMs,
    question: question.kind === 'next' ? { kind: 'next', at: now } : { ...question, kind: 'stale' },
  }
}

/** The facilitator of a pending attempt is asked again, unless that is planned already or there is no time. */
export function repeatLater(state: State, attempt: number, now: number): State {
  const at = now + state.repeatMs
  if (state.repeat !== undefined || at >= state.rules.deadline) return state
  return { ...state, repeat: { attempt, at }, repeatMs: state.repeatMs * 2 }
}

function conclude(state: State, event: Event, now: number): Conclusion | undefined {
  const { may, chain } = state.rules
  const shown = event.kind === 'chain' ? chain?.conclude(event.answer, state, now) : undefined
  if (shown) return shown
  const isOver = event.kind === 'stopped' || now >= state.rules.deadline
  if (!isOver && !isAtEnd(state, now)) return undefined
  const isUncharged = may.nobodyOpen(state, now) && may.noDoubt(state, now)
  if (!chain)
    return isUncharged && may.nobodyDenied(state, now) && may.verdictStands(state, now)
      ? failure(state, !wasReached(state))
      : indeterminate(state)
  const isShown = may.shownUncharged(state, now)
  if (isShown && isUncharged) return failure(state, true)
  // After a verdict nobody is asked again, and what is in doubt may land still: there is no more to learn.
  return isOver || (isShown && verdictOf(state)) ? indeterminate(state) : undefined
}

/** Whether nobody is being asked, and nobody is left to be asked before the chain has spoken. */
function isAtEnd(state: State, now: number): boolean {
  const { may, chain } = state.rules
  if (!may.nobodyOpen(state, now) || state.route === 'asking' || state.repeat !== undefined) return false
  if (verdictOf(state) !== undefined || state.route === 'exhausted') return true
  return !chain && !mayAskNext(state, now)
}

function failure(state: State, isProven: boolean): Conclusion {
  const verdict = verdictOf(state)
  return verdict === undefined
    ? { kind: 'failed', wasSent: wasReached(state), isProven }
    : { kind: 'rejected', response: verdict }
}

export function rejection(state: State, errorReason: string): SettleResponse {
  const { network } = state.rules
  return verdictOf(state) ?? { success: false, errorReason, transaction: '', network }
}

export function indeterminate(state: State, paidBy?: string): Conclusion {
  const { before, attempts } = state
  const earlier = before?.state === 'unresolved' ? before.transaction : undefined
  const transaction = paidBy ?? earlier ?? attempts.map(transactionOf).find(Boolean)
  return { kind: 'indeterminate', transaction, ownTransactions: ownTransactions(state) }
}

function proceed(known: State, event: Event, now: number): readonly [State, readonly Action[]] {
  const { may, chain } = known.rules
  const actions: Action[] = []
  let state = known
  if (event.kind === 'ended' && verdictOf(state)) actions.push({ kind: 'end-route' })
  if (chain && hasClaim(state)) {
    const [disproved, accusations] = chain.disprove(state, now)
    actions.push(...accusations)
    state = disproved
  }
  if (mayAskNext(state, now)) {
    const latest = state.attempts.length - 1
    if (state.attempts[latest]?.kind === 'open') actions.push({ kind: 'overtake', attempt: latest })
    actions.push({ kind: 'ask-next', isAnew: state.route === 'exhausted' })
    state = { ...state, route: 'asking' }
  }
  if (state.repeat !== undefined && now >= state.repeat.at && state.route !== 'asking') {
    const mayRepeat = may.noVerdict(state, now)
    if (mayRepeat) actions.push({ kind: 'ask-again', attempt: state.repeat.attempt })
    state = { ...state, repeat: undefined, route: mayRepeat ? 'asking' : state.route }
  }
  if (now >= questionDueAt(state)) {
    actions.push({ kind: 'ask-chain' })
    state = { ...state, question: { kind: 'asked', at: now } }
  }
  return [state, actions]
}

function mayAskNext(state: State, now: number): boolean {
  const { may } = state.rules
  if (state.route === 'asking' || !may.noVerdict(state, now)) return false
  if (state.route === 'exhausted')
    return isInDoubt(state) && isWorthAnotherRound(state) && may.anewIsSafe(state, now)
  const latest = state.attempts.at(-1)
  if (latest?.kind === 'open' || isInDoubt(state)) return !hasClaim(state) && may.doubtIsSafe(state, now)
  const isDenied = latest?.kind === 'denied' || (latest?.kind === 'refused' && latest.byClient)
  return !isDenied || may.deniedIsSafe(state, now)
}

/** Transactions that fail, as a buyer can arrange, burn the gas of each facilitator twice at most. */
function isWorthAnotherRound({ rounds, attempts }: State): boolean {
  return (
    rounds < 2 || attempts.some(attempt => attempt.kind === 'unknown' && attempt.transaction === undefined)
  )
}

/** When the chain is to be asked next, if its answer matters. */
function questionDueAt(state: State): number {
  const { rules, question, changedAt, attempts } = state
  if (!rules.chain || question.kind !== 'next') return never
  if (isInDoubt(state)) return question.at
  const open = attempts.find(attempt => attempt.kind === 'open')
  if (open) return Math.max(question.at, open.since + rules.probeAfterMs)
  if (!wasReached(state) || state.route === 'asking') return never
  // Nobody acted, they say: the head as it is now, and then a block that is made since.
  return state.headAt === undefined ? question.at : Math.max(question.at, changedAt + skewMs)
}

/** Whether a block that was made after everything that happened, by our clock and by the chain's, shows it unspent. */
function isUnspentAfresh({ unspent, changedAt, headAt }: State): boolean {
  return (
    unspent !== undefined &&
    headAt !== undefined &&
    unspent.blockAt > headAt &&
    Math.min(unspent.askedAt, unspent.blockAt) >= changedAt + skewMs
  )
}
