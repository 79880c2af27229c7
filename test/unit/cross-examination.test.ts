import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import type {
  AggregatorEvents,
  AggregatorOptions,
  DryRun,
  FacilitatorAggregator,
  ProbeAnswer,
} from '../../src/index.ts'
import { MemoryLedger } from '../../src/index.ts'
import {
  after,
  aggregatorOf,
  done,
  FakeFacilitator,
  hanging,
  httpError,
  network,
  newPayload,
  outcome,
  paid,
  payer,
  payloadV1,
  refusal,
  refused,
  requirements,
  requirementsV1,
  type SettlementByReaders,
  settled,
  unspent,
  valid,
} from './builders.ts'

type Answer = DryRun | (() => DryRun | Promise<DryRun>)

let questions: string[] = []
/** When each was asked, in ms. */
let askedAt: number[] = []
let contradicted: AggregatorEvents['facilitator:contradicted'][] = []
let aggregator: FacilitatorAggregator

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] })
  questions = []
  askedAt = []
  contradicted = []
})
afterEach(async () => {
  await aggregator?.stop({ inFlight: 'abort' })
  vi.useRealTimers()
})

/** Two facilitators, and a chain that would do this with a payment. */
function pool(
  answer: Answer,
  settlement: SettlementByReaders = {},
  found: () => ProbeAnswer = () => unspent,
  options: Partial<AggregatorOptions> = {},
): { first: FakeFacilitator; second: FakeFacilitator } {
  const pooled = { first: new FakeFacilitator(), second: new FakeFacilitator() }
  const probe = {
    supports: () => true,
    ask: async () => found(),
    wouldAccept: async ({ query }: { readonly query: { readonly network: string } }) => {
      questions.push(query.network)
      askedAt.push(performance.now())
      return typeof answer === 'function' ? answer() : answer
    },
  }
  aggregator = aggregatorOf(pooled, { probes: [probe], ...settlement }, { retries: 0, ...options })
  aggregator.on('facilitator:contradicted', event => contradicted.push(event))
  return pooled
}

const invalid = (invalidReason: string, invalidMessage?: string) => ({
  isValid: false,
  invalidReason,
  ...(invalidMessage !== undefined && { invalidMessage }),
  payer,
})
const verify = (payment = newPayload()) => done(aggregator.verify(payment, requirements()))
const settle = (payment = newPayload()) => done(outcome(aggregator.settle(payment, requirements())))
const lane = (operation: string) =>
  aggregator.getHealthStatus().facilitators[0]?.lanes.find(one => one.operation === operation)

