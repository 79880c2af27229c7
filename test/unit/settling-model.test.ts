import type { SettleResponse } from '@x402/core/types'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  FacilitatorAggregator,
  type FacilitatorClientLike,
  MemoryLedger,
  type ProbeAnswer,
  type SettlementLedger,
} from '../../src/index.ts'
import { sharedLedger } from '../../src/ledger/index.ts'
import { untyped } from '../untyped.ts'
import {
  after,
  hanging,
  httpError,
  newPayload,
  payer,
  probeOf,
  refusal,
  refused,
  requirements,
  settled,
  supporting,
  valid,
} from './builders.ts'

/**
 * A model of the world around one payment: facilitators that act or not, and answer what they like; a chain that
 * accepts the authorization once; a node that knows it, lags, or is silent; a ledger that is late, or loses what it is
 * asked or what it answers; callers that send the payment whenever they like; and a `stop()` at any moment. Whatever
 * happens, the promises hold.
 */

/** Milliseconds, all of them. Long enough for a block that is fresh by the machine's margin of 3 s. */
const deadlineMs = 12_000
const timeoutMs = 4_000
/** A node that lags is behind by this long. */
const lagMs = 2_000
/** What a facilitator denies has landed within a block of its answer, or never does. */
const denialLandsWithinMs = 2_500
/** The granularity of timers. */
const graceMs = 400
/** What the calls of a ledger that does not answer cost one operation: a claim, an update twice, a read. */
const ledgerMs = 15_000

const answers = ['truth', 'hang', '502', 'garbage', 'unreached', '401', 'trouble', 'reject'] as const
interface Behaviour {
  /** The facilitator broadcasts; the transaction lands after this many ms, if it is the first. */
  readonly landsAfterMs: number | undefined
  /** What it answers. `truth`: success once its transaction has landed. `claim`: success by another transaction. */
  readonly answer: (typeof answers)[number] | 'pending' | 'failed' | 'claim'
  readonly answersAfterMs: number
}

const ledgerFaults = ['none', 'late', 'lost request', 'lost answer', 'late answer'] as const
interface Plan {
  readonly facilitators: readonly (readonly Behaviour[])[]
  /** What the node does at each question in turn. */
  readonly node: readonly ('truth' | 'lag' | 'silent')[]
  readonly hasProbe: boolean
  readonly audit: 'off' | 'sample' | 'always'
  /** What `Math.random` returns: by it a success is in the audited sample, or not. */
  readonly random: number
  readonly onRetry: 'deliver' | 'reject'
  /** What goes wrong with each call of the ledger in turn; the aggregator's own one where absent. */
  readonly ledger: readonly (typeof ledgerFaults)[number][] | undefined
  /** The ledger loses what is unresolved, at this time. */
  readonly forgetsAtMs: number | undefined
  readonly stop:
    | { readonly atMs: number; readonly inFlight: 'finish' | 'abort'; readonly restartsAfterMs: number }
    | undefined
  /** When each caller sends the payment (ms), and whether it verifies first as the middleware does. */
  readonly callers: readonly { readonly atMs: number; readonly verifies: boolean }[]
}

const behaviour: fc.Arbitrary<Behaviour> = fc.record({
  landsAfterMs: fc.option(fc.integer({ min: 0, max: 10_000 }), { nil: undefined, freq: 2 }),
  answer: fc.constantFrom<Behaviour['answer']>(...answers, 'truth', 'pending', 'failed', 'claim'),
  answersAfterMs: fc.integer({ min: 0, max: 3_000 }),
})

