import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { type AggregatorEvents, type AggregatorOptions, FacilitatorAggregator } from '../../src/index.ts'
import { type Buyer, createBuyer } from '../bed/buyer.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { price, type Seller, startSeller } from '../bed/seller.ts'

let chain: Chain
let buyer: Buyer
let pool: [TestFacilitator, TestFacilitator, TestFacilitator]
let aggregator: FacilitatorAggregator
let seller: Seller
let before: { buyer: bigint; seller: bigint }

async function open(options: Partial<AggregatorOptions> = {}): Promise<void> {
  aggregator = new FacilitatorAggregator({
    facilitators: pool.map(({ id, url }) => ({ id, url })),
    timeoutMs: { verify: 500, supported: 500, settle: 10_000 },
    backoffMs: 20,
    ...options,
  })
  await aggregator.getSupported()
  seller = await startSeller(chain, aggregator)
  before = await balances()
}

async function balances() {
  const [ofBuyer, ofSeller] = await Promise.all([
    chain.balanceOf(buyer.address),
    chain.balanceOf(seller.address),
  ])
  return { buyer: ofBuyer, seller: ofSeller }
}

/** Asks the chain: exactly this many purchases were paid for since `open`. */
async function expectCharged(purchases: number): Promise<void> {
  const total = price * BigInt(purchases)
  expect(await balances()).toEqual({ buyer: before.buyer - total, seller: before.seller + total })
}

const settleCalls = () => pool.map(({ calls }) => calls.settle)
const verifyCalls = () => pool.map(({ calls }) => calls.verify)
const buy = () => buyer.buy(seller.url)

beforeAll(async () => {
  chain = await startChain()
  buyer = await createBuyer(chain)
})
afterAll(() => chain.stop())

beforeEach(async () => {
  pool = await Promise.all([
    startFacilitator({ chain, id: 'first' }),
    startFacilitator({ chain, id: 'second' }),
    startFacilitator({ chain, id: 'third' }),
  ])
})
afterEach(async () => {
  await aggregator.stop({ inFlight: 'abort' })
  await seller.stop()
  await Promise.all(pool.map(facilitator => facilitator.stop()))
})

