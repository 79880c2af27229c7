/**
 * The world around one payment, as small as it can be and still hold every fault: callers, a ledger, facilitators that
 * broadcast or not and answer what they like, a chain, and a node that knows it, lags, or is silent. All of it is data:
 * `moves` lists what may happen next.
 */
import type { SettleResponse } from '@x402/core/types'
import type { Outcome } from '../../src/facilitator/outcome.ts'
import { chainReading } from '../../src/settlement/chain-reading.ts'
import type { SettlementState } from '../../src/settlement/ledger.ts'
import {
  type Action,
  type Conclusion,
  type Event,
  type Guards,
  type Rules,
  type State,
  start,
  step,
  wakesAt,
} from '../../src/settlement/machine.ts'
import type { ProbeAnswer } from '../../src/settlement/probe-answer.ts'

export interface Setup {
  readonly name: string
  readonly facilitators: number
  readonly callers: number
  readonly hasChain: boolean
  readonly isProtected: boolean
  readonly isAudited: boolean
  /** A payment needs more blocks than its own to be final, and may be taken back until then. */
  readonly hasReorganizations?: boolean
  /** The granularity of time, in ms: a coarse one reaches the deadline in fewer moves. */
  readonly tickMs?: number
  /** In ms. */
  readonly deadlineMs?: number
}

/** A transaction of an attempt, or of another process of the seller (`call` -1). */
interface Transaction {
  readonly id: string
  readonly call: number
  readonly attempt: number
  readonly at: number
  /** `mined`: in a block that a reorganization may take back. */
  readonly place: 'mempool' | 'mined' | 'landed' | 'reverted'
  readonly landedAt: number
}

interface Call {
  readonly phase: 'waiting' | 'running' | 'ended' | 'crashed'
  readonly beganAt: number
  readonly machine: State | undefined
  /** The facilitator of each attempt. */
  readonly asked: readonly number[]
  /** Whether the facilitator of each attempt may still broadcast. */
  readonly mayAct: readonly boolean[]
  /** Whether it has accounted for itself: by a transaction of its own, or by saying why it made none. */
  readonly isAccounted: readonly boolean[]
  readonly route: readonly number[]
  readonly isAsking: boolean
  readonly hasEndedRoute: boolean
  readonly conclusion: Conclusion | undefined
  /** The callers whose attempts it was about: those that had claimed the payment by then. */
  readonly isAbout: readonly number[]
}

type Entry =
  | Exclude<SettlementState, { state: 'settling' }>
  | { readonly state: 'settling'; readonly by: number; readonly until: number }

export interface World {
  readonly now: number
  readonly calls: readonly Call[]
  readonly transactions: readonly Transaction[]
  readonly entry: Entry | undefined
  /** What the process knows better than its ledger. */
  readonly own: SettlementState | undefined
  /** What has gone wrong for good, in words. */
  readonly violation: string | undefined
}

export interface Move {
  readonly text: string
  readonly to: World
}

/** Milliseconds; blocks are made all the time. */
const defaultTickMs = 1_000
const defaultDeadlineMs = 9_000
/** What somebody denies has landed this long after it was broadcast, or never does. */
const denialLandsWithinMs = 2_000
const lagMs = 2_000

const network = 'eip155:1'

function timesOf({ tickMs = defaultTickMs, deadlineMs = defaultDeadlineMs }: Setup) {
  return { tickMs, deadlineMs, leaseMs: deadlineMs + tickMs, horizonMs: 2 * deadlineMs }
}

export function begin(setup: Setup): World {
  const call: Call = {
    phase: 'waiting',
    beganAt: 0,
    machine: undefined,
    asked: [],
    mayAct: [],
    isAccounted: [],
    route: [],
    isAsking: false,
    hasEndedRoute: false,
    conclusion: undefined,
    isAbout: [],
  }
  return {
    now: 0,
    calls: Array.from({ length: setup.callers }, () => call),
    transactions: [],
    entry: undefined,
    own: undefined,
    violation: undefined,
  }
}