/** Within the bounds of what can be known: the chain accepts a block's delay, and without a chain verdicts are the truth. */
function knowable(one: Behaviour, plan: Pick<Plan, 'hasProbe' | 'audit' | 'random'>): Behaviour {
  const isAudited =
    plan.hasProbe && (plan.audit === 'always' || (plan.audit === 'sample' && plan.random < 0.1))
  const lands = one.landsAfterMs
  switch (one.answer) {
    case 'claim':
      return isAudited ? one : { ...one, answer: '502' }
    case 'reject':
      if (!plan.hasProbe) return { ...one, landsAfterMs: undefined }
      return { ...one, landsAfterMs: lands && lands % denialLandsWithinMs }
    case '401':
    case 'trouble':
      return { ...one, landsAfterMs: lands && lands % denialLandsWithinMs }
    case 'unreached':
      return { ...one, landsAfterMs: undefined }
    case 'pending':
      return { ...one, landsAfterMs: lands ?? 500 }
    default:
      return one
  }
}

function sometimes<T>(arbitrary: fc.Arbitrary<T>): fc.Arbitrary<T | undefined> {
  return fc.oneof({ weight: 2, arbitrary: fc.constant(undefined) }, { weight: 1, arbitrary })
}

const plan: fc.Arbitrary<Plan> = fc
  .record({
    facilitators: fc.array(fc.array(behaviour, { minLength: 1, maxLength: 3 }), {
      minLength: 1,
      maxLength: 3,
    }),
    node: fc.array(fc.constantFrom<Plan['node'][number]>('truth', 'truth', 'lag', 'silent'), {
      minLength: 1,
      maxLength: 12,
    }),
    hasProbe: fc.boolean(),
    audit: fc.constantFrom<Plan['audit']>('off', 'off', 'sample', 'always'),
    random: fc.constantFrom(0.05, 0.5),
    onRetry: fc.constantFrom<Plan['onRetry']>('deliver', 'deliver', 'reject'),
    ledger: sometimes(
      fc.array(fc.constantFrom(...ledgerFaults, 'none', 'none', 'none'), { minLength: 1, maxLength: 12 }),
    ),
    forgetsAtMs: sometimes(fc.integer({ min: 0, max: 30_000 })),
    stop: sometimes(
      fc.record({
        atMs: fc.integer({ min: 0, max: 20_000 }),
        inFlight: fc.constantFrom('finish', 'abort'),
        restartsAfterMs: fc.constantFrom(0, 1_000, 20_000),
      }),
    ),
    callers: fc.array(
      fc.record({
        atMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 24_000 })),
        verifies: fc.boolean(),
      }),
      { minLength: 1, maxLength: 5 },
    ),
  })
  .map(one => ({
    ...one,
    facilitators: one.facilitators.map(all => all.map(behaviour => knowable(behaviour, one))),
    // What one process remembers of a lost entry does not outlast the loss of an answer too.
    ledger: one.ledger && (one.forgetsAtMs === undefined ? one.ledger : (['none'] as const)),
  }))

/** What a buyer may count on: an honest facilitator among any others, a node that answers every fourth question, and a ledger. */
const payable: fc.Arbitrary<Plan> = fc
  .record({
    plan,
    at: fc.nat({ max: 3 }),
    landsAfterMs: fc.nat({ max: 1_500 }),
    answersAfterMs: fc.nat({ max: 900 }),
    silences: fc.nat({ max: 2 }),
  })
  .map(({ plan: one, at, landsAfterMs, answersAfterMs, silences }) => {
    const others = one.facilitators.map(all => all.map(willing))
    const honest: Behaviour[] = [{ landsAfterMs, answer: 'truth', answersAfterMs }]
    return {
      ...one,
      facilitators: others.toSpliced(Math.min(at, others.length), 0, honest),
      node: one.node.flatMap(mood => [...Array<'silent'>(silences).fill('silent'), mood, 'truth'] as const),
      hasProbe: true,
      onRetry: 'deliver',
      ledger: undefined,
      forgetsAtMs: undefined,
      stop: undefined,
      callers: one.callers.slice(0, 1),
    }
  })

