import { type ChildProcess, spawn } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import {
  type AggregatorEvents,
  type AggregatorOptions,
  FacilitatorAggregator,
  type SettlementOptions,
} from '../../src/index.ts'
import { type Buyer, createBuyer } from '../bed/buyer.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { price, type Seller, startSeller } from '../bed/seller.ts'
import { runCell } from '../chaos/cell.ts'
import { type FaultName, faults } from '../chaos/faults.ts'
import { startNode } from './node.ts'

let chain: Chain

beforeAll(async () => {
  chain = await startChain()
})
afterAll(() => chain.stop())

describe('no fault of a facilitator loses a payment or delivers one unpaid, with a probe', () => {
  const names = Object.keys(faults) as FaultName[]
  const cells = [
    ...names.map(fault => [fault, 1] as const),
    ...names.map(fault => [fault, 2] as const),
    ['random', 3] as const,
  ]

  it.concurrent.each(cells)('%s at %i', async (fault, facilitators) => {
    const cell = { chain, fault, facilitators, payments: 10, concurrency: 10, random: Math.random }
    expect(await runCell({ ...cell, client: 'with probe' })).toMatchObject({
      ok: 10,
      lost: 0,
      falseSuccess: 0,
      failed: 0,
      indeterminate: 0,
    })
  })

  it.concurrent.each(['settle, hang', 'settle, 502', 'hang before', 'random'] as const)(
    'without a probe what cannot be known is a 502, never a 402: %s',
    async fault => {
      const cell = { chain, fault, payments: 10, concurrency: 10, random: Math.random } as const
      const result = await runCell({
        ...cell,
        client: 'without probe',
        facilitators: fault === 'random' ? 3 : 1,
      })
      expect(result).toMatchObject({ lost: 0, falseSuccess: 0, failed: 0 })
      expect(result.ok + result.indeterminate).toBe(10)
    },
  )

  it.concurrent('where a naive fallback loses every payment', async () => {
    const cell = { chain, payments: 10, concurrency: 10, random: Math.random } as const
    expect(
      await runCell({ ...cell, client: 'naive', fault: 'settle, reset', facilitators: 1 }),
    ).toMatchObject({ ok: 0, lost: 10 })
  })
})

