import { HTTPFacilitatorClient } from '@x402/core/server'
import type { PaymentPayload } from '@x402/core/types'
import type { Address, Hex } from 'viem'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { table } from '../../src/cli/table.ts'
import { createGateway } from '../../src/http/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { type GatewayServer, listen } from '../../src/node/index.ts'
import { type Buyer, createBuyer } from '../bed/buyer.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { type Fault, startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { startGatewayProcess } from '../bed/gateway-process.ts'
import { price, type Seller, startSeller } from '../bed/seller.ts'

let chain: Chain
let buyer: Buyer

beforeAll(async () => {
  chain = await startChain()
  buyer = await createBuyer(chain)
})
afterAll(() => chain.stop())

describe('a server behind the gateway', () => {
  let pool: TestFacilitator[]
  let seller: Seller
  let gateway: Awaited<ReturnType<typeof startGatewayProcess>>
  const token = 'a-token'
  const authorization = `Bearer ${token}`
  const headers = { authorization, 'content-type': 'application/json' }

  const start = () =>
    startGatewayProcess({
      FACILITATOR_1_URL: pool[0]?.url ?? '',
      FACILITATOR_2_URL: pool[1]?.url ?? '',
      [`RPC_URL_${chain.chainId}`]: chain.rpcUrl,
      FACILITATOR_GATEWAY_TOKEN: token,
    })

  beforeEach(async () => {
    pool = await Promise.all(['first', 'second'].map(id => startFacilitator({ chain, id })))
    await pool[0]?.kill()
    gateway = await start()
    const bearer = { authorization }
    const client = new HTTPFacilitatorClient({
      url: gateway.url,
      createAuthHeaders: async () => ({ verify: bearer, settle: bearer, supported: bearer }),
    })
    seller = await startSeller(chain, client)
  })
  afterEach(async () => {
    await gateway.end('SIGKILL')
    await seller.stop()
    await Promise.all(pool.map(facilitator => facilitator.stop()))
  })

  async function sign(count: number): Promise<PaymentPayload[]> {
    const signed = await Promise.all(Array.from({ length: count }, () => buyer.sign(seller.url)))
    return signed.map(({ payload }) => payload)
  }

  function isSpent({ payload }: PaymentPayload): Promise<boolean> {
    const { from, nonce } = payload.authorization as { from: Address; nonce: Hex }
    return chain.isSpent(from, nonce)
  }

  const settlesBegan = (count: number) =>
    vi.waitFor(() => expect(pool[1]?.calls.settle).toBeGreaterThanOrEqual(count), {
      timeout: 20_000,
      interval: 5,
    })

  async function settle(paymentPayload: PaymentPayload, key?: string): Promise<unknown> {
    const response = await fetch(`${gateway.url}/settle`, {
      method: 'POST',
      headers: key === undefined ? headers : { ...headers, 'idempotency-key': key },
      body: JSON.stringify({
        x402Version: 2,
        paymentPayload,
        paymentRequirements: paymentPayload.accepted,
      }),
    })
    return response.json()
  }

  it("sells with upstream's client while the primary is dead", async () => {
    const before = await chain.balanceOf(seller.address)
    expect(await buyer.buy(seller.url)).toMatchObject({ status: 200, settlement: { success: true } })
    expect((await chain.balanceOf(seller.address)) - before).toBe(price)
  })

  it('loses nothing when it gets SIGTERM while 50 settlements run', async () => {
    const payloads = await sign(50)
    const before = await chain.balanceOf(seller.address)
    const answers = Promise.all(payloads.map(payload => settle(payload)))
    await settlesBegan(50)
    const ended = gateway.end('SIGTERM')
    const settled = await answers
    expect(settled.filter(answer => (answer as { success: boolean }).success)).toHaveLength(50)
    expect(await ended).toBe(0)
    expect((await chain.balanceOf(seller.address)) - before).toBe(price * 50n)
    expect(gateway.said()).toContain('SIGTERM: finishing what is in flight')
    await expect(settle(payloads[0] as PaymentPayload)).rejects.toThrow('fetch failed')
  })

  it('ends at once at the second signal', async () => {
    pool[1]?.fault({ settle: { kind: 'hang' } })
    const [payload] = await sign(1)
    const answer = settle(payload as PaymentPayload).catch(() => 'cut')
    await settlesBegan(1)
    gateway.signal('SIGTERM')
    await vi.waitFor(() => expect(gateway.said()).toContain('SIGTERM'), 10_000)
    expect(await gateway.end('SIGTERM')).toBe(143)
    expect(await answer).toBe('cut')
  })

  it('says what it leaves unresolved when the time of grace is over', async () => {
    const [payload] = await sign(1)
    await gateway.end('SIGKILL')
    pool[1]?.fault({ settle: { kind: 'hang' } })
    gateway = await startGatewayProcess(
      { FACILITATOR_1_URL: pool[1]?.url ?? '', FACILITATOR_GATEWAY_TOKEN: token },
      ['--grace', '1'],
    )
    const answer = settle(payload as PaymentPayload)
    await settlesBegan(1)
    const ended = gateway.end('SIGTERM')
    expect(await answer).toMatchObject({ error: 'SETTLEMENT_INDETERMINATE' })
    expect(await ended).toBe(0)
    expect(gateway.said()).toContain('not everything was finished within 1000 ms')
    expect(gateway.said()).toMatch(
      /lost with this process, .*: 10000 of 0x\w{40} on eip155:84532 by 0x\w{40}, key eip3009\|/,
    )
  })

  it('delivers nothing twice when it is killed while settlements run, and is asked again', async () => {
    const payloads = await sign(10)
    const first = payloads.map((payload, i) => settle(payload, `key ${i}`).catch(() => 'cut'))
    await settlesBegan(5)
    await gateway.end('SIGKILL')
    const cut = await Promise.all(first)
    await chain.nextBlocks(3)
    const isCharged = () => Promise.all(payloads.map(isSpent))
    const wasCharged = await isCharged()
    expect(wasCharged).toContain(true)
    gateway = await start()
    const again = await Promise.all(payloads.map((payload, i) => settle(payload, `key ${i}`)))
    const success = expect.objectContaining({ success: true })
    const indeterminate = expect.objectContaining({ error: 'SETTLEMENT_INDETERMINATE' })
    // Whose charge it is was known to the process that was killed, and is in no ledger.
    expect(again).toEqual(wasCharged.map(charged => (charged ? indeterminate : success)))
    const isSuccess = (answer: unknown) => (answer as { success?: boolean }).success === true
    for (const i of payloads.keys()) expect([cut[i], again[i]].filter(isSuccess).length).toBeLessThan(2)
    expect(await isCharged()).toEqual(payloads.map(() => true))
  }, 60_000)
})