describe('a rejection that the chain contradicts', () => {
  it('at verify sends the payment to the next facilitator, and is reported', async () => {
    const { first, second } = pool('accepts')
    first.verifyAnswer = invalid('invalid_payload')
    expect(await verify()).toEqual(valid)
    expect([first.calls.verify, second.calls.verify]).toEqual([1, 1])
    expect(contradicted).toEqual([
      { facilitator: 'first', operation: 'verify', network, reason: 'invalid_payload' },
    ])
  })

  it('at settle sends the payment to the next facilitator, and is reported', async () => {
    const { first } = pool('accepts')
    first.settleAnswer = refusal('insufficient_funds')
    expect(await settle()).toBe('success')
    expect(contradicted).toEqual([
      { facilitator: 'first', operation: 'settle', network, reason: 'insufficient_funds' },
    ])
  })

  it('is found for payments of version 1 too, by the name of their network', async () => {
    const { first } = pool('accepts')
    first.verifyAnswer = invalid('insufficient_funds')
    expect(await done(aggregator.verify(payloadV1(), requirementsV1()))).toEqual(valid)
    expect(questions).toEqual([network])
    expect(contradicted[0]?.network).toBe('base-sepolia')
  })

  it.each(['verify', 'settle'] as const)(
    'at %s counts against the lane, until it is asked last',
    async operation => {
      const { first, second } = pool('accepts')
      first.verifyAnswer = invalid('invalid_exact_evm_signature')
      first.settleAnswer = refusal('invalid_exact_evm_signature')
      for (let payments = 0; payments < 4; payments++) await (operation === 'verify' ? verify() : settle())
      expect([first.calls[operation], second.calls[operation]]).toEqual([3, 4])
      expect(lane(operation)).toMatchObject({ circuit: 'open' })
      expect(questions).toHaveLength(3)
    },
  )

  it('is an attempt that the facilitator declined, as events and statistics say', async () => {
    const { first } = pool('accepts')
    first.verifyAnswer = invalid('payment_expired')
    const attempts: string[] = []
    aggregator.on('attempt', ({ facilitator, outcome, reason }) =>
      attempts.push(`${facilitator} ${outcome} ${reason}`),
    )
    await verify()
    expect(attempts).toEqual(['first declined payment_expired', 'second answered undefined'])
    expect(aggregator.getStatistics().facilitators[0]?.results).toMatchObject({ success: 0, failure: 1 })
  })

  it('is not reported, nor counted, where a node at another height may see it otherwise', async () => {
    const { first } = pool('accepts-now')
    first.verifyAnswer = invalid('insufficient_funds')
    for (let payments = 0; payments < 4; payments++) expect(await verify()).toEqual(valid)
    expect(first.calls.verify).toBe(4)
    expect(contradicted).toEqual([])
    expect(lane('verify')).toMatchObject({ circuit: 'closed', consecutiveFailures: 0 })
  })

  it('at settle is no proof: no failure is reported before a later block shows the payment unspent', async () => {
    let answer: ProbeAnswer = { state: 'unspent', asOf: 1 }
    const { first, second } = pool('accepts', {}, () => answer)
    first.settleAnswer = refusal('invalid_payload')
    second.settleAnswer = refusal('failed_to_execute_transfer')
    const settling = outcome(aggregator.settle(newPayload(), requirements()))
    let isOver = false
    void settling.then(() => {
      isOver = true
    })
    await vi.advanceTimersByTimeAsync(20_000)
    expect(isOver).toBe(false)
    answer = unspent
    expect(await done(settling)).toBe('ALL_FACILITATORS_FAILED')
  })

  it('at settle, by a facilitator that charged all the same, is delivered', async () => {
    const { first, second } = pool('accepts', {}, () => paid)
    first.settleAnswer = refusal('invalid_payload')
    second.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
    expect(await settle()).toBe('success')
  })
})

describe('a rejection that stands', () => {
  it.each(['refuses', 'cannot-tell'] as const)('is one that the chain %s', async answer => {
    const { first, second } = pool(answer)
    const rejection = invalid('insufficient_funds')
    first.verifyAnswer = rejection
    first.settleAnswer = refusal('insufficient_funds')
    expect(await verify()).toEqual(rejection)
    expect(await settle()).toBe('refused: insufficient_funds')
    expect([second.calls.verify, second.calls.settle]).toEqual([0, 0])
    expect(contradicted).toEqual([])
    expect(lane('settle')).toMatchObject({ circuit: 'closed', consecutiveFailures: 0 })
  })

  it.each<[string, Answer]>([
    [
      'throws',
      () => {
        throw new Error('node down')
      },
    ],
    ['does not answer', hanging],
  ])('is one about which the probe %s', async (_what, answer) => {
    const { first } = pool(answer)
    first.verifyAnswer = invalid('insufficient_funds')
    expect(await verify()).toMatchObject({ isValid: false })
  })

  it('is the second one of a payment: the chain is asked once per verify and once per settle', async () => {
    const { first, second } = pool('accepts')
    for (const one of [first, second]) {
      one.verifyAnswer = invalid('insufficient_funds')
      one.settleAnswer = refusal('insufficient_funds')
    }
    const payment = newPayload()
    expect(await verify(payment)).toMatchObject({ isValid: false })
    expect(questions).toHaveLength(1)
    expect(await settle(payment)).toBe('refused: insufficient_funds')
    expect(questions).toHaveLength(2)
  })

  it('is one for a reason that the chain cannot check', async () => {
    const { first } = pool('accepts')
    for (const reason of [
      'invalid_payment_requirements',
      'extension_echo_mismatch',
      'eip2612_asset_mismatch',
      'refused',
    ]) {
      first.verifyAnswer = invalid(reason)
      expect(await verify()).toMatchObject({ isValid: false })
    }
    expect(questions).toEqual([])
  })

  it('is any, with crossExamine off', async () => {
    const { first } = pool('accepts', { crossExamine: false })
    first.verifyAnswer = invalid('insufficient_funds')
    expect(await verify()).toMatchObject({ isValid: false })
    expect(questions).toEqual([])
  })

  it('is one of a payment that nothing on the chain identifies', async () => {
    const { first } = pool('accepts')
    first.verifyAnswer = invalid('insufficient_funds')
    const strange = { ...newPayload(), payload: { voucher: 'x' } }
    expect(await verify(strange)).toMatchObject({ isValid: false })
    expect(questions).toEqual([])
  })

  it('is one of a settle that says the payment is used: another process may be settling it', async () => {
    const { first, second } = pool('accepts')
    first.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect([second.calls.settle, questions.length]).toEqual([0, 0])
  })

  it.each<[string, FakeFacilitator['settleAnswer']]>([
    ['may have charged', httpError(502)],
    ['has broadcast', refusal('settlement_pending', `0x${'12'.repeat(32)}`)],
    ['is still open', hanging],
  ])('is one of a settle while another attempt %s', async (_what, before) => {
    const { first, second } = pool('accepts')
    first.settleAnswer = before
    second.settleAnswer = refusal('insufficient_funds')
    expect(await settle()).not.toBe('success')
    expect([second.calls.settle, questions.length]).toEqual([1, 0])
  })

  it('is one of a settle that resumes an unresolved one', async () => {
    const ledger = new MemoryLedger()
    const payment = newPayload()
    const { first } = pool('accepts', { ledger }, () => ({ state: 'cannot-tell', reason: 'down' }))
    first.settleAnswer = httpError(502)
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    first.settleAnswer = refusal('insufficient_funds')
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    expect(questions).toEqual([])
  })

  it('is not one that follows a facilitator that could not be reached', async () => {
    const { first, second } = pool('accepts')
    first.settleAnswer = refused()
    second.settleAnswer = refusal('insufficient_funds')
    expect(await settle()).toBe('ALL_FACILITATORS_FAILED')
    expect(contradicted.map(({ facilitator }) => facilitator)).toEqual(['second'])
  })
})