describe('a seller with three facilitators', () => {
  it('sells through the first while all are healthy', async () => {
    await open()
    const purchases = await Promise.all([buy(), buy(), buy()])
    expect(purchases.map(({ status }) => status)).toEqual([200, 200, 200])
    expect(purchases[0]).toMatchObject({ body: { goods: 'delivered' }, settlement: { success: true } })
    expect(settleCalls()).toEqual([3, 0, 0])
    await expectCharged(3)
  })

  it.each([
    ['refuses connections', (first: TestFacilitator) => first.kill()],
    ['hangs', (first: TestFacilitator) => first.fault({ verify: { kind: 'hang' } })],
    ['resets connections', (first: TestFacilitator) => first.fault({ verify: { kind: 'reset' } })],
    ['answers 500', (first: TestFacilitator) => first.fault({ verify: { kind: 'answer', status: 500 } })],
    [
      'answers garbage',
      (first: TestFacilitator) => first.fault({ verify: { kind: 'answer', status: 200, body: '<html>' } }),
    ],
    [
      'answers 429',
      (first: TestFacilitator) =>
        first.fault({ verify: { kind: 'answer', status: 429, headers: { 'retry-after': '30' } } }),
    ],
    [
      'has used up its quota (402)',
      (first: TestFacilitator) => first.fault({ verify: { kind: 'answer', status: 402 } }),
    ],
  ])('sells through the second when the first %s', async (_, breakIt) => {
    await open()
    await breakIt(pool[0])
    expect(await buy()).toMatchObject({ status: 200, settlement: { success: true } })
    await expectCharged(1)
  })

  it('sells on when verify works at the first, but settle is refused there', async () => {
    await open()
    pool[0].fault({ settle: { kind: 'answer', status: 429 } })
    expect(await buy()).toMatchObject({ status: 200 })
    expect(settleCalls()).toEqual([1, 1, 0])
    await expectCharged(1)
  })

  it('sells on when the first has run out of gas, and stops asking it to settle', async () => {
    await open()
    await pool[0].drainGas()
    for (let i = 0; i < 4; i++) expect(await buy()).toMatchObject({ status: 200 })
    expect(settleCalls()).toEqual([3, 4, 0])
    expect(verifyCalls()).toEqual([4, 0, 0])
    await expectCharged(4)
  })

  it('sells through the second when the first lacks the network', async () => {
    await pool[0].stop()
    pool[0] = await startFacilitator({ chain, id: 'first', networks: ['eip155:1'] })
    await open()
    expect(await buy()).toMatchObject({ status: 200 })
    expect(verifyCalls()).toEqual([0, 1, 0])
    await expectCharged(1)
  })

  it('sells through the second when its credentials at the first are wrong', async () => {
    await pool[0].stop()
    pool[0] = await startFacilitator({ chain, id: 'first', bearerToken: 'right' })
    const headers = { authorization: 'Bearer wrong' }
    await open({
      facilitators: pool.map(({ id, url }) => ({
        id,
        url,
        createAuthHeaders: () => ({ verify: headers, settle: headers, supported: headers }),
      })),
    })
    expect(await buy()).toMatchObject({ status: 200 })
    expect(aggregator.getRecentLogs()).toContainEqual(
      expect.objectContaining({ level: 'error', event: 'credentials', facilitator: 'first' }),
    )
    await expectCharged(1)
  })

  it('sends the credentials that a facilitator asks for', async () => {
    await pool[0].stop()
    pool[0] = await startFacilitator({ chain, id: 'first', bearerToken: 'right' })
    const headers = { authorization: 'Bearer right' }
    await open({
      facilitators: [
        {
          id: 'first',
          url: pool[0].url,
          createAuthHeaders: async () => ({ verify: headers, settle: headers, supported: headers }),
        },
      ],
    })
    expect(await buy()).toMatchObject({ status: 200 })
    await expectCharged(1)
  })

  it('sells through the third when two are down', async () => {
    await open()
    await Promise.all([pool[0].kill(), pool[1].kill()])
    expect(await buy()).toMatchObject({ status: 200 })
    expect(settleCalls()).toEqual([0, 0, 1])
    await expectCharged(1)
  })

  it('answers 502 and charges nothing when all are down', async () => {
    await open()
    await Promise.all(pool.map(facilitator => facilitator.kill()))
    const purchase = await buy()
    expect(purchase.status).toBe(502)
    expect(JSON.stringify(purchase.body)).toContain('first: unreachable, ECONNREFUSED')
    await expectCharged(0)
  })

  it('goes back to the first once it has recovered', async () => {
    await open({ healthCheck: { intervalMs: 200 } })
    const changes: AggregatorEvents['circuit:change'][] = []
    aggregator.on('circuit:change', change => changes.push(change))
    await pool[0].kill()
    await buy()
    await buy()
    expect(aggregator.getHealthStatus().facilitators[0]).toMatchObject({ isHealthy: false })
    await pool[0].revive()
    await aggregator.checkHealth()
    expect(await buy()).toMatchObject({ status: 200 })
    expect(settleCalls()).toEqual([1, 2, 0])
    expect(changes).toContainEqual(
      expect.objectContaining({ facilitator: 'first', operation: 'verify', to: 'closed' }),
    )
    await expectCharged(3)
  })

  it('does not shop a verdict around: a buyer without money is refused by the first', async () => {
    await open()
    const poor = await createBuyer(chain, 0n)
    expect(await poor.buy(seller.url)).toMatchObject({ status: 402 })
    expect(verifyCalls()).toEqual([1, 0, 0])
    await expectCharged(0)
  })

  it('refuses a payment that is sent a second time, and charges it once', async () => {
    await open()
    await buy()
    expect(await buyer.replay(seller.url, buyer.lastPayment)).toMatchObject({ status: 402 })
    await expectCharged(1)
  })

  it('sends a payment only to the facilitator that it was made for', async () => {
    await open()
    const ofSecond = { facilitatorAddress: pool[1].address }
    seller.resourceServer.onBeforeVerify(async ({ requirements }) => {
      Object.assign(requirements.extra, ofSecond)
    })
    expect(await buy()).toMatchObject({ status: 200 })
    expect([verifyCalls(), settleCalls()]).toEqual([
      [0, 1, 0],
      [0, 1, 0],
    ])
    await pool[1].kill()
    expect(await buy()).toMatchObject({ status: 502 })
    expect(settleCalls()).toEqual([0, 1, 0])
    await expectCharged(1)
  })

  it.each([
    ['hangs', { kind: 'hang' } as const],
    ['resets the connection', { kind: 'reset' } as const],
    ['answers 502', { kind: 'answer', status: 502 } as const],
  ])('answers 502, not 402, when the first settles and then %s: the buyer has paid', async (_, next) => {
    await open({ timeoutMs: { settle: 3_000 } })
    pool[0].fault({ settle: { kind: 'act-then', next } })
    const purchase = await buy()
    expect(purchase.status).toBe(502)
    expect(JSON.stringify(purchase.body)).toContain('may have been charged')
    expect(settleCalls()).toEqual([1, 0, 0])
    await expectCharged(1)
  })

  it('keeps making offers while a bound server learns what has changed', async () => {
    await open()
    const unbind = aggregator.bindResourceServer(seller.resourceServer)
    const kinds = pool[2].inProcess.getSupported().kinds
    const body = { kinds: [...kinds, { x402Version: 2, scheme: 'exact', network: 'eip155:1' }] }
    pool[2].fault({ supported: { kind: 'answer', status: 200, body } })
    const offers = Promise.all(
      Array.from({ length: 200 }, () => fetch(seller.url).then(({ status }) => status)),
    )
    await aggregator.checkHealth()
    expect(new Set(await offers)).toEqual(new Set([402]))
    expect(seller.resourceServer.getSupportedKind(2, 'eip155:1', 'exact')).toMatchObject(
      body.kinds.at(-1) ?? {},
    )
    unbind()
    await expectCharged(0)
  })

  it('takes an in-process facilitator as the last resort', async () => {
    await open({
      facilitators: [
        { id: 'first', url: pool[0].url },
        { id: 'self-hosted', client: pool[1].inProcess },
      ],
    })
    await pool[0].kill()
    expect(await buy()).toMatchObject({ status: 200 })
    expect(aggregator.getStatistics().facilitators[1]).toMatchObject({ operations: { verify: 1, settle: 1 } })
    await expectCharged(1)
  })
})
