/**
 * What the aggregator costs on the healthy path: microseconds per operation over clients that answer at once,
 * beside a direct call, a naive fallback loop, and cockatiel's policies around the call. And whether its memory
 * grows. `npm run bench -- --json` prints one JSON object; with `--ledgers` the ledgers are measured instead.
 */
import { parseArgs } from 'node:util'
import type { PaymentPayload, PaymentRequirements, SettleResponse, VerifyResponse } from '@x402/core/types'
import {
  ConsecutiveBreaker,
  circuitBreaker,
  ExponentialBackoff,
  handleAll,
  retry,
  TimeoutStrategy,
  timeout,
  wrap,
} from 'cockatiel'
import type { FacilitatorClientLike, SettlementLedger } from '../src/index.ts'
import { type LedgerEntryPoints, measureLedgers, printLedgers } from './ledgers.ts'

export type Library = typeof import('../src/index.ts')

// The built package, as sellers run it: the loader that runs the sources names every function that is made.
const built = (name: string): Promise<unknown> => import(`../dist/${name}.js`)
const library = (await built('index')) as Library
const { FacilitatorAggregator, MemoryLedger } = library

const { values: flags } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    ledgers: { type: 'boolean', default: false },
    only: { type: 'string', default: '' },
    help: { type: 'boolean', default: false },
  },
})
if (flags.help) {
  console.log('usage: npm run bench -- [--json] [--ledgers [--only memory,redis,…]]')
  process.exit(0)
}

const rounds = 15
const callsPerRound = 20_000
const heapOperations = 1_000_000

const requirements: PaymentRequirements = {
  scheme: 'exact',
  network: 'eip155:8453',
  asset: '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913',
  amount: '10000',
  payTo: '0x2222222222222222222222222222222222222222',
  maxTimeoutSeconds: 60,
  extra: { name: 'USD Coin', version: '2' },
}
const signature = `0x${'ab'.repeat(65)}`
let payments = 0

/** A payment that nobody has seen, as each settles once; run out already, so that the ledger may forget it. */
function newPayload(): PaymentPayload {
  const nonce = `0x${(++payments).toString(16).padStart(64, '0')}`
  return {
    x402Version: 2,
    accepted: requirements,
    payload: { signature, authorization: { from: requirements.payTo, nonce, validBefore: '1' } },
  }
}
const verified: VerifyResponse = { isValid: true }
const settled: SettleResponse = { success: true, transaction: '0x01', network: 'eip155:8453' }

function noop(): FacilitatorClientLike {
  return {
    verify: async () => verified,
    settle: async () => settled,
    getSupported: async () => ({
      kinds: [{ x402Version: 2, scheme: 'exact', network: 'eip155:8453' }],
      extensions: [],
      signers: {},
    }),
  }
}

type Call = (operation: 'verify' | 'settle') => Promise<unknown>
const clients = [noop(), noop(), noop()] as const

const direct: Call = operation => clients[0][operation](newPayload(), requirements)

const naive: Call = async operation => {
  const payload = newPayload()
  let lastError: unknown
  for (const client of clients) {
    try {
      return await client[operation](payload, requirements)
    } catch (error) {
      lastError = error
    }
  }
  throw lastError
}

const policy = wrap(
  retry(handleAll, { maxAttempts: 1, backoff: new ExponentialBackoff() }),
  circuitBreaker(handleAll, { halfOpenAfter: 30_000, breaker: new ConsecutiveBreaker(3) }),
  timeout(5_000, TimeoutStrategy.Aggressive),
)
const cockatiel: Call = operation => {
  const payload = newPayload()
  return policy.execute<unknown>(() => clients[0][operation](payload, requirements))
}

const pool = new FacilitatorAggregator({
  facilitators: clients.map((client, index) => ({ id: `facilitator-${index}`, client })),
  maxLogEntries: 1_000,
  logger: false,
  settlement: { ledger: new MemoryLedger({ maxEntries: 10_000 }) },
})
pool.on('attempt', () => {})
await pool.getSupported()
const aggregator: Call = operation => pool[operation](newPayload(), requirements)