export function moves(world: World, setup: Setup, guards: Guards): Move[] {
  if (world.violation !== undefined) return []
  const found: Move[] = []
  const add = (text: string, to: World) => found.push({ text, to: judge(to) })

  world.calls.forEach((call, index) => {
    const who = setup.callers > 1 ? `caller ${index + 1}: ` : ''
    if (call.phase === 'waiting')
      for (const move of claims(world, index, setup, guards)) add(who + move.text, move.to)
    for (const move of broadcasts(world, index)) add(who + move.text, move.to)
    if (call.phase !== 'running') return
    call.machine?.attempts.forEach((attempt, number) => {
      if (attempt.kind !== 'open') return
      for (const [text, outcome, mayAct, isAccounted] of answers(world, index, number, setup)) {
        const answered = change(world, index, {
          mayAct: call.mayAct.with(number, mayAct),
          isAccounted: call.isAccounted.with(number, isAccounted),
        })
        add(
          `${who}facilitator ${letter(call.asked[number])} ${text}`,
          feed(answered, index, { kind: 'ended', attempt: number, outcome }, setup),
        )
      }
    })
    if (call.isAsking)
      for (const [text, answer, blockAt] of chainAnswers(world)) {
        const heard = change(world, index, { isAsking: false })
        add(who + text, feed(heard, index, { kind: 'chain', answer, blockAt }, setup))
      }
    add(`${who}the aggregator is stopped`, feed(world, index, { kind: 'stopped' }, setup))
    if (index === 0 && setup.callers > 1)
      add(`${who}its process dies`, change(world, index, { phase: 'crashed', isAsking: false }))
  })
  for (const transaction of world.transactions) {
    const { id, place } = transaction
    if (place === 'mempool') add(`${id} reaches a block`, land(world, transaction, setup))
    if (place !== 'mined') continue
    add(`${id} is final`, move(world, transaction, { place: 'landed' }))
    // One that nobody saw in a block before cannot be distinguished from a false claim.
    if (world.calls[transaction.call]?.machine?.wasMined)
      add(`a reorganization takes ${id} back`, takeBack(world, transaction))
  }
  if (!world.transactions.some(({ call }) => call < 0) && !isSpent(world, setup))
    add('another process of the seller settles the payment', {
      ...world,
      transactions: [
        ...world.transactions,
        { id: 'theirs', call: -1, attempt: 0, at: world.now, place: 'landed', landedAt: world.now },
      ],
    })
  const later = pass(world, setup)
  if (later !== undefined) add(`${(later.now - world.now) / 1000} s pass`, later)
  return found
}

/** A caller asks to settle: the ledger grants it or not, loses its answer, or has forgotten what it held. */
function claims(world: World, index: number, setup: Setup, guards: Guards): Move[] {
  const { entry, own, now } = world
  const { deadlineMs, leaseMs } = timesOf(setup)
  const isLapsed = entry?.state === 'settling' && entry.until <= now
  const held: SettlementState | undefined =
    entry?.state === 'settling' ? (isLapsed ? { state: 'unresolved' } : { state: 'settling' }) : entry
  const refused: Move = { text: 'is refused as a duplicate', to: change(world, index, { phase: 'ended' }) }
  if (own?.state === 'settled') return [refused]
  const isOpen = held === undefined || held.state === 'unresolved' || held.state === 'failed'
  if (!isOpen) return [refused]
  const granted = (before: SettlementState | undefined) => {
    const rules: Rules = {
      deadline: now + deadlineMs,
      chain: setup.hasChain ? chainReading : undefined,
      isProtected: setup.isProtected,
      isExclusive: false,
      isAudited: setup.isAudited,
      isFree: false,
      expiresAt: Number.POSITIVE_INFINITY,
      network,
      probeAfterMs: 1_000,
      failoverAfterMs: 2_000,
      may: guards,
    }
    const claimed = change(
      { ...world, entry: { state: 'settling', by: index, until: now + leaseMs } },
      index,
      {
        phase: 'running',
        beganAt: now,
        machine: start(rules, before, now),
        route: Array.from({ length: setup.facilitators }, (_, at) => at),
      },
    )
    return feed(claimed, index, { kind: 'started' }, setup)
  }
  const all: Move[] = [
    {
      text: `claims the payment${held === undefined ? '' : `, which was left ${held.state}`}`,
      to: granted(held ?? own),
    },
  ]
  if (own?.state === 'unresolved' && held !== undefined)
    all.push({ text: 'claims the payment, which the ledger has forgotten', to: granted(own) })
  return all
}