function willing(one: Behaviour): Behaviour {
  // A verdict is final.
  if (one.answer === 'reject') return { ...one, answer: 'trouble' }
  // What is paid by another transaction than the named one is announced as unattributed, and not delivered.
  return one.answer === 'claim' ? { ...one, landsAfterMs: undefined } : one
}

/** So many false claims that no time is left for the honest one before the deadline. */
const onlyByRetry: Plan = {
  facilitators: [
    ...Array.from(
      { length: 3 },
      () => [{ landsAfterMs: undefined, answer: 'claim', answersAfterMs: 2_000 }] as const,
    ),
    [{ landsAfterMs: 1_000, answer: 'truth', answersAfterMs: 0 }],
  ],
  node: ['truth'],
  hasProbe: true,
  audit: 'always',
  random: 0.5,
  onRetry: 'deliver',
  ledger: undefined,
  forgetsAtMs: undefined,
  stop: undefined,
  callers: [{ atMs: 0, verifies: true }],
}

class World {
  /** When the payment landed on the chain; by which transaction. */
  landed: { readonly attempt: number; readonly atMs: number; readonly transaction: string } | undefined
  /** How many attempts have begun; each is known by its number. */
  attempts = 0
  /** The latest attempt of each call, known by the object of its requirements. */
  readonly attemptOf = new WeakMap<object, number>()
  /** When each call was given a verdict about the payment. */
  readonly #verdictAt = new WeakMap<object, number>()
  /** Broadcast, and not yet in a block. */
  mempool = 0
  readonly falseClaims = new Set<string>()
  #transactions = 0
  #questions = 0
  #ledgerCalls = 0
  readonly #startedAt = performance.now()

  constructor(readonly plan: Plan) {}

  /** What was wrong where an exception would be taken for a facilitator's, or for a listener's. */
  readonly violations: string[] = []

  check(isRight: boolean, violation: string): void {
    if (!isRight) this.violations.push(violation)
  }

  now(): number {
    return performance.now() - this.#startedAt
  }