describe('a payment', () => {
  let pool: TestFacilitator[]
  let buyer: Buyer
  let aggregator: FacilitatorAggregator
  let seller: Seller
  let node: Awaited<ReturnType<typeof startNode>>

  async function open(settlement: SettlementOptions = {}, options: Partial<AggregatorOptions> = {}) {
    aggregator = new FacilitatorAggregator({
      facilitators: pool.map(({ id, url }) => ({ id, url })),
      timeoutMs: { settle: 5_000 },
      deadlineMs: { settle: 6_000 },
      settlement: {
        probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: node.url, timeoutMs: 500 } })],
        failoverAfterMs: 1_500,
        watchIntervalMs: 200,
        ...settlement,
      },
      ...options,
    })
    await aggregator.getSupported()
    seller = await startSeller(chain, aggregator)
    await fetch(seller.url)
  }

  beforeEach(async () => {
    node = await startNode(chain.rpcUrl)
    pool = await Promise.all(['first', 'second'].map(id => startFacilitator({ chain, id })))
    buyer = await createBuyer(chain)
  })
  afterEach(async () => {
    await aggregator.stop({ inFlight: 'abort' })
    await seller.stop()
    await Promise.all([...pool.map(one => one.stop()), node.stop()])
  })

  const received = async () => (await chain.balanceOf(seller.address)) / price

  it.each([false, true])(
    'that is sent 50 times at once, and again afterwards, delivers once (first attempt ambiguous: %s)',
    async isAmbiguous => {
      await open()
      if (isAmbiguous) pool[0]?.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
      const { payload } = await buyer.sign(seller.url)
      const settle = () =>
        aggregator.settle(payload, payload.accepted).then(
          ({ success, errorReason }) => (success ? 'success' : errorReason),
          error => error.code,
        )
      const answers = await Promise.all(Array.from({ length: 50 }, settle))
      expect(answers.filter(answer => answer === 'success')).toHaveLength(1)
      expect(answers.filter(answer => answer === 'SETTLEMENT_IN_PROGRESS')).toHaveLength(49)
      expect(await settle()).toBe('duplicate_settlement')
      expect(await received()).toBe(1n)
    },
  )

  async function endIn502() {
    await open()
    pool[0]?.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    node.mode = 'dead'
    const { headers } = await buyer.sign(seller.url)
    expect(await buyer.replay(seller.url, headers)).toMatchObject({ status: 502 })
    return headers
  }

  it('that ended in a 502 is delivered when the buyer sends it again, once', async () => {
    const headers = await endIn502()
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    node.mode = 'well'
    expect(await buyer.replay(seller.url, headers)).toMatchObject({
      status: 200,
      body: { goods: 'delivered' },
    })
    expect(await buyer.replay(seller.url, headers)).toMatchObject({ status: 402 })
    expect(await received()).toBe(1n)
    expect(await aggregator.getUnresolvedSettlements()).toEqual([])
  })

  it('that ended in a 502 is watched until the chain can be asked, and the seller gets an event', async () => {
    await endIn502()
    const resolved = new Promise<AggregatorEvents['settlement:resolved']>(resolve =>
      aggregator.once('settlement:resolved', resolve),
    )
    node.mode = 'well'
    expect(await resolved).toMatchObject({ result: 'paid', payer: buyer.address, amount: `${price}` })
  })

  it('that ended in a 502 is refused with onRetry reject, and the seller gets an event', async () => {
    await open({ onRetry: 'reject' })
    pool[0]?.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    node.mode = 'dead'
    const { headers } = await buyer.sign(seller.url)
    await buyer.replay(seller.url, headers)
    const told = new Promise(resolve => aggregator.once('settlement:indeterminate', resolve))
    node.mode = 'well'
    expect(await buyer.replay(seller.url, headers)).toMatchObject({ status: 402 })
    expect(await told).toMatchObject({ isRetryRejected: true })
  })

  it.each(['lags', 'limits', 'babbles'] as const)('survives a node that %s for a while', async mode => {
    await open()
    pool[0]?.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    node.mode = mode
    setTimeout(() => {
      node.mode = 'well'
    }, 1_500)
    expect(await buyer.buy(seller.url)).toMatchObject({ status: 200 })
    expect(await received()).toBe(1n)
  })

  it('falls over to a second node', async () => {
    node.mode = 'dead'
    const rpcUrl = [node.url, chain.rpcUrl]
    await open({ probes: [evmSettlementProbe({ [chain.network]: { rpcUrl, timeoutMs: 300 } })] })
    pool[0]?.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    expect(await buyer.buy(seller.url)).toMatchObject({ status: 200 })
  })

  it('through a facilitator that hangs costs at most failoverAfterMs and a block, then nothing', async () => {
    await open()
    pool[0]?.fault({ settle: { kind: 'hang' } })
    const slow = await Promise.all([1, 2, 3].map(() => buyer.buy(seller.url)))
    for (const purchase of slow) {
      expect(purchase.status).toBe(200)
      expect(purchase.durationMs).toBeLessThan(1_500 + 2_000)
    }
    await expect
      .poll(() => aggregator.getHealthStatus().facilitators[0]?.isHealthy, { timeout: 8_000 })
      .toBe(false)
    const settlesBefore = pool[0]?.calls.settle
    expect(await buyer.buy(seller.url)).toMatchObject({ status: 200 })
    expect(pool[0]?.calls.settle).toBe(settlesBefore)
  })

  it('that somebody else has settled is never a success', async () => {
    await open()
    const { payload, headers } = await buyer.sign(seller.url)
    await pool[1]?.inProcess.settle(payload, payload.accepted)
    expect(await buyer.replay(seller.url, headers)).toMatchObject({ status: 402 })
    await expect(aggregator.settle(payload, payload.accepted)).rejects.toMatchObject({
      code: 'SETTLEMENT_INDETERMINATE',
    })
  })

  it.each([
    ['to another payee', { payTo: '0x000000000000000000000000000000000000dEaD' }],
    ['for more than it moved', { amount: `${price + 1n}` }],
  ])('%s is never a success, though the chain says that it was used', async (_, change) => {
    await open()
    for (const one of pool) one.fault({ settle: { kind: 'answer', status: 502 } })
    const { payload } = await buyer.sign(seller.url)
    await pool[1]?.inProcess.settle(payload, payload.accepted)
    expect(await aggregator.settle(payload, { ...payload.accepted, ...change })).toMatchObject({
      success: false,
    })
  })

  it('that a reorganization takes back is not a success before its confirmations', async () => {
    const probes = [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl, confirmations: 3 } })]
    await open({ audit: 'always', probes }, { deadlineMs: { settle: 30_000 } })
    const { payload, nonce } = await buyer.sign(seller.url)
    const settlement = aggregator.settle(payload, payload.accepted)
    await expect.poll(() => chain.isSpent(buyer.address, nonce), { interval: 20 }).toBe(true)
    await chain.reorganize(1)
    expect(await chain.isSpent(buyer.address, nonce)).toBe(false)
    expect(await settlement).toMatchObject({ success: true })
    expect(await chain.isSpent(buyer.address, nonce)).toBe(true)
    expect(await received()).toBe(1n)
  })

  it('whose seller is killed between broadcast and answer is no second success after the restart', async () => {
    await open()
    pool[0]?.fault({ settle: { kind: 'act-then', next: { kind: 'hang' } } })
    const env = {
      FACILITATORS: JSON.stringify(pool.map(({ id, url }) => ({ id, url }))),
      RPC_URL: chain.rpcUrl,
    }
    const { payload, nonce } = await buyer.sign(seller.url)
    const first = startSettler({ ...env, NO_PROBE: '1' }, payload)
    await expect.poll(() => chain.isSpent(buyer.address, nonce), { timeout: 10_000, interval: 20 }).toBe(true)
    first.process.kill('SIGKILL')
    await chain.nextBlocks(4)
    const again = await startSettler(env, payload).answer
    expect(['rejected', 'indeterminate']).toContain(again)
  })
})

/** A process of its own that settles one payment and says how that went. */
function startSettler(
  env: Record<string, string>,
  payload: unknown,
): { process: ChildProcess; answer: Promise<string> } {
  const script = fileURLToPath(new URL('./settler.ts', import.meta.url))
  const settler = spawn(process.execPath, ['--import', 'tsx', script], {
    env: { ...process.env, ...env, PAYLOAD: JSON.stringify(payload) },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  settler.stdout.on('data', chunk => {
    output += chunk
  })
  return {
    process: settler,
    answer: new Promise(resolve => settler.on('exit', () => resolve(output.trim()))),
  }
}