/** Facilitators broadcast while they are asked, and after it where nobody knows what they do. */
function broadcasts(world: World, index: number): Move[] {
  const { asked, mayAct } = world.calls[index] as Call
  return asked.flatMap((facilitator, attempt) => {
    if (!mayAct[attempt] || transactionBy(world, index, attempt) !== undefined) return []
    // Who has broadcast remembers it when asked again.
    const isRemembered = asked.some(
      (other, at) => other === facilitator && transactionBy(world, index, at) !== undefined,
    )
    if (isRemembered) return []
    const id = `${letter(facilitator)}${index + 1}${attempt}`
    const sent: Transaction = { id, call: index, attempt, at: world.now, place: 'mempool', landedAt: 0 }
    return [
      {
        text: `facilitator ${letter(facilitator)} broadcasts ${id}`,
        to: { ...world, transactions: [...world.transactions, sent] },
      },
    ]
  })
}

type Answer = readonly [text: string, outcome: Outcome<'settle'>, mayAct: boolean, isAccounted: boolean]

/** What a facilitator may answer, by the truth or against it; whether it may broadcast afterwards, and accounts for itself. */
function answers(world: World, index: number, attempt: number, setup: Setup): Answer[] {
  const own = transactionBy(world, index, attempt)
  const isSpentByOthers = world.transactions.some(one => isIncluded(one) && one.id !== own?.id)
  const refusal = (errorReason: string, transaction = ''): SettleResponse => ({
    success: false,
    errorReason,
    transaction,
    network,
  })
  const all: Answer[] = [
    ['gives no usable answer', { kind: 'unknown', reason: '502' }, true, false],
    [
      'denies, in the protocol',
      {
        kind: 'declined',
        cause: 'trouble',
        reason: 'failed_to_execute_transfer',
        response: refusal('failed_to_execute_transfer'),
      },
      false,
      false,
    ],
  ]
  const rejection = {
    kind: 'answered',
    reason: 'insufficient_funds',
    response: refusal('insufficient_funds'),
  } as const
  // Where a second charge is possible, a refusal before processing has to be believed, or there is no failover at all.
  if (own === undefined || setup.isProtected) {
    all.push(['answers 401', { kind: 'declined', cause: 'credentials', reason: 'HTTP 401' }, false, false])
    all.push([
      'answers 429, and is not reached when it is asked once more',
      { kind: 'unreachable', reason: 'ECONNREFUSED', isUnconfirmed: true },
      false,
      false,
    ])
    all.push([
      'answers 429, and rejects the payment when it is asked once more',
      { ...rejection, isUnconfirmed: true },
      false,
      false,
    ])
  }
  if (own !== undefined && isIncluded(own))
    all.push([
      'answers success',
      { kind: 'answered', response: { success: true, transaction: own.id, network } },
      false,
      true,
    ])
  if (own !== undefined && !isIncluded(own))
    all.push([
      'reports that its transaction failed',
      { kind: 'unknown', reason: 'transaction_failed', transaction: own.id },
      false,
      true,
    ])
  if (own?.place === 'mempool')
    all.push([
      'answers pending',
      {
        kind: 'pending',
        reason: 'settlement_pending',
        response: refusal('settlement_pending', own.id),
        transaction: own.id,
      },
      false,
      true,
    ])
  if (setup.isAudited)
    all.push([
      'claims a success falsely',
      { kind: 'answered', response: { success: true, transaction: `false${attempt}`, network } },
      true,
      false,
    ])
  // Without a chain nobody could distinguish these from the truth, once it has acted.
  if (own === undefined || setup.hasChain) all.push(['rejects the payment', rejection, false, true])
  if (isSpentByOthers && setup.isProtected) {
    all.push([
      'reports that it was used before',
      { kind: 'spent', reason: 'nonce_already_used', response: refusal('nonce_already_used') },
      false,
      true,
    ])
    all.push([
      'cannot simulate it',
      {
        kind: 'declined',
        cause: 'simulation',
        reason: 'simulation_failed',
        response: refusal('simulation_failed'),
      },
      false,
      true,
    ])
  }
  if (own === undefined)
    all.push(['is not reached', { kind: 'unreachable', reason: 'ECONNREFUSED' }, false, true])
  return all
}