describe("upstream's client sees through the gateway what it sees of a facilitator", () => {
  let facilitator: TestFacilitator
  let seller: Seller
  let aggregator: FacilitatorAggregator
  let gateway: GatewayServer
  let direct: HTTPFacilitatorClient
  let through: HTTPFacilitatorClient
  const rows: string[][] = [['OPERATION', 'THE FACILITATOR', 'DIRECTLY', 'THROUGH THE GATEWAY']]

  beforeAll(async () => {
    facilitator = await startFacilitator({ chain, id: 'only' })
    aggregator = new FacilitatorAggregator({
      // One buyer buys the same thing from all of them, whatever became of the last purchase.
      settlement: { credit: false },
      facilitators: [{ id: 'only', url: facilitator.url }],
      retries: 0,
      healthCheck: false,
      timeoutMs: { verify: 700, settle: 2_500 },
      logger: false,
    })
    gateway = await listen(createGateway(aggregator), { port: 0 })
    direct = new HTTPFacilitatorClient({ url: facilitator.url, timeoutMs: 3_000 })
    through = new HTTPFacilitatorClient({ url: gateway.url, timeoutMs: 5_000 })
    seller = await startSeller(chain, direct)
  })
  afterAll(async () => {
    console.log(table(rows))
    await aggregator.stop({ inFlight: 'abort' })
    await gateway.close()
    await seller.stop()
    await facilitator.stop()
  })

  /** What a server makes of a call: a result, `failure` (402 to the buyer), or `unavailable` (502). */
  async function outcome(
    client: HTTPFacilitatorClient,
    operation: 'verify' | 'settle',
    payload: PaymentPayload,
  ): Promise<string> {
    try {
      const answer = await client[operation](payload, payload.accepted)
      if ('isValid' in answer) return answer.isValid ? 'valid' : `invalid: ${answer.invalidReason}`
      return answer.success ? 'settled' : `rejected: ${answer.errorReason}`
    } catch (error) {
      const { name } = error as Error
      return name === 'FacilitatorResponseError' || name === 'FacilitatorTimeoutError'
        ? 'unavailable'
        : 'failure'
    }
  }

  const answer = (status: number): Fault => ({ kind: 'answer', status })
  const faults: [string, Fault | undefined][] = [
    ['is well', undefined],
    ['answers 400', answer(400)],
    ['answers 401', answer(401)],
    ['answers 404', answer(404)],
    ['answers 429', answer(429)],
    ['answers 500', answer(500)],
    ['answers 503', answer(503)],
    ['answers garbage', { kind: 'answer', status: 200, body: '<html>' }],
    ['resets', { kind: 'reset' }],
    ['hangs', { kind: 'hang' }],
  ]
  const afterwards: [string, Fault][] = [
    ['settles, answers 502', { kind: 'act-then', next: answer(502) }],
    ['settles, resets', { kind: 'act-then', next: { kind: 'reset' } }],
    ['settles, hangs', { kind: 'act-then', next: { kind: 'hang' } }],
  ]

  async function both(
    operation: 'verify' | 'settle',
    name: string,
    change: (payload: PaymentPayload) => PaymentPayload = payload => payload,
  ): Promise<[string, string]> {
    const [one, other] = await Promise.all([buyer.sign(seller.url), buyer.sign(seller.url)])
    const seen: [string, string] = [
      await outcome(direct, operation, change(one.payload)),
      await outcome(through, operation, change(other.payload)),
    ]
    rows.push([operation, name, ...seen])
    return seen
  }

  it.each(faults)('verify when it %s', async (name, fault) => {
    facilitator.heal()
    if (fault !== undefined) facilitator.fault({ verify: fault })
    const [seenDirectly, seenThrough] = await both('verify', name)
    if (fault === undefined) expect([seenDirectly, seenThrough]).toEqual(['valid', 'valid'])
    else expect(['failure', 'unavailable']).toContain(seenThrough)
  })

  it('verify of a payment that is wrong', async () => {
    facilitator.heal()
    const [seenDirectly, seenThrough] = await both('verify', 'is well, the signature wrong', payload => ({
      ...payload,
      payload: { ...payload.payload, signature: `0x${'11'.repeat(65)}` },
    }))
    expect(seenDirectly).toMatch(/^invalid: /)
    expect(seenThrough).toBe(seenDirectly)
  })

  it.each([...faults, ...afterwards])('settle when it %s', async (name, fault) => {
    facilitator.heal()
    if (fault !== undefined) facilitator.fault({ settle: fault })
    const [seenDirectly, seenThrough] = await both('settle', name)
    if (fault === undefined) expect([seenDirectly, seenThrough]).toEqual(['settled', 'settled'])
    else if (['answers 401', 'answers 404', 'answers 429'].includes(name))
      expect([seenDirectly, seenThrough]).toEqual(['failure', 'failure'])
    // Where the money may have moved, the gateway never reads as a failure.
    else expect(seenThrough).toBe('unavailable')
  })

  it('settle of a payment that is wrong', async () => {
    facilitator.heal()
    const [seenDirectly, seenThrough] = await both('settle', 'is well, the signature wrong', payload => ({
      ...payload,
      payload: { ...payload.payload, signature: `0x${'11'.repeat(65)}` },
    }))
    expect(seenDirectly).toMatch(/^rejected: /)
    expect(seenThrough).toBe(seenDirectly)
  })

  it('what is supported', async () => {
    expect(await through.getSupported()).toEqual(await direct.getSupported())
  })
})

