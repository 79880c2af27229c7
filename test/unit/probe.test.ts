/** A chain that only the seller's own reader knows has every promise that a probe brings; and so has each of several. */
import { beforeEach, describe, expect, it, vi } from 'vitest'
import type { ChainReader, DryRun, ProbeAnswer, SettlementQuery, SignedPayment } from '../../src/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { settlementProbe } from '../../src/probe/index.ts'
import { untyped } from '../untyped.ts'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  hash,
  httpError,
  kind,
  newPayload,
  outcome,
  paid,
  payer,
  refusal,
  requirements,
  silent,
  supporting,
  unspent,
} from './builders.ts'
import { inFakeTime } from './faults/harness.ts'

inFakeTime()

/** Reads one network, with a state of its own that a method finds only by `this`. */
class OwnReader implements ChainReader {
  readonly #asked: string[] = []
  answer: ProbeAnswer = silent

  constructor(private readonly network: string) {}

  supports(network: string): boolean {
    return network === this.network
  }

  async ask({ network }: SettlementQuery): Promise<ProbeAnswer> {
    this.#asked.push(network)
    return this.answer
  }

  get asked(): readonly string[] {
    return [...new Set(this.#asked)]
  }
}

class TryingReader extends OwnReader {
  readonly #tried: string[] = []

  async wouldAccept({ query }: SignedPayment): Promise<DryRun> {
    this.#tried.push(query.network)
    return 'accepts'
  }

  get tried(): readonly string[] {
    return this.#tried
  }
}

const networks = ['eip155:84532', 'eip155:8453'] as const
let a: FakeFacilitator
let b: FakeFacilitator

beforeEach(() => {
  const supportedAnswer = supporting(...networks.map(network => kind({ network })))
  a = new FakeFacilitator({ supportedAnswer })
  b = new FakeFacilitator({ supportedAnswer })
})

/** An aggregator over `a` and `b`, and what it emitted of these payments. */
function pool(readers: readonly ChainReader[]) {
  const deadlineMs = { settle: 3_000 }
  const aggregator = aggregatorOf(
    { a, b },
    { probes: readers.map(settlementProbe) },
    { retries: 0, deadlineMs },
  )
  const emitted: string[] = []
  for (const name of ['settlement:recovered', 'settlement:resolved', 'settlement:indeterminate'] as const)
    aggregator.on(name, ({ network }) => emitted.push(`${name} ${network}`))
  const settle = (network: string) => {
    const terms = requirements({ network: untyped(network) })
    return done(outcome(aggregator.settle(newPayload({ accepted: terms }), terms)))
  }
  return { aggregator, emitted, settle }
}

describe('a probe of a reader', () => {
  it('recovers a payment whose answer was lost', async () => {
    const reader = new OwnReader(networks[0])
    a.settleAnswer = httpError(502)
    reader.answer = paid
    const { emitted, settle } = pool([reader])
    expect(await settle(networks[0])).toBe('success')
    expect(emitted).toEqual([`settlement:recovered ${networks[0]}`])
  })

  it('that can try a payment contradicts the facilitator that rejects it', async () => {
    const reader = new TryingReader(networks[0])
    a.settleAnswer = refusal('insufficient_funds')
    expect(await pool([reader]).settle(networks[0])).toBe('success')
    expect(reader.tried).toEqual([networks[0]])
  })

  it('that cannot try a payment leaves a rejection as it is', async () => {
    const reader = new OwnReader(networks[0])
    reader.answer = unspent
    a.verifyAnswer = { isValid: false, invalidReason: 'insufficient_funds', payer }
    const { aggregator } = pool([reader])
    expect(settlementProbe(reader)).not.toHaveProperty('wouldAccept')
    expect(await done(aggregator.verify(newPayload(), requirements()))).toEqual(a.verifyAnswer)
    expect(b.calls.verify).toBe(0)
  })

  it('that throws where it should not ends the doubt in a 502, and not in a 402', async () => {
    const reader: ChainReader = {
      supports: () => true,
      ask: () => {
        throw new Error('not implemented')
      },
    }
    a.settleAnswer = httpError(502)
    expect(await pool([reader]).settle(networks[0])).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('serves several aggregators, each with a watch of its own', async () => {
    const reader = new OwnReader(networks[0])
    const probe = settlementProbe(reader)
    a.settleAnswer = httpError(502)
    const both = [0, 1].map(() =>
      aggregatorOf({ a }, { probes: [probe] }, { retries: 0, deadlineMs: { settle: 1_000 } }),
    )
    const resolved: number[] = []
    for (const [at, one] of both.entries()) {
      one.on('settlement:resolved', () => resolved.push(at))
      await done(outcome(one.settle(newPayload(), requirements())))
    }
    await both[0]?.stop()
    reader.answer = paid
    await vi.advanceTimersByTimeAsync(11_000)
    expect(resolved).toEqual([1])
  })
})

describe('two probes in one aggregator', () => {
  it('each answer for their own network, in doubt and in the background', async () => {
    const readers = networks.map(network => new OwnReader(network))
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    const { aggregator, emitted, settle } = pool(readers)
    for (const network of networks) expect(await settle(network)).toBe('SETTLEMENT_INDETERMINATE')
    emitted.length = 0
    for (const reader of readers) reader.answer = paid
    await vi.advanceTimersByTimeAsync(30_000)
    expect(emitted.sort()).toEqual(networks.map(network => `settlement:resolved ${network}`).sort())
    expect(await aggregator.getUnresolvedSettlements()).toEqual(
      networks.map(network => expect.objectContaining({ network, result: 'paid', transaction: hash })),
    )
    expect(readers.map(({ asked }) => asked)).toEqual(networks.map(network => [network]))
    expect(vi.getTimerCount()).toBe(0)
  })

  it('leave a network that neither reads to its 502, with a warning', async () => {
    a.settleAnswer = httpError(502)
    const { aggregator, settle } = pool(networks.map(() => new OwnReader(networks[0])))
    expect(await settle(networks[1])).toBe('SETTLEMENT_INDETERMINATE')
    expect(aggregator.getRecentLogs().map(({ message }) => message)).toContain(
      `the chain ${networks[1]} gives no answer: no probe covers eip3009: doubt ends in a 502`,
    )
  })
})

it('without a probe what is unresolved is listed, waited for by no timer, and reported when the aggregator stops', async () => {
  a.settleAnswer = httpError(502)
  const { aggregator, emitted, settle } = pool([])
  expect(await settle(networks[0])).toBe('SETTLEMENT_INDETERMINATE')
  const left = [expect.objectContaining({ network: networks[0], payer })]
  expect(await aggregator.getUnresolvedSettlements()).toEqual(left)
  expect(vi.getTimerCount()).toBe(0)
  emitted.length = 0
  await aggregator.stop()
  expect(emitted).toEqual([`settlement:indeterminate ${networks[0]}`])
})

it.each([
  ['a reader', new OwnReader(networks[0])],
  ['nothing', undefined],
])('%s in place of a probe is refused, with what to do', (_, probe) => {
  const options = {
    facilitators: [{ id: 'a', client: new FakeFacilitator() }],
    settlement: untyped<{ probes: [] }>({ probes: [probe] }),
  }
  expect(() => new FacilitatorAggregator(options)).toThrow(
    'settlement.probes: expected a list of probes, such as [evmSettlementProbe({ … })]; wrap a reader in ' +
      'settlementProbe() of x402-facilitator-aggregator/probe',
  )
})