const contenders = { direct, naive, cockatiel, aggregator }
type Name = keyof typeof contenders

/** The median over rounds in which the contenders take turns, so that a slow moment hits all of them. */
async function measure(operation: 'verify' | 'settle'): Promise<Record<Name, number>> {
  const samples: Record<Name, number[]> = { direct: [], naive: [], cockatiel: [], aggregator: [] }
  for (let round = -2; round < rounds; round++) {
    for (const name of Object.keys(contenders) as Name[]) {
      const call = contenders[name]
      const startedAt = performance.now()
      for (let i = 0; i < callsPerRound; i++) await call(operation)
      const microseconds = ((performance.now() - startedAt) * 1000) / callsPerRound
      if (round >= 0) samples[name].push(microseconds)
    }
  }
  return Object.fromEntries(
    Object.entries(samples).map(([name, values]) => [name, Number(median(values).toFixed(3))]),
  ) as Record<Name, number>
}

function median(values: number[]): number {
  return values.sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}

/** Growth of the live heap over a million operations, after a warm-up that fills log, statistics and ledger. */
async function measureHeapGrowth(): Promise<number> {
  const run = async (operations: number) => {
    for (let i = 0; i < operations; i++) await aggregator(i % 2 === 0 ? 'verify' : 'settle')
  }
  await run(50_000)
  const before = liveHeap()
  await run(heapOperations)
  return liveHeap() - before
}

/** Microseconds of a healthy settle with a ledger, one after the other; the median of rounds. */
async function settleWith(ledger: SettlementLedger): Promise<number> {
  const facilitators = clients.map((client, index) => ({ id: `facilitator-${index}`, client }))
  const pool = new FacilitatorAggregator({ facilitators, logger: false, settlement: { ledger } })
  await pool.getSupported()
  const samples: number[] = []
  for (let round = 0; round < 5; round++) {
    const startedAt = performance.now()
    for (let i = 0; i < 200; i++) await pool.settle(newPayload(), requirements)
    samples.push(((performance.now() - startedAt) * 1000) / 200)
  }
  await pool.stop()
  return Number(median(samples).toFixed(1))
}

function liveHeap(): number {
  if (globalThis.gc === undefined) throw new Error('run with node --expose-gc, as npm run bench does')
  for (let i = 0; i < 4; i++) globalThis.gc()
  return process.memoryUsage().heapUsed
}

if (flags.ledgers) {
  const [redis, postgres, sqlite] = await Promise.all(['redis', 'postgres', 'sqlite'].map(built))
  const entryPoints = { redis, postgres, sqlite } as LedgerEntryPoints
  const results = await measureLedgers(
    library,
    entryPoints,
    settleWith,
    flags.only.split(',').filter(Boolean),
  )
  if (flags.json) console.log(JSON.stringify(results))
  else printLedgers(results)
  process.exit(0)
}

const result = {
  verify: await measure('verify'),
  settle: await measure('settle'),
  heapGrowthBytes: await measureHeapGrowth(),
}
await pool.stop()

if (flags.json) {
  console.log(JSON.stringify(result))
} else {
  console.log('microseconds per call, median of rounds in turn\n')
  console.log('           direct   naive  cockatiel  aggregator   aggregator / cockatiel')
  for (const operation of ['verify', 'settle'] as const) {
    const row = result[operation]
    console.log(
      `${operation.padEnd(8)}${row.direct.toFixed(2).padStart(9)}${row.naive.toFixed(2).padStart(8)}` +
        `${row.cockatiel.toFixed(2).padStart(11)}${row.aggregator.toFixed(2).padStart(12)}` +
        `${(row.aggregator / row.cockatiel).toFixed(2).padStart(25)}`,
    )
  }
  const mebibytes = (result.heapGrowthBytes / 1024 / 1024).toFixed(2)
  console.log(`\nheap growth over ${heapOperations.toLocaleString('en')} operations: ${mebibytes} MiB`)
}
