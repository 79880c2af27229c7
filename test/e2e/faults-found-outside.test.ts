/** Faults found by attacking the library with real facilitators on a real chain. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { HTTPFacilitatorClient } from '@x402/core/server'
import type { PaymentPayload, PaymentRequirements, SettleResponse } from '@x402/core/types'
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { readiness } from '../../src/http/readiness.ts'
import { FacilitatorAggregator, type FacilitatorOptions } from '../../src/index.ts'
import { createBuyer } from '../bed/buyer.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { price, startSeller } from '../bed/seller.ts'
import { startAlteredNode } from './probe-node.ts'
import { transferring } from './probe-payments.ts'

let chain: Chain
beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.5 })
})
afterAll(() => chain.stop())

const probes = () => [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })]

/** Where nobody listens. */
async function deadUrl(): Promise<string> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return `http://127.0.0.1:${port}/settle`
}

async function shopWith(facilitator: TestFacilitator, options: FacilitatorOptions, hasProbe: boolean) {
  const aggregator = new FacilitatorAggregator({
    facilitators: [options],
    healthCheck: false,
    deadlineMs: { settle: 12_000 },
    settlement: hasProbe ? { probes: probes() } : {},
  })
  const seller = await startSeller(chain, aggregator)
  onTestFinished(async () => {
    await seller.stop()
    await aggregator.stop({ inFlight: 'abort' })
    await facilitator.stop()
  })
  return { seller, aggregator, buyer: await createBuyer(chain) }
}

describe("upstream's client follows a redirect after the facilitator has charged", () => {
  const redirecting = async () => {
    const facilitator = await startFacilitator({ chain, id: 'first' })
    facilitator.fault({
      settle: {
        kind: 'act-then',
        next: { kind: 'answer', status: 307, headers: { location: await deadUrl() } },
      },
    })
    return facilitator
  }

  it('and the payment is delivered, though nobody listens where it leads', async () => {
    const facilitator = await redirecting()
    const client = new HTTPFacilitatorClient({ url: facilitator.url })
    const { seller, buyer } = await shopWith(facilitator, { id: 'first', client }, true)
    const purchase = await buyer.buy(seller.url)
    expect(await chain.balanceOf(seller.address)).toBe(price)
    expect(purchase).toMatchObject({ status: 200 })
  })

  it('and nobody calls it uncharged, though nobody listens where it leads', async () => {
    const facilitator = await redirecting()
    const client = new HTTPFacilitatorClient({ url: facilitator.url })
    const { seller, buyer, aggregator } = await shopWith(facilitator, { id: 'first', client }, false)
    const { payload } = await buyer.sign(seller.url)
    const { accepted } = payload
    await expect(aggregator.settle(payload, accepted)).rejects.toMatchObject({
      message: expect.not.stringContaining('nothing was charged'),
    })
    expect(await chain.balanceOf(seller.address)).toBe(price)
  })

  it('and the payment that is sent again is not refused as spent', async () => {
    const facilitator = await redirecting()
    const client = new HTTPFacilitatorClient({ url: facilitator.url })
    const { seller, buyer } = await shopWith(facilitator, { id: 'first', client }, true)
    const { status } = await buyer.buy(seller.url)
    facilitator.heal()
    expect(await chain.balanceOf(seller.address)).toBe(price)
    const again = await buyer.replay(seller.url, buyer.lastPayment)
    expect([status, again.status]).toContain(200)
  })
})

it('a payment is delivered whose facilitator charged and died before a fetch of the seller asked once more', async () => {
  const facilitator = await startFacilitator({ chain, id: 'first' })
  facilitator.fault({
    settle: {
      kind: 'act-then',
      next: {
        kind: 'draw',
        draw: () => {
          void facilitator.kill()
          return { kind: 'reset' }
        },
      },
    },
  })
  const persistent: typeof fetch = (input, init) => fetch(input, init).catch(() => fetch(input, init))
  const options = { id: 'first', url: facilitator.url, fetch: persistent }
  const { seller, buyer } = await shopWith(facilitator, options, true)
  const purchase = await buyer.buy(seller.url)
  expect(await chain.balanceOf(seller.address)).toBe(price)
  expect(purchase).toMatchObject({ status: 200 })
})

/** Pays on the chain, waits, and answers nothing. */
async function chargingStandIn(blocksAfter: number) {
  const relayer = await chain.newAccount('10')
  const payer = await chain.newAccount()
  await chain.mint(payer.address, price)
  const payTo = (await chain.newAccount()).address
  const nonce = `0x${'5a'.repeat(32)}` as const
  const call = await transferring(chain, payer, { nonce, to: payTo, value: price })
  const accepted: PaymentRequirements = {
    scheme: 'exact',
    network: chain.network,
    asset: chain.token.address,
    amount: `${price}`,
    payTo,
    maxTimeoutSeconds: 60,
    extra: {},
  }
  const payload: PaymentPayload = {
    x402Version: 2,
    accepted,
    payload: {
      signature: `0x${'ab'.repeat(65)}`,
      authorization: {
        from: payer.address,
        to: payTo,
        value: `${price}`,
        validAfter: '0',
        validBefore: '10000000000',
        nonce,
      },
    },
  }
  const client = {
    verify: async () => ({ isValid: true }),
    settle: async (): Promise<SettleResponse> => {
      await chain.walletOf(relayer).sendTransaction({ to: call.target, data: call.callData, gas: 300_000n })
      await chain.nextBlocks(blocksAfter)
      throw new Error('the connection was closed')
    },
    getSupported: async () => ({
      kinds: [{ x402Version: 2, scheme: 'exact', network: chain.network }],
      extensions: [],
      signers: {},
    }),
  }
  return { client, payload, accepted, payTo }
}