  facilitator(id: string, behaviours: readonly Behaviour[], onAttempt: () => void): FacilitatorClientLike {
    let calls = 0
    return {
      verify: async () =>
        this.landed === undefined
          ? valid
          : { isValid: false, invalidReason: 'invalid_exact_evm_nonce_already_used' },
      getSupported: () => supporting(),
      settle: (_payload, terms, options) => {
        onAttempt()
        this.check(this.attemptOf.has(terms), 'requirements that no caller gave')
        this.attemptOf.set(terms, ++this.attempts)
        // Invariant 4.
        const verdictAt = this.#verdictAt.get(terms) ?? Number.POSITIVE_INFINITY
        this.check(this.now() <= verdictAt, 'an attempt after a verdict')
        const one = behaviours[Math.min(calls++, behaviours.length - 1)] as Behaviour
        return this.#settle(id, one).then(answer => {
          // One that comes after the time of its attempt is not heard.
          const isHeard = options?.signal?.aborted !== true
          if (isHeard && answer.errorReason === 'insufficient_funds') this.#verdictAt.set(terms, this.now())
          return answer
        })
      },
    }
  }

  async #settle(id: string, { landsAfterMs, answer, answersAfterMs }: Behaviour): Promise<SettleResponse> {
    if (this.landed !== undefined && !['hang', 'unreached', 'claim'].includes(answer))
      return refusal('invalid_exact_evm_nonce_already_used')
    const transaction = `0x${(++this.#transactions).toString(16).padStart(64, '0')}`
    const landing = landsAfterMs === undefined ? undefined : this.#broadcast(transaction, landsAfterMs)
    await after(answersAfterMs)
    switch (answer) {
      case 'hang':
        return hanging()
      case '502':
        throw httpError(502)
      case '401':
        throw httpError(401)
      case 'garbage':
        return untyped<SettleResponse>('garbage')
      case 'unreached':
        throw refused()
      case 'trouble':
        return refusal('failed_to_execute_transfer')
      case 'reject':
        return refusal('insufficient_funds')
      case 'failed':
        return refusal('invalid_exact_evm_transaction_failed', transaction)
      case 'pending':
        return refusal('settlement_pending', transaction)
      case 'claim':
        this.falseClaims.add(id)
        return { ...settled, transaction: `0x${'fa'.repeat(32)}` }
      case 'truth': {
        if (landing === undefined) return refusal('failed_to_execute_transfer')
        return (await landing)
          ? { ...settled, transaction }
          : refusal('invalid_exact_evm_transaction_failed', transaction)
      }
    }
  }

  /** The token accepts an authorization once. */
  async #broadcast(transaction: string, landsAfterMs: number): Promise<boolean> {
    const attempt = this.attempts
    this.mempool++
    await after(landsAfterMs)
    this.mempool--
    if (this.landed !== undefined) return false
    this.landed = { attempt, atMs: this.now(), transaction }
    return true
  }

  ask(): ProbeAnswer {
    const { node } = this.plan
    const mood = node[this.#questions++ % node.length]
    if (mood === 'silent') return { state: 'cannot-tell', reason: 'silent' }
    const behindMs = mood === 'lag' ? lagMs : 0
    const asOf = (Date.now() - behindMs) / 1000
    const ageMs = this.landed === undefined ? -1 : this.now() - this.landed.atMs - behindMs
    if (this.landed === undefined || ageMs < 0) return { state: 'unspent', asOf }
    return { state: 'paid', transaction: this.landed.transaction, payer, minedAt: asOf - ageMs / 1000, asOf }
  }

  /** The ledger of the plan, and what makes it lose its unresolved entries. */
  ledger(faults: NonNullable<Plan['ledger']>): { ledger: SettlementLedger; forget(): Promise<void> } {
    let inner = new MemoryLedger()
    const call = async <T>(work: () => Promise<T>): Promise<T> => {
      const fault = faults[this.#ledgerCalls++ % faults.length]
      if (fault === 'late') await after(3_000)
      if (fault === 'lost request') throw new Error('connection refused')
      const answer = await work()
      if (fault === 'late answer') await after(6_000)
      if (fault === 'lost answer') throw new Error('connection reset')
      return answer
    }
    return {
      ledger: sharedLedger({
        claim: request => call(() => inner.claim(request)),
        update: update => call(() => inner.update(update)),
        get: key => call(() => inner.get(key)),
        list: filter => call(() => inner.list(filter)),
      }),
      forget: async () => {
        const { entries } = await inner.list({ states: ['unresolved'], limit: 1 })
        if (entries.length > 0) inner = new MemoryLedger()
      },
    }
  }
}

const codes = {
  SETTLEMENT_INDETERMINATE: 'indeterminate',
  SETTLEMENT_IN_PROGRESS: 'in progress',
  ALL_FACILITATORS_FAILED: 'failed',
  /** All of them are quarantined. */
  NO_ELIGIBLE_FACILITATOR: 'failed',
  LEDGER_FAILED: 'ledger failed',
  AGGREGATOR_STOPPED: 'stopped',
} as const

interface Result {
  readonly kind: 'success' | 'refused' | 'duplicate' | 'invalid' | (typeof codes)[keyof typeof codes]
  readonly startedAt: number
  readonly endedAt: number
  /** It was reported that nothing was charged by this attempt or an earlier one. */
  readonly unchargedUpTo: number | undefined
}

/** The payment and the aggregator of a plan. */
function enact(world: World) {
  const { facilitators, hasProbe, audit, onRetry, ledger: faults, forgetsAtMs, stop, callers } = world.plan
  const slowMs = faults === undefined ? 0 : ledgerMs
  /** Only one claim is granted at a time, so the latest caller's deadline bounds every attempt. */
  let lastAttemptAt = 0
  let isStopped = false
  const onAttempt = () => {
    lastAttemptAt = world.now()
    world.check(!isStopped, 'an attempt after stop()')
  }
  const made = faults && world.ledger(faults)
  const aggregator = new FacilitatorAggregator({
    facilitators: facilitators.map((one, index) => ({
      id: `f${index}`,
      client: world.facilitator(`f${index}`, one, onAttempt),
    })),
    healthCheck: false,
    retries: 0,
    timeoutMs,
    deadlineMs,
    maxLogEntries: 0,
    settlement: {
      probes: hasProbe ? [probeOf(() => world.ask())] : [],
      ...(made === undefined ? {} : { ledger: made.ledger }),
      audit: hasProbe ? audit : 'off',
      onRetry,
      probeAfterMs: 500,
      failoverAfterMs: 1_500,
    },
  })
  aggregator.on('facilitator:quarantined', ({ facilitator }) =>
    world.check(world.falseClaims.has(facilitator), 'an honest facilitator is quarantined'),
  )
  const payment = newPayload()

  async function send(verifies: boolean): Promise<Result> {
    const startedAt = world.now()
    const terms = requirements()
    world.attemptOf.set(terms, world.attempts)
    const end = (kind: Result['kind'], isUncharged = false): Result => ({
      kind,
      startedAt,
      endedAt: world.now(),
      unchargedUpTo: isUncharged ? world.attemptOf.get(terms) : undefined,
    })
    try {
      if (verifies && !(await aggregator.verify(payment, terms)).isValid) return end('invalid')
      const answer = await aggregator.settle(payment, terms)
      if (answer.success) {
        expect(world.landed?.transaction, 'the transaction that paid').toBe(answer.transaction)
        return end('success')
      }
      return end(answer.errorReason === 'duplicate_settlement' ? 'duplicate' : 'refused')
    } catch (error) {
      const { code, message } = error as { code?: keyof typeof codes; message: string }
      if (code === undefined || !(code in codes)) throw error
      return end(codes[code], codes[code] === 'failed' && message.includes('nothing was charged'))
    }
  }

  async function stopAt({ atMs, inFlight, restartsAfterMs }: NonNullable<Plan['stop']>): Promise<void> {
    await after(atMs)
    isStopped = inFlight === 'abort'
    const startedAt = world.now()
    await aggregator.stop({ inFlight })
    isStopped = true
    const longestMs = inFlight === 'abort' ? 0 : deadlineMs * 2
    expect(world.now() - startedAt, 'the duration of stop()').toBeLessThanOrEqual(
      longestMs + slowMs + graceMs,
    )
    await after(restartsAfterMs)
    isStopped = false
    aggregator.start()
  }

  async function play(): Promise<Result[]> {
    if (made !== undefined && forgetsAtMs !== undefined) void after(forgetsAtMs).then(made.forget)
    const stopping = stop && stopAt(stop)
    const results = await Promise.all(
      callers.map(async ({ atMs, verifies }) => {
        await after(atMs)
        return send(verifies)
      }),
    )
    await stopping
    // Invariant 6.
    for (const { startedAt, endedAt } of results)
      expect(endedAt - startedAt, 'the duration of a call').toBeLessThanOrEqual(
        deadlineMs * 2 + slowMs + graceMs,
      )
    const lastCallAt = Math.max(...results.map(({ startedAt }) => startedAt))
    expect(lastAttemptAt, 'the last attempt').toBeLessThanOrEqual(lastCallAt + deadlineMs * 2 + slowMs)
    return results
  }
  return { play, send }
}

/** Lets time pass until the work is done, and everything that was broadcast has landed. */
async function timePasses<T>(world: World, work: Promise<T>): Promise<T> {
  let isDone = false
  const end = () => {
    isDone = true
  }
  work.then(end, end)
  for (let passedMs = 0; passedMs < 200_000 && !(isDone && world.mempool === 0); passedMs += 2_500)
    await vi.advanceTimersByTimeAsync(2_500)
  expect(isDone, 'everything ends').toBe(true)
  expect(world.violations).toEqual([])
  return work
}

let random = 0.5

beforeEach(() => {
  vi.useFakeTimers()
  vi.spyOn(Math, 'random').mockImplementation(() => random)
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.useRealTimers()
})

describe('whatever facilitators, node, ledger and callers do', () => {
  it('one payment has one success, is never lost, never delivered unpaid, and ends in time', {
    timeout: 300_000,
  }, async () => {
    const seen: Record<Result['kind'], number> = {
      success: 0,
      refused: 0,
      duplicate: 0,
      invalid: 0,
      indeterminate: 0,
      'in progress': 0,
      failed: 0,
      'ledger failed': 0,
      stopped: 0,
    }
    let uncharged = 0
    let falseClaims = 0
    await fc.assert(
      fc.asyncProperty(plan, async one => {
        random = one.random
        const world = new World(one)
        const results = await timePasses(world, enact(world).play())
        vi.clearAllTimers()
        for (const { kind } of results) seen[kind]++
        const successes = results.filter(({ kind }) => kind === 'success')
        // Invariant 1.
        expect(successes.length).toBeLessThanOrEqual(1)
        // Invariant 2: who is refused (402) was not charged, by then or later.
        if (results.some(({ kind }) => kind === 'refused')) expect(world.landed).toBeUndefined()
        // Nor is it a duplicate before it was delivered, rejected, or left to the seller.
        const isDuplicate = results.some(({ kind }) => kind === 'duplicate' || kind === 'invalid')
        if (isDuplicate && one.onRetry === 'deliver' && one.ledger === undefined)
          expect(results.some(({ kind }) => kind === 'success' || kind === 'refused')).toBe(true)
        // Nor who reads that nothing was charged, unless the payment is sent to a facilitator once more.
        for (const { unchargedUpTo } of results) {
          if (unchargedUpTo === undefined) continue
          uncharged++
          if (world.landed !== undefined) expect(world.landed.attempt).toBeGreaterThan(unchargedUpTo)
        }
        if (world.falseClaims.size > 0) falseClaims++
        // What was left unresolved is the seller's to deliver, and not a retry's.
        const [unresolved] = results.filter(({ kind }) => kind === 'indeterminate')
        if (one.onRetry === 'reject' && one.ledger === undefined && unresolved !== undefined)
          expect(successes.filter(({ startedAt }) => startedAt > unresolved.endedAt)).toEqual([])
      }),
      { numRuns: 10_000 },
    )
    for (const [kind, count] of Object.entries({ ...seen, uncharged, falseClaims }))
      expect(count, kind).toBeGreaterThan(100)
  })
})

/** How often a buyer sends an unresolved payment again. */
const retries = 5

describe('a payment that nobody rejects', () => {
  it(`is delivered, or by one of ${retries} retries, where one facilitator is honest and the node answers every fourth question`, {
    timeout: 300_000,
  }, async () => {
    const deliveredBy = { 'a caller': 0, 'a retry': 0 }
    await fc.assert(
      fc.asyncProperty(payable, async one => {
        random = one.random
        const world = new World(one)
        const { play, send } = enact(world)
        let results = await timePasses(world, play())
        let sent = 0
        const isDelivered = () => results.some(({ kind }) => kind === 'success')
        if (isDelivered()) deliveredBy['a caller']++
        else deliveredBy['a retry']++
        while (!isDelivered() && sent++ < retries) results = [...results, await timePasses(world, send(true))]
        vi.clearAllTimers()
        expect(results.filter(({ kind }) => kind === 'success')).toHaveLength(1)
      }),
      { numRuns: 2_000, examples: [[onlyByRetry]] },
    )
    for (const [who, count] of Object.entries(deliveredBy)) expect(count, who).toBeGreaterThan(0)
  })
})
