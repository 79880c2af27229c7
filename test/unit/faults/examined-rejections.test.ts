/** What the examination of rejections must not do to those who wait, to screened payments and to honest facilitators. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { httpFacilitatorClient } from '../../../src/facilitator/http-client.ts'
import { type ChainReader, FacilitatorAggregator, type ProbeAnswer } from '../../../src/index.ts'
import { settlementProbe } from '../../../src/probe/index.ts'
import {
  after,
  aggregatorOf,
  done,
  FakeFacilitator,
  hash,
  httpError,
  newPayload,
  outcome,
  paid,
  payer,
  refusal,
  requirements,
  unspent,
  valid,
} from '../builders.ts'

let examined = 0
let isPaidFrom = Number.POSITIVE_INFINITY
let first: FakeFacilitator
let second: FakeFacilitator
let accused: string[]

beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance', 'Date'] })
  examined = 0
  isPaidFrom = Number.POSITIVE_INFINITY
  first = new FakeFacilitator()
  second = new FakeFacilitator()
  accused = []
})
afterEach(() => {
  vi.useRealTimers()
})

/** Of the token's own authorizations, as a probe for a chain is. */
function probe(dryRun: 'accepts' | 'refuses' | 'cannot-tell', takesMs = 0): ChainReader {
  return {
    supports: (_network, method) => method === 'eip3009',
    ask: async (): Promise<ProbeAnswer> => (performance.now() >= isPaidFrom ? paid : unspent),
    async wouldAccept() {
      examined++
      if (takesMs > 0) await after(takesMs)
      return dryRun
    },
  }
}

function pool(by: ChainReader, options = {}): FacilitatorAggregator {
  const aggregator = aggregatorOf({ first, second }, { probes: [by] }, { retries: 0, ...options })
  return aggregator.on('facilitator:contradicted', ({ facilitator }) => accused.push(facilitator))
}

const rejected = { isValid: false, invalidReason: 'insufficient_funds', payer }
const elsewhere = requirements({
  extra: { name: 'Gateway', version: '1', verifyingContract: '0x3333333333333333333333333333333333333333' },
})

describe('a verdict', () => {
  it('is not shopped with a facilitator that was asked as a hedge', async () => {
    first.verifyAnswer = () => after(1_100).then(() => rejected)
    second.verifyAnswer = () => after(300).then(() => valid)
    const aggregator = pool(probe('refuses', 500), { hedge: { afterMs: 1_000 } })
    expect(await done(aggregator.verify(newPayload(), requirements()))).toEqual(rejected)
  })

  it.each(['verify', 'settle'] as const)(
    'is not examined at %s where a field that is not the protocol’s tells of screening',
    async operation => {
      const body = {
        isValid: false,
        success: false,
        invalidReason: 'invalid_payload',
        errorReason: 'invalid_payload',
        error: 'payer is on the OFAC sanctions list',
      }
      const fetch = async () => new Response(JSON.stringify(body), { status: 400 })
      const client = httpFacilitatorClient({ url: 'https://facilitator.example', fetch })
      const aggregator = new FacilitatorAggregator({
        facilitators: [
          { id: 'first', client },
          { id: 'second', client: second },
        ],
        healthCheck: false,
        logger: false,
        retries: 0,
        settlement: { probes: [settlementProbe(probe('accepts'))] },
      })
      const end = aggregator[operation](newPayload(), requirements()).catch(() => undefined)
      await done(Promise.resolve(end))
      expect({ examined, asked: second.calls[operation] }).toEqual({ examined: 0, asked: 0 })
    },
  )

  it('stays a verdict where the deadline is short and the examination slow', async () => {
    first.settleAnswer = refusal('insufficient_funds')
    const aggregator = pool(probe('refuses', 3_000), { deadlineMs: { settle: 7_000 } })
    expect(await done(outcome(aggregator.settle(newPayload(), requirements())))).toBe(
      'refused: insufficient_funds',
    )
  })
})

describe('nobody is accused', () => {
  it('of an answer to a verify that came after the hedge had answered', async () => {
    first.verifyAnswer = () => after(2_000).then(() => rejected)
    second.verifyAnswer = valid
    const aggregator = pool(probe('accepts'), { hedge: { afterMs: 1_000 } })
    expect(await done(aggregator.verify(newPayload(), requirements()))).toEqual(valid)
    await vi.advanceTimersByTimeAsync(10_000)
    expect({ examined, accused }).toEqual({ examined: 0, accused: [] })
  })

  it('of an answer to a settle that is over', async () => {
    first.settleAnswer = () => after(12_000).then(() => refusal('insufficient_funds'))
    second.settleAnswer = httpError(401)
    isPaidFrom = performance.now() + 9_000
    const aggregator = pool(probe('accepts'))
    expect(await done(outcome(aggregator.settle(newPayload(), requirements())))).toBe('success')
    await vi.advanceTimersByTimeAsync(30_000)
    expect({ examined, accused }).toEqual({ examined: 0, accused: [] })
  })

  it('of what it sees of the transaction of one that denies it, before it is mined', async () => {
    first.settleAnswer = refusal('failed_to_execute_transfer')
    second.settleAnswer = refusal('insufficient_funds')
    isPaidFrom = performance.now() + 4_000
    await done(outcome(pool(probe('accepts', 1_000)).settle(newPayload(), requirements())))
    expect(accused).toEqual([])
  })
})

describe('an authorization that is presented for the token first, and then for another contract', () => {
  it.each([
    ['has lost its answer', httpError(502)],
    ['denies that it charged', refusal('failed_to_execute_transfer')],
  ])('is another purchase, whatever the facilitator that %s', async (_, answer) => {
    const aggregator = pool(probe('cannot-tell'), { deadlineMs: { settle: 20_000 } })
    const payment = newPayload()
    first.settleAnswer = refusal('unsupported_scheme')
    second.settleAnswer = refusal('unsupported_scheme')
    await done(outcome(aggregator.settle(payment, requirements())))
    first.settleAnswer = answer
    const asked = second.calls.settle
    expect(await done(outcome(aggregator.settle(payment, elsewhere)))).toBe('refused: duplicate_settlement')
    expect(second.calls.settle).toBe(asked)
  })
})

describe('a transaction that a facilitator names in its own way', () => {
  it.each([`https://sepolia.basescan.org/tx/${hash}`, ` ${hash}`])(
    'is found on the chain all the same: %s',
    async named => {
      first.settleAnswer = () => {
        isPaidFrom = performance.now()
        return refusal('unexpected_settle_error', named)
      }
      expect(await done(outcome(pool(probe('cannot-tell')).settle(newPayload(), requirements())))).toBe(
        'success',
      )
    },
  )
})