function chainAnswers(world: World): (readonly [text: string, answer: ProbeAnswer, blockAt: number])[] {
  const answerAsOf = (time: number): ProbeAnswer => {
    const included = world.transactions.find(one => isIncluded(one) && one.landedAt <= time)
    if (included === undefined) return { state: 'unspent', asOf: time / 1000 }
    if (included.place === 'mined') return { state: 'cannot-tell', reason: 'not final yet', isMined: true }
    return { state: 'paid', transaction: included.id, minedAt: included.landedAt / 1000, asOf: time / 1000 }
  }
  const shown = ({ state }: ProbeAnswer) => (state === 'cannot-tell' ? 'paid, though not for good' : state)
  const truth = answerAsOf(world.now)
  const lagging = answerAsOf(world.now - lagMs)
  return [
    [`the chain shows it ${shown(truth)}`, truth, world.now],
    [`a node that is behind shows it ${shown(lagging)}`, lagging, world.now - lagMs],
    ['the node is silent', { state: 'cannot-tell', reason: 'silent' }, 0],
  ]
}

/** Time passes, until somebody waits no longer; `undefined` when nothing is to come. */
function pass(world: World, setup: Setup): World | undefined {
  const { tickMs, horizonMs } = timesOf(setup)
  const now = world.now + tickMs
  const isRunning = world.calls.some(({ phase }) => phase === 'running' || phase === 'waiting')
  if (now > horizonMs || !isRunning) return undefined
  const transactions = world.transactions.filter(one => one.place !== 'mempool' || mayLand(world, one, now))
  let later: World = { ...world, now, transactions }
  world.calls.forEach((call, index) => {
    if (call.phase !== 'running' || call.machine === undefined) return
    const open = call.machine.attempts.flatMap(({ kind }, at) => (kind === 'open' ? [at] : []))
    // An attempt ends by the deadline itself; without a chain nothing else ends the wait.
    if (!setup.hasChain && open.length > 0 && now >= call.machine.rules.deadline)
      for (const attempt of open) {
        const outcome = { kind: 'unknown', reason: 'timeout' } as const
        later = feed(later, index, { kind: 'ended', attempt, outcome }, setup)
      }
    else if (wakesAt(call.machine) <= now) later = feed(later, index, { kind: 'tick' }, setup)
  })
  return later
}

/** The driver: gives the machine an event, and performs its actions. */
function feed(world: World, index: number, first: Event, setup: Setup): World {
  let next = world
  const queue: Event[] = [first]
  for (let event = queue.shift(); event !== undefined; event = queue.shift()) {
    const call = next.calls[index] as Call
    if (call.phase !== 'running' || call.machine === undefined) return next
    const [machine, actions] = step(call.machine, event, next.now)
    next = change(next, index, { machine })
    for (const action of actions) next = perform(next, index, action, queue, setup)
  }
  return next
}

function perform(world: World, index: number, action: Action, queue: Event[], setup: Setup): World {
  const call = world.calls[index] as Call
  switch (action.kind) {
    case 'ask-next': {
      const route = action.isAnew ? restart(call, setup) : call.route
      const [facilitator, ...rest] = route
      if (facilitator === undefined) {
        queue.push({ kind: 'route-empty' })
        return world
      }
      return ask(change(world, index, { route: rest }), index, facilitator, queue, action.isAnew)
    }
    case 'ask-again':
      return ask(world, index, call.asked[action.attempt] as number, queue, false)
    case 'ask-chain':
      return change(world, index, { isAsking: true })
    case 'accuse': {
      const isFalse = action.transaction.startsWith('false')
      return isFalse ? world : { ...world, violation: 'an honest facilitator is quarantined' }
    }
    case 'end-route':
      return change(world, index, { hasEndedRoute: true })
    case 'overtake':
      return world
    case 'conclude':
      return conclude(world, index, action.conclusion)
  }
}

function restart({ asked, machine }: Call, { facilitators }: Setup): number[] {
  const isOpen = (facilitator: number) =>
    machine?.attempts.some(({ kind }, attempt) => kind === 'open' && asked[attempt] === facilitator)
  return Array.from({ length: facilitators }, (_, at) => at).filter(at => !isOpen(at))
}