it('a payment is not refused after it was charged because the clock runs ahead, and the node searches no ranges', async () => {
  const { client, payload, accepted, payTo } = await chargingStandIn(12)
  const node = await startAlteredNode(chain.rpcUrl, ({ method, params }) =>
    method === 'eth_getLogs' && 'fromBlock' in (params[0] as object)
      ? { error: { code: -32601, message: 'eth_getLogs of ranges is not available' } }
      : undefined,
  )
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'first', client }],
    healthCheck: false,
    deadlineMs: { settle: 15_000 },
    settlement: { probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: node.url } })] },
  })
  const real = Date.now
  vi.spyOn(Date, 'now').mockImplementation(() => real() + 3_600_000)
  onTestFinished(async () => {
    vi.restoreAllMocks()
    await aggregator.stop({ inFlight: 'abort' })
  })
  const result = await aggregator.settle(payload, accepted).then(
    ({ success, errorReason }) => (success ? 'success' : `refused: ${errorReason}`),
    (error: { code: string }) => error.code,
  )
  expect(await chain.balanceOf(payTo)).toBe(price)
  expect(['success', 'SETTLEMENT_INDETERMINATE']).toContain(result)
})

describe('a buyer cannot stop the sale to others', () => {
  const changes: [string, object][] = [
    ['value', { value: 'much' }],
    ['validAfter', { validAfter: 'soon' }],
  ]
  it.each(changes)(
    'by payments with a malformed %s, which facilitators answer with HTTP 500',
    async (_, change) => {
      const facilitators = await Promise.all(['a', 'b'].map(id => startFacilitator({ chain, id })))
      const aggregator = new FacilitatorAggregator({
        facilitators: facilitators.map(({ id, url }) => ({ id, url })),
        healthCheck: false,
        backoffMs: 0,
        whenAllUnhealthy: 'refuse',
      })
      const seller = await startSeller(chain, aggregator)
      onTestFinished(async () => {
        await seller.stop()
        await aggregator.stop({ inFlight: 'abort' })
        for (const facilitator of facilitators) await facilitator.stop()
      })
      const buyer = await createBuyer(chain)
      for (let i = 0; i < 3; i++) {
        const { payload } = await buyer.sign(seller.url)
        const authorization = { ...(payload.payload.authorization as object), ...change }
        await buyer.replay(
          seller.url,
          buyer.encode({ ...payload, payload: { ...payload.payload, authorization } }),
        )
      }
      const honest = await createBuyer(chain)
      expect(await honest.buy(seller.url)).toMatchObject({ status: 200 })
      expect(readiness(aggregator.getHealthStatus(), false)).toMatchObject({ isReady: true })
    },
  )
})

it("a node's passing refusals do not make every later search ask for single blocks", async () => {
  let refusals = 14
  const node = await startAlteredNode(chain.rpcUrl, ({ method, params }) => {
    if (method === 'eth_getLogs' && refusals > 0) {
      refusals--
      return { error: { code: -32005, message: 'rate limit exceeded' } }
    }
    // It is no archive.
    if (method === 'eth_call' && params[1] !== undefined && isOld(params[1] as `0x${string}`))
      return { error: { code: -32000, message: 'missing trie node' } }
    return undefined
  })
  let head = 0n
  const isOld = (block: `0x${string}`) => block.length < 60 && BigInt(block) + 2n < head
  const payer = await chain.newAccount('10')
  await chain.mint(payer.address, price)
  const nonce = `0x${'6b'.repeat(32)}` as const
  const call = await transferring(chain, payer, { nonce, to: payer.address, value: price })
  await chain.walletOf(payer).sendTransaction({ to: call.target, data: call.callData, gas: 300_000n })
  await chain.nextBlocks(1)
  await chain.client.mine({ blocks: 200 })
  head = await chain.client.getBlockNumber({ cacheTime: 0 })
  const probe = evmSettlementProbe({ [chain.network]: { rpcUrl: node.url } })
  const query = {
    method: 'eip3009' as const,
    network: chain.network,
    asset: chain.token.address,
    payer: payer.address,
    nonce,
    payTo: payer.address,
    amount: `${price}`,
  }
  const signal = AbortSignal.timeout(60_000)
  await probe.ask(query, { signal })
  const before = node.methods.length
  expect(await probe.ask(query, { signal })).toMatchObject({ state: 'paid' })
  expect(node.methods.length - before).toBeLessThan(20)
})