describe('a payment that the gateway has found valid', () => {
  let facilitator: TestFacilitator
  let aggregator: FacilitatorAggregator
  let gateway: GatewayServer
  let seller: Seller
  let client: HTTPFacilitatorClient

  beforeEach(async () => {
    facilitator = await startFacilitator({ chain, id: 'only' })
    aggregator = new FacilitatorAggregator({
      facilitators: [{ id: 'only', url: facilitator.url }],
      retries: 0,
      healthCheck: false,
    })
    gateway = await listen(createGateway(aggregator, { rateLimit: { perSecond: 0.001, burst: 20 } }), {
      port: 0,
    })
    client = new HTTPFacilitatorClient({ url: gateway.url })
    seller = await startSeller(chain, client)
  })
  afterEach(async () => {
    await seller.stop()
    await aggregator.stop({ inFlight: 'abort' })
    await gateway.close()
    await facilitator.stop()
  })

  it('is settled though so many requests came since that all others are refused', async () => {
    const { payload } = await buyer.sign(seller.url)
    const other = await buyer.sign(seller.url)
    expect(await client.verify(payload, payload.accepted)).toMatchObject({ isValid: true })
    const statuses = new Set<number>()
    while (!statuses.has(429)) statuses.add((await fetch(`${gateway.url}/supported`)).status)
    await expect(client.settle(other.payload, other.payload.accepted)).rejects.toThrow('(429)')
    const before = await chain.balanceOf(seller.address)
    expect(await client.settle(payload, payload.accepted)).toMatchObject({ success: true })
    expect((await chain.balanceOf(seller.address)) - before).toBe(price)
  })

  it('makes a 502 and no 402 when nobody settles it, so that its buyer does not sign again', async () => {
    facilitator.fault({ settle: { kind: 'answer', status: 401 } })
    expect(await buyer.buy(seller.url)).toMatchObject({ status: 502 })
    facilitator.heal()
    expect(await buyer.replay(seller.url, buyer.lastPayment)).toMatchObject({
      status: 200,
      settlement: { success: true },
    })
  })
})
