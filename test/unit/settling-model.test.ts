import type { SettleResponse } from '@x402/core/types'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { FacilitatorAggregator, type FacilitatorClientLike, type ProbeAnswer } from '../../src/index.ts'
import {
  httpError,
  newPayload,
  paid,
  refusal,
  refused,
  requirements,
  settled,
  supporting,
  valid,
} from './builders.ts'

/**
 * A model of the world around one payment: facilitators that act or not, and answer as they can; a chain that
 * accepts the authorization once; a node that knows it, lags, or is silent; and callers that send the payment
 * whenever they like. Whatever happens, the promises hold.
 */

const deadlineMs = 2_000
/** A pause before the last question is answered, and the granularity of timers. */
const graceMs = 400

interface Behaviour {
  /** The facilitator broadcasts; the transaction lands after this many ms, if it is the first. */
  readonly landsAfterMs: number | undefined
  /** What it answers, if it did not broadcast or its transaction did not land: only a success needs one. */
  readonly answer:
    | 'truth'
    | 'hang'
    | '502'
    | 'garbage'
    | 'refuse'
    | 'trouble'
    | 'reject'
    | 'pending'
    | 'spent'
  readonly answersAfterMs: number
}

interface Script {
  readonly facilitators: readonly (readonly Behaviour[])[]
  /** What the node does at each question in turn. */
  readonly node: readonly ('truth' | 'lag' | 'silent')[]
  readonly hasProbe: boolean
  /** When each caller sends the payment (ms), and whether it verifies first as the middleware does. */
  readonly callers: readonly { readonly atMs: number; readonly verifies: boolean }[]
}

const behaviour: fc.Arbitrary<Behaviour> = fc
  .record({
    landsAfterMs: fc.option(fc.integer({ min: 0, max: 2_500 }), { nil: undefined, freq: 2 }),
    answer: fc.constantFrom<Behaviour['answer']>(
      'truth',
      'truth',
      'hang',
      '502',
      'garbage',
      'refuse',
      'trouble',
      'reject',
      'pending',
      'spent',
    ),
    answersAfterMs: fc.integer({ min: 0, max: 900 }),
  })
  // Who refuses, rejects or is in trouble has not broadcast, and who is pending has: those are the honest faults.
  .map(one => {
    if (['refuse', 'reject', 'trouble', 'spent'].includes(one.answer))
      return { ...one, landsAfterMs: undefined }
    return one.answer === 'pending' ? { ...one, landsAfterMs: one.landsAfterMs ?? 500 } : one
  })

const script: fc.Arbitrary<Script> = fc.record({
  facilitators: fc.array(fc.array(behaviour, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }),
  node: fc.array(fc.constantFrom<'truth' | 'lag' | 'silent'>('truth', 'truth', 'lag', 'silent'), {
    minLength: 1,
    maxLength: 12,
  }),
  hasProbe: fc.boolean(),
  callers: fc.array(
    fc.record({ atMs: fc.oneof(fc.constant(0), fc.integer({ min: 0, max: 4_000 })), verifies: fc.boolean() }),
    { minLength: 1, maxLength: 5 },
  ),
})

class World {
  /** When the payment landed on the chain; by which transaction. */
  landed: { readonly atMs: number; readonly transaction: string } | undefined
  transactions = 0
  questions = 0
  readonly startedAt = performance.now()

  now(): number {
    return performance.now() - this.startedAt
  }

  facilitator(behaviours: readonly Behaviour[], onAttempt: () => void): FacilitatorClientLike {
    let calls = 0
    return {
      verify: async () =>
        this.landed === undefined
          ? valid
          : { isValid: false, invalidReason: 'invalid_exact_evm_nonce_already_used' },
      getSupported: () => supporting(),
      settle: () => {
        onAttempt()
        return this.settle(behaviours[Math.min(calls++, behaviours.length - 1)] ?? behaviours[0])
      },
    }
  }