describe('while the chain is asked about a rejection', () => {
  const answersAfter =
    <T>(ms: number, answer: T) =>
    () =>
      after(ms).then(() => answer)

  it('of a settle, the next facilitator does not overtake: the verdict would be shopped', async () => {
    const { first, second } = pool(answersAfter(2_500, 'accepts'))
    first.settleAnswer = answersAfter(4_000, refusal('insufficient_funds'))
    expect(await settle()).toBe('refused: insufficient_funds')
    expect([questions.length, second.calls.settle]).toEqual([1, 0])
  })

  it('of a settle that was sent again, the next one does not overtake either', async () => {
    const { first, second } = pool(answersAfter(2_500, 'accepts'), {}, undefined, { retries: 1 })
    first.settleAnswer = async () => {
      await after(first.calls.settle === 1 ? 3_000 : 1_000)
      if (first.calls.settle === 1) throw refused()
      return refusal('insufficient_funds')
    }
    expect(await settle()).toBe('refused: insufficient_funds')
    expect([first.calls.settle, questions.length, second.calls.settle]).toEqual([2, 1, 0])
  })

  it('of a verify, no hedge goes to the next facilitator', async () => {
    const { first, second } = pool(answersAfter(2_500, 'accepts'), {}, undefined, { hedge: { afterMs: 300 } })
    first.verifyAnswer = answersAfter(100, invalid('insufficient_funds'))
    expect(await verify()).toMatchObject({ isValid: false })
    expect([questions.length, second.calls.verify]).toEqual([1, 0])
  })

  it('the time that it takes is not counted as the facilitator’s', async () => {
    const { first } = pool(answersAfter(2_500, 'accepts'))
    first.verifyAnswer = answersAfter(100, invalid('insufficient_funds'))
    const durations: number[] = []
    aggregator.on('attempt', ({ durationMs }) => durations.push(durationMs))
    expect(await verify()).toEqual(valid)
    expect(durations[0]).toBe(100)
  })

  it('stop() does not wait for it', async () => {
    const { first, second } = pool(hanging)
    first.verifyAnswer = invalid('insufficient_funds')
    const verifying = aggregator.verify(newPayload(), requirements())
    await vi.advanceTimersByTimeAsync(0)
    expect(questions).toHaveLength(1)
    await aggregator.stop({ inFlight: 'abort' })
    expect(await verifying).toMatchObject({ isValid: false })
    expect(second.calls.verify).toBe(0)
  })
})

