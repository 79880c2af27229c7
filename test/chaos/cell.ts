/** One cell of the fault matrix: many purchases under one fault, judged by the chain. */
import type { FacilitatorClient } from '@x402/core/server'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { createBuyer, type SignedPayment } from '../bed/buyer.ts'
import type { Chain } from '../bed/chain.ts'
import { type Fault, startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { naiveFallback } from '../bed/naive-fallback.ts'
import { price, startSeller } from '../bed/seller.ts'

/** Faults of settle; `refuse` and `no gas` are conditions of the whole facilitator. */
export const faults = {
  refuse: 'refuse',
  'hang before': { kind: 'hang' },
  'settle, hang': { kind: 'act-then', next: { kind: 'hang' } },
  'settle, reset': { kind: 'act-then', next: { kind: 'reset' } },
  'settle, 502': { kind: 'act-then', next: { kind: 'answer', status: 502 } },
  'settle, garbage': { kind: 'act-then', next: { kind: 'answer', status: 200, body: '<html>' } },
  '500 before': { kind: 'answer', status: 500 },
  '429': { kind: 'answer', status: 429, headers: { 'retry-after': '1' } },
  'no gas': 'no gas',
  pending: { kind: 'pending' },
  slow: { kind: 'slow', ms: 3_000 },
  lie: { kind: 'lie' },
} as const satisfies Record<string, Fault | 'refuse' | 'no gas'>

export type FaultName = keyof typeof faults | 'random'
export type ClientName = 'with probe' | 'without probe' | 'naive'

export interface CellOptions {
  readonly chain: Chain
  readonly client: ClientName
  readonly fault: FaultName
  /** How many of the three facilitators have it, in order of priority. */
  readonly facilitators: 1 | 2 | 3
  readonly payments: number
  readonly concurrency: number
  /** Draws numbers from 0 to 1. */
  readonly random: () => number
  readonly onProgress?: (done: number) => void
}

export interface CellResult {
  readonly client: ClientName
  readonly fault: FaultName
  readonly facilitators: number
  /** Delivered, and charged once. */
  ok: number
  /** Charged, but reported so that the buyer is asked to pay again. */
  lost: number
  /** Delivered, but not charged. */
  falseSuccess: number
  /** Neither delivered nor charged. */
  failed: number
  /** Reported as not known (502): not delivered, and the buyer is not asked again. */
  indeterminate: number
  /** Transactions beyond one per charged payment. */
  duplicateBroadcasts: number
  p50Ms: number
  p95Ms: number
  maxMs: number
}

const settleTimeoutMs = 6_000

export async function runCell(options: CellOptions): Promise<CellResult> {
  const { chain, client, fault, payments } = options
  const pool = await Promise.all(['first', 'second', 'third'].map(id => startFacilitator({ chain, id })))
  const facilitator = makeClient(client, chain, pool, fault === 'lie')
  const seller = await startSeller(chain, facilitator)
  const buyer = await createBuyer(chain, price * BigInt(payments))
  await facilitator.getSupported()
  // The first offer initializes the middleware, which asks what is supported.
  await fetch(seller.url)
  for (const ill of pool.slice(0, options.facilitators)) await breakIt(ill, fault, options.random)

  const purchases: { payment: SignedPayment; status: number; text: string; durationMs: number }[] = []
  let begun = 0
  const buyOneAfterTheOther = async () => {
    while (begun < payments) {
      begun++
      const payment = await buyer.sign(seller.url)
      const { status, body, durationMs } = await buyer.replay(seller.url, payment.headers)
      purchases.push({ payment, status, text: JSON.stringify(body), durationMs })
      options.onProgress?.(purchases.length)
    }
  }
  await Promise.all(Array.from({ length: options.concurrency }, buyOneAfterTheOther))
  await chain.nextBlocks(3)

  const result: CellResult = {
    client,
    fault,
    facilitators: options.facilitators,
    ok: 0,
    lost: 0,
    falseSuccess: 0,
    failed: 0,
    indeterminate: 0,
    duplicateBroadcasts: 0,
    ...percentiles(purchases.map(({ durationMs }) => durationMs)),
  }
  let charged = 0
  for (const { payment, status, text } of purchases) {
    const isCharged = await chain.isSpent(buyer.address, payment.nonce)
    if (isCharged) charged++
    const isUnknown = status === 502 && (text.includes('may have been charged') || client === 'naive')
    if (status === 200) isCharged ? result.ok++ : result.falseSuccess++
    else if (isUnknown) result.indeterminate++
    else isCharged ? result.lost++ : result.failed++
  }
  result.duplicateBroadcasts = pool.reduce((sum, { broadcasts }) => sum + broadcasts, 0) - charged
  const received = await chain.balanceOf(seller.address)
  if (received !== price * BigInt(charged))
    throw new Error(`the seller received ${received}, but ${charged} payments of ${price} were charged`)

  if (facilitator instanceof FacilitatorAggregator) await facilitator.stop({ inFlight: 'abort' })
  await seller.stop()
  await Promise.all(pool.map(one => one.stop()))
  return result
}

function makeClient(
  name: ClientName,
  chain: Chain,
  pool: readonly TestFacilitator[],
  isAudited: boolean,
): FacilitatorClient & { getSupported(): Promise<unknown> } {
  if (name === 'naive')
    return naiveFallback(
      pool.map(({ url }) => url),
      settleTimeoutMs,
    )
  const probes =
    name === 'with probe' ? [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })] : []
  return new FacilitatorAggregator({
    facilitators: pool.map(({ id, url }) => ({ id, url })),
    timeoutMs: { settle: settleTimeoutMs },
    settlement: { probes, audit: isAudited ? 'always' : 'off', failoverAfterMs: 3_000, probeAfterMs: 1_500 },
    logLevel: 'error',
  })
}

async function breakIt(facilitator: TestFacilitator, name: FaultName, random: () => number): Promise<void> {
  if (name === 'random') {
    const drawable = Object.values(faults).filter(fault => typeof fault === 'object' && fault.kind !== 'lie')
    const draw = () =>
      random() < 0.3 ? (drawable[Math.floor(random() * drawable.length)] as Fault) : undefined
    return facilitator.fault({ settle: { kind: 'draw', draw } })
  }
  const fault = faults[name]
  if (fault === 'refuse') return facilitator.kill()
  if (fault === 'no gas') return facilitator.drainGas()
  facilitator.fault({ settle: fault })
}

function percentiles(durations: number[]): Pick<CellResult, 'p50Ms' | 'p95Ms' | 'maxMs'> {
  const sorted = durations.sort((a, b) => a - b)
  const at = (quantile: number) => Math.round(sorted[Math.ceil(sorted.length * quantile) - 1] ?? 0)
  return { p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1) }
}