  async settle(behaviour: Behaviour | undefined): Promise<SettleResponse> {
    const { landsAfterMs, answer, answersAfterMs } = behaviour ?? {
      landsAfterMs: undefined,
      answer: '502',
      answersAfterMs: 0,
    }
    if (this.landed !== undefined && answer !== 'hang' && answer !== 'refuse')
      return refusal('invalid_exact_evm_nonce_already_used')
    const transaction = `0x${(++this.transactions).toString(16).padStart(64, '0')}`
    const landing =
      landsAfterMs === undefined ? undefined : sleep(landsAfterMs).then(() => this.land(transaction))
    await sleep(answersAfterMs)
    switch (answer) {
      case 'hang':
        return new Promise(() => {})
      case '502':
        throw httpError(502)
      case 'garbage':
        return 'garbage' as never
      case 'refuse':
        throw refused()
      case 'trouble':
        return refusal('failed_to_execute_transfer')
      case 'reject':
        return refusal('insufficient_funds')
      case 'spent':
        return refusal('invalid_exact_evm_transaction_failed', transaction)
      case 'pending':
        return refusal('settlement_pending', transaction)
      case 'truth': {
        if (landing === undefined) return refusal('failed_to_execute_transfer')
        const isOurs = await landing
        return isOurs
          ? { ...settled, transaction }
          : refusal('invalid_exact_evm_transaction_failed', transaction)
      }
    }
  }

  /** The token accepts an authorization once. */
  land(transaction: string): boolean {
    if (this.landed !== undefined) return false
    this.landed = { atMs: this.now(), transaction }
    return true
  }

  ask(node: Script['node']): ProbeAnswer {
    const mood = node[this.questions++ % node.length]
    if (mood === 'silent') return { state: 'cannot-tell', reason: 'silent' }
    const { landed } = this
    const asOf = (Date.now() - (mood === 'lag' ? 500 : 0)) / 1000
    if (landed === undefined || (mood === 'lag' && this.now() - landed.atMs < 500))
      return { state: 'unspent', asOf }
    return { ...paid, transaction: landed.transaction }
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

type Told = {
  readonly kind: 'success' | 'refused' | 'duplicate' | 'unavailable' | 'invalid'
  readonly tookMs: number
}

async function play(world: World, { facilitators, node, hasProbe, callers }: Script): Promise<Told[]> {
  let deadline = Number.POSITIVE_INFINITY
  const onAttempt = () => expect(world.now()).toBeLessThanOrEqual(deadline + 1)
  const aggregator = new FacilitatorAggregator({
    facilitators: facilitators.map((one, index) => ({
      id: `f${index}`,
      client: world.facilitator(one, onAttempt),
    })),
    healthCheck: false,
    retries: 0,
    timeoutMs: 1_000,
    deadlineMs,
    maxLogEntries: 0,
    settlement: {
      probes: hasProbe ? [{ supports: () => true, ask: async () => world.ask(node) }] : [],
      probeAfterMs: 150,
      failoverAfterMs: 300,
    },
  })
  const payment = newPayload()
  // Only one claim is granted at a time, so the latest caller's deadline bounds every attempt.
  deadline = Math.max(...callers.map(({ atMs }) => atMs)) + deadlineMs
  return Promise.all(
    callers.map(async ({ atMs, verifies }): Promise<Told> => {
      await sleep(atMs)
      const startedAt = world.now()
      const told = (kind: Told['kind']): Told => ({ kind, tookMs: world.now() - startedAt })
      try {
        if (verifies && !(await aggregator.verify(payment, requirements())).isValid) return told('invalid')
        const answer = await aggregator.settle(payment, requirements())
        if (answer.success) {
          expect(world.landed?.transaction).toBe(answer.transaction)
          return told('success')
        }
        return told(answer.errorReason === 'duplicate_settlement' ? 'duplicate' : 'refused')
      } catch {
        return told('unavailable')
      }
    }),
  )
}

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

describe('whatever facilitators, node and callers do', () => {
  it('one payment has one success, is never lost, never delivered unpaid, and ends in time', {
    timeout: 300_000,
  }, async () => {
    const seen = { success: 0, refused: 0, duplicate: 0, unavailable: 0, invalid: 0 }
    await fc.assert(
      fc.asyncProperty(script, async plan => {
        const world = new World()
        const telling = play(world, plan)
        telling.catch(() => {})
        for (let ms = 0; ms < 10_000; ms += 2_500) await vi.advanceTimersByTimeAsync(2_500)
        const told = await telling
        vi.clearAllTimers()
        for (const { kind } of told) seen[kind]++
        // Invariant 1.
        expect(told.filter(({ kind }) => kind === 'success').length).toBeLessThanOrEqual(1)
        // Invariant 2: who is refused (402) was not charged, by then or later.
        if (told.some(({ kind }) => kind === 'refused')) expect(world.landed).toBeUndefined()
        // Invariant 6.
        for (const { tookMs } of told) expect(tookMs).toBeLessThanOrEqual(deadlineMs * 2 + graceMs)
      }),
      { numRuns: 10_000 },
    )
    for (const [kind, count] of Object.entries(seen)) expect(count, kind).toBeGreaterThan(100)
  })
})