describe('compliance', () => {
  const words = [
    'kyt',
    'KYC',
    'sanctioned',
    'sanctions_hit',
    'ofac',
    'blocked_address',
    'address_blocked',
    'blocked',
    'blacklisted',
    'Blocklist',
    'deny list',
    'denylist',
    'screened_out',
    'compliance',
    'restricted',
    'prohibited_region',
    'forbidden party',
    'embargoed',
    'high_risk',
  ]
  const checkable = [
    'invalid_payload',
    'insufficient_funds',
    'invalid_exact_evm_signature',
    'payment_expired',
    'invalid_exact_evm_payload_authorization_valid_before',
    'permit2_allowance_required',
    'invalid_exact_evm_nonce_already_used',
  ]

  it('is never examined, wherever and with whatever a facilitator says it', async () => {
    const screening = fc.record({
      word: fc.constantFrom(...words),
      reason: fc.constantFrom(...checkable),
      place: fc.constantFrom('suffix', 'prefix', 'comment', 'message', 'alone'),
      noise: fc.string({ unit: fc.constantFrom('a', 'z', '_', ' ', '.', 'X'), maxLength: 8 }),
      operation: fc.constantFrom('verify', 'settle'),
    })
    const { first, second } = pool('accepts')
    await fc.assert(
      fc.asyncProperty(screening, async ({ word, reason, place, noise, operation }) => {
        const said = {
          suffix: `${reason}_${word}`,
          prefix: `${word}_${reason}`,
          comment: `${reason}: ${noise} ${word} ${noise}`,
          message: reason,
          alone: word,
        }[place]
        const message = place === 'message' ? `${noise} ${word}, ${noise}` : undefined
        first.verifyAnswer = invalid(said, message)
        first.settleAnswer = { ...refusal(said), ...(message !== undefined && { errorMessage: message }) }
        if (operation === 'verify') expect(await verify()).toMatchObject({ isValid: false })
        else await settle()
        expect(questions).toEqual([])
        expect(second.calls.verify).toBe(0)
      }),
      { numRuns: 300 },
    )
  })

  it('is told from a rejection that is examined', async () => {
    const { first } = pool('accepts-now')
    for (const reason of checkable) {
      first.verifyAnswer = invalid(reason, 'something that means nothing')
      expect(await verify()).toEqual(valid)
    }
    expect(questions).toHaveLength(checkable.length)
  })
})

describe('a flood of junk', () => {
  it('buys at most 20 questions in any second, whenever it comes', async () => {
    const pauses = fc.array(fc.integer({ min: 0, max: 400 }), { minLength: 30, maxLength: 60 })
    const { first } = pool('refuses')
    first.verifyAnswer = invalid('invalid_exact_evm_signature')
    await fc.assert(
      fc.asyncProperty(pauses, async pausesMs => {
        for (const ms of pausesMs) {
          await vi.advanceTimersByTimeAsync(ms)
          await Promise.all([1, 2, 3].map(() => aggregator.verify(newPayload(), requirements())))
        }
        askedAt.forEach((at, index) => {
          expect((askedAt[index + 20] ?? Number.POSITIVE_INFINITY) - at).toBeGreaterThanOrEqual(1_000)
        })
      }),
      { numRuns: 20 },
    )
    expect(askedAt.length).toBeGreaterThan(1_000)
  })

  it('buys 20 questions at once, and 20 a second from then on', async () => {
    const { first } = pool('refuses')
    first.verifyAnswer = invalid('invalid_exact_evm_signature')
    const flood = () =>
      Promise.all(Array.from({ length: 200 }, () => aggregator.verify(newPayload(), requirements())))
    await done(flood())
    expect(questions).toHaveLength(20)
    for (let second = 1; second <= 3; second++) {
      await vi.advanceTimersByTimeAsync(1_000)
      await done(flood())
    }
    expect(questions.length).toBeGreaterThanOrEqual(80)
    expect(questions.length).toBeLessThanOrEqual(84)
    expect(first.calls.verify).toBe(800)
  })

  it('on one network leaves the questions of another alone', async () => {
    const { first } = pool('accepts')
    first.verifyAnswer = invalid('insufficient_funds')
    await done(Promise.all(Array.from({ length: 50 }, () => aggregator.verify(newPayload(), requirements()))))
    const other = requirements({ network: 'eip155:8453' })
    first.verifyAnswer = invalid('insufficient_funds')
    await done(aggregator.verify(newPayload({ accepted: other }), other))
    expect(questions.filter(asked => asked === 'eip155:8453')).toHaveLength(1)
  })
})

it('a healthy payment asks the chain nothing', async () => {
  pool('refuses')
  const payment = newPayload()
  expect(await verify(payment)).toEqual(valid)
  expect(await done(aggregator.settle(payment, requirements()))).toEqual(settled)
  expect(questions).toEqual([])
})