function ask(world: World, index: number, facilitator: number, queue: Event[], isAnew: boolean): World {
  const call = world.calls[index] as Call
  const { machine, asked } = call
  queue.push({ kind: 'asking' })
  const next = change(world, index, {
    asked: [...asked, facilitator],
    mayAct: [...call.mayAct, true],
    isAccounted: [...call.isAccounted, false],
  })
  const blame = (violation: string): World => ({ ...next, violation })
  if (machine === undefined) return next
  if (world.now >= machine.rules.deadline) return blame('an attempt begins after the deadline (invariant 6)')
  if (machine.attempts.some(({ kind }) => kind === 'rejected' || kind === 'spent'))
    return blame('another facilitator is asked after a verdict (invariant 4)')
  const shown = machine.unspent
  if (isAnew && (shown === undefined || shown.blockAt <= machine.changedAt))
    return blame('a facilitator is asked again blindly')
  return next
}

/** The settlement's end, as `flows/settle.ts` records it. */
function conclude(world: World, index: number, conclusion: Conclusion): World {
  const after = stateAfter(conclusion)
  const isHeld = world.entry?.state === 'settling' && world.entry.by === index
  const isAbout = world.calls.flatMap(({ machine }, at) => (machine === undefined ? [] : [at]))
  const ended = change(world, index, {
    phase: 'ended',
    isAsking: false,
    conclusion: isHeld ? conclusion : undefined,
    isAbout,
  })
  const { attempts = [], patienceEndsAt = 0 } = world.calls[index]?.machine ?? {}
  const isHasty =
    conclusion.kind === 'recovered' &&
    conclusion.transaction === 'theirs' &&
    attempts.at(-1)?.kind === 'open' &&
    world.now < patienceEndsAt
  if (isHasty)
    return { ...ended, violation: "another process's charge is delivered before an attempt had its time" }
  return isHeld
    ? {
        ...ended,
        entry: after,
        own: after.state === 'unresolved' || after.state === 'settled' ? after : undefined,
      }
    : ended
}

function stateAfter(conclusion: Conclusion): Exclude<SettlementState, { state: 'settling' }> {
  switch (conclusion.kind) {
    case 'settled':
      return { state: 'settled', transaction: conclusion.response.transaction }
    case 'recovered':
      return { state: 'settled', transaction: conclusion.transaction }
    case 'rejected':
      return { state: 'rejected', reason: 'rejected' }
    case 'failed':
      return { state: 'failed', wasSent: conclusion.wasSent }
    case 'indeterminate':
      return {
        state: 'unresolved',
        transaction: conclusion.transaction,
        ownTransactions: conclusion.ownTransactions,
      }
  }
}

/** The token accepts an authorization once; a scheme without protection charges every time. */
function land(world: World, transaction: Transaction, setup: Setup): World {
  const included = setup.hasReorganizations ? 'mined' : 'landed'
  const place = isSpent(world, setup) ? 'reverted' : included
  return move(world, transaction, { place, landedAt: world.now })
}

function takeBack(world: World, transaction: Transaction): World {
  return mayLand(world, transaction, world.now)
    ? move(world, transaction, { place: 'mempool', landedAt: 0 })
    : { ...world, transactions: world.transactions.filter(one => one !== transaction) }
}

function move(world: World, transaction: Transaction, changes: Partial<Transaction>): World {
  return {
    ...world,
    transactions: world.transactions.map(one => (one === transaction ? { ...one, ...changes } : one)),
  }
}

/** Whether it may reach a block: what somebody denies does so soon, or never. */
function mayLand(world: World, transaction: Transaction, now: number): boolean {
  const { call, attempt, at } = transaction
  const isDenied = call >= 0 && !(world.calls[call] as Call).mayAct[attempt] && !isNamed(world, transaction)
  return !isDenied || now <= at + denialLandsWithinMs
}

function isSpent(world: World, setup: Setup): boolean {
  return setup.isProtected && world.transactions.some(isIncluded)
}

function isIncluded({ place }: Transaction): boolean {
  return place === 'landed' || place === 'mined'
}

