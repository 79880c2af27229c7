/** Purchases on Solana: upstream's facilitators, middleware and buyer, on the real runtime. */
import { afterEach, describe, expect, it } from 'vitest'
import { type AggregatorEvents, FacilitatorAggregator, type SettlementOptions } from '../../src/index.ts'
import { svmSettlementProbe } from '../../src/svm/index.ts'
import {
  type SettleFault,
  type SolanaFacilitator,
  startSolanaFacilitator,
} from '../bed/solana/facilitator.ts'
import { type Market, network, openMarket, price } from '../bed/solana/market.ts'
import { createSolanaBuyer, startSolanaShop } from '../bed/solana/shop.ts'

let market: Market
let a: SolanaFacilitator
let b: SolanaFacilitator
let buyer: ReturnType<typeof createSolanaBuyer>
let toStop: (() => Promise<unknown>)[]

afterEach(async () => {
  for (const stop of toStop.reverse()) await stop()
})

/** @param options.slotMs milliseconds to a slot: a signed payment can land in 150 of them */
async function open({
  slotMs = 20,
  deadlineMs = 30_000,
  ...settlement
}: SettlementOptions & { slotMs?: number; deadlineMs?: number } = {}) {
  market = await openMarket({ slotMs })
  a = await startSolanaFacilitator(market, 'a')
  b = await startSolanaFacilitator(market, 'b')
  buyer = createSolanaBuyer(market)
  const aggregator = new FacilitatorAggregator({
    facilitators: [
      { id: 'a', url: a.url, priority: 1 },
      { id: 'b', url: b.url, priority: 2 },
    ],
    settlement: {
      probes: [svmSettlementProbe({ [network]: { rpcUrl: market.node.url } })],
      ...settlement,
    },
    deadlineMs: { settle: deadlineMs },
    healthCheck: false,
    logger: false,
  })
  const shop = await startSolanaShop(market, aggregator)
  toStop = [market.stop, a.stop, b.stop, () => aggregator.stop(), shop.stop]
  return { aggregator, url: shop.url }
}

const once = <N extends keyof AggregatorEvents>(aggregator: FacilitatorAggregator, name: N) =>
  new Promise<AggregatorEvents[N]>(resolve => aggregator.once(name, resolve))

/** What the payee has, in purchases. */
function purchasesPaid(): number {
  return Number(market.balanceAt(market.accounts.payee)) / Number(price)
}

describe('a purchase on Solana', () => {
  it('is charged and delivered once', async () => {
    const { url } = await open()
    expect(await buyer.buy(url)).toBe(200)
    expect(purchasesPaid()).toBe(1)
    expect(await buyer.again(url)).toBe(402)
    expect(purchasesPaid()).toBe(1)
  })

  const lost: [what: string, SettleFault][] = [
    ['cuts the connection', { kind: 'reset' }],
    ['answers 502', { kind: 'answer', status: 502 }],
    ['never answers', { kind: 'hang' }],
    [
      'says that it has sent nothing',
      {
        kind: 'answer',
        status: 200,
        body: {
          success: false,
          errorReason: 'invalid_exact_svm_transaction_failed',
          transaction: '',
          network,
        },
      },
    ],
  ]
  it.each(lost)('is delivered when its facilitator settles and then %s', async (_what, next) => {
    const { aggregator, url } = await open({ failoverAfterMs: 1_000, probeAfterMs: 500 })
    const recovered = once(aggregator, 'settlement:recovered')
    a.fault({ kind: 'settle-then', next })
    expect(await buyer.buy(url)).toBe(200)
    expect(purchasesPaid()).toBe(1)
    const [landed] = market.cluster.blocks.flatMap(({ transactions }) => transactions)
    expect((await recovered).transaction).toBe(landed?.signature)
    expect(b.calls.settle).toBe(0)
  })

  it('is settled by the same facilitator, asked again, and by no other', async () => {
    const { url } = await open({ slotMs: 100 })
    a.fault({ kind: 'once', fault: { kind: 'reset' } })
    expect(await buyer.buy(url)).toBe(200)
    expect(purchasesPaid()).toBe(1)
    expect([a.calls.settle, b.calls.settle]).toEqual([2, 0])
  })

  const dead: [what: string, SettleFault][] = [
    ['dies', { kind: 'reset' }],
    ['hangs', { kind: 'hang' }],
  ]
  it.each(dead)(
    'is answered 402 when its facilitator %s before it sends, as soon as it can be charged no more',
    async (_what, fault) => {
      const { url } = await open({ failoverAfterMs: 1_000, probeAfterMs: 500 })
      a.fault(fault)
      const { height } = market.cluster.head('finalized')
      expect(await buyer.buy(url)).toBe(402)
      const expiredAfter = market.cluster.head('finalized').height - height
      expect(expiredAfter).toBeGreaterThan(150)
      expect(expiredAfter).toBeLessThan(150 + 150)
      expect(purchasesPaid()).toBe(0)
      expect(b.calls.settle).toBe(0)
    },
  )

  it('is answered 502 while it can be charged still, and 402 once it cannot', async () => {
    const { aggregator, url } = await open({ slotMs: 50, deadlineMs: 2_000, watchIntervalMs: 200 })
    const resolved = once(aggregator, 'settlement:resolved')
    a.fault({ kind: 'reset' })
    expect(await buyer.buy(url)).toBe(502)
    expect(await resolved).toMatchObject({ result: 'expired', network })
    expect(await buyer.again(url)).toBe(402)
    a.fault(undefined)
    expect(await buyer.buy(url)).toBe(200)
    expect(purchasesPaid()).toBe(1)
  })

  it('is not delivered by a false claim', async () => {
    const { aggregator, url } = await open({ audit: 'always', failoverAfterMs: 1_000 })
    const quarantined = once(aggregator, 'facilitator:quarantined')
    a.fault({ kind: 'false claim' })
    expect(await buyer.buy(url)).toBe(402)
    expect((await quarantined).facilitator).toBe('a')
    expect(purchasesPaid()).toBe(0)
  })
})