/** The invariants of a whole world. */
function judge(world: World): World {
  if (world.violation !== undefined) return world
  const violation = findViolation(world)
  return violation === undefined ? world : { ...world, violation }
}

function findViolation(world: World): string | undefined {
  const landed = world.transactions.filter(({ place }) => place === 'landed')
  const ours = landed.filter(({ call }) => call >= 0)
  const successes = world.calls.filter(
    ({ conclusion }) => conclusion?.kind === 'settled' || conclusion?.kind === 'recovered',
  )
  if (successes.length > 1) return 'two successes for one payment (invariant 1)'
  const isTheirs = successes.some(
    ({ conclusion }) => conclusion?.kind === 'recovered' && conclusion.transaction === 'theirs',
  )
  if (isTheirs && world.calls.every(({ isAccounted }) => isAccounted.every(Boolean)))
    return "a success by another process's charge (invariant 3)"
  if (successes.length > 0 && landed.length === 0) return 'a success without a charge (invariant 3)'
  if (ours.length > 1) return 'the buyer is charged twice'
  for (const { conclusion, machine, phase, isAbout } of world.calls) {
    if (phase === 'running' && machine !== undefined && world.now > machine.rules.deadline)
      return 'no end by the deadline (invariant 6)'
    if (conclusion === undefined || !ours.some(({ call }) => isAbout.includes(call))) continue
    if (conclusion.kind === 'rejected') return 'charged, and answered 402 (invariant 2)'
    if (conclusion.kind === 'failed' && conclusion.isProven)
      return 'charged, and reported that nothing was (invariant 2)'
  }
  return undefined
}

function transactionBy(world: World, call: number, attempt: number): Transaction | undefined {
  return world.transactions.find(one => one.call === call && one.attempt === attempt)
}

/** Whether the facilitator has reported that this transaction is its own. */
function isNamed(world: World, { call, attempt, id }: Transaction): boolean {
  const known = (world.calls[call] as Call).machine?.attempts[attempt]
  return known !== undefined && 'transaction' in known && known.transaction === id
}

function change(world: World, index: number, changes: Partial<Call>): World {
  return { ...world, calls: world.calls.map((call, at) => (at === index ? { ...call, ...changes } : call)) }
}

/** Equal for equal worlds, and short. */
export function keyOf({ now, calls, transactions, entry, own, violation }: World): string {
  const sent = transactions.map(({ id, at, place, landedAt }) => `${id}${at}${place}${landedAt}`)
  return `${now}|${calls.map(keyOfCall).join('|')}|${sent}|${keyOfEntry(entry)}|${keyOfEntry(own)}|${violation ?? ''}`
}

function keyOfCall({ phase, machine, asked, mayAct, route, isAsking, conclusion }: Call): string {
  if (machine === undefined) return phase
  const end =
    conclusion === undefined
      ? phase
      : `${conclusion.kind}${'transaction' in conclusion ? conclusion.transaction : ''}`
  const { attempts, unspent, question, repeat, rules, before, wasRefused } = machine
  const all = attempts.map((attempt, at) => {
    const detail = 'since' in attempt ? attempt.since : 'transaction' in attempt ? attempt.transaction : ''
    const reason =
      'response' in attempt ? attempt.response.transaction : 'reason' in attempt ? attempt.reason : ''
    return `${asked[at]}${mayAct[at] ? '+' : '-'}${attempt.kind}${detail}${reason}`
  })
  if (conclusion !== undefined || phase === 'crashed') return `${end};${all}`
  const shown = unspent && `${unspent.askedAt},${unspent.blockAt}`
  const asks = `${isAsking ? 'a' : ''}${question.kind[0]}${question.at},${machine.pauseMs}`
  const repeats = `${repeat?.attempt},${repeat?.at},${machine.repeatMs}`
  return `${end};${all};${route};${machine.route};${machine.patienceEndsAt};${machine.changedAt};${machine.headAt};${machine.rounds};${shown};${machine.wasMined}${wasRefused};${asks};${repeats};${rules.deadline};${keyOfEntry(before)}`
}

function keyOfEntry(entry: Entry | SettlementState | undefined): string {
  return entry === undefined ? '' : JSON.stringify(entry)
}

function letter(facilitator = 0): string {
  return 'ABC'[facilitator] ?? '?'
}
