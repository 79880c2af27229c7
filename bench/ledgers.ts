/**
 * What the ledgers cost: a claim and its update on real servers of this machine, beside the barest call that the same
 * client can make in the same run, and a healthy settle with each of them. `npm run bench -- --ledgers`, with `--only`.
 */
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PGlite } from '@electric-sql/pglite'
import { Redis as IoRedis } from 'ioredis'
import pg from 'pg'
import { createClient } from 'redis'
import type { ClaimRequest, LedgerUpdate, SettlementLedger } from '../src/index.ts'
import { redisServer, startRedis } from '../test/bed/redis.ts'
import { hasPostgres, startPostgres } from '../test/ledgers/servers.ts'
import type { Library } from './main.ts'

/** A ledger in place, and the barest call of its client; absent where the client goes nowhere. */
interface Place {
  readonly ledger: SettlementLedger
  readonly bare?: () => Promise<unknown>
  close(): Promise<void>
}

interface Contender {
  readonly name: string
  /** What the bare call is. */
  readonly bareName: string
  /** Why it is left out, if it is. */
  readonly missing?: string | undefined
  open(): Promise<Place>
}

export interface LedgerEntryPoints {
  readonly redis: typeof import('../src/redis/index.ts')
  readonly postgres: typeof import('../src/postgres/index.ts')
  readonly sqlite: typeof import('../src/sqlite/index.ts')
}

const noRedis = redisServer ? undefined : 'no redis-server is installed'

function contenders(library: Library, { redis, postgres, sqlite }: LedgerEntryPoints): readonly Contender[] {
  return [
    {
      name: 'memory',
      bareName: '-',
      async open() {
        return { ledger: new library.MemoryLedger(), close: async () => {} }
      },
    },
    {
      name: 'redis',
      bareName: 'PING',
      missing: noRedis,
      async open() {
        const server = await startRedis({ appendfsync: 'everysec' })
        const client = await createClient({ url: server.url }).connect()
        return {
          ledger: redis.redisLedger({ client }),
          bare: () => client.ping(),
          async close() {
            client.destroy()
            await server[Symbol.asyncDispose]()
          },
        }
      },
    },
    {
      name: 'ioredis',
      bareName: 'PING',
      missing: noRedis,
      async open() {
        const server = await startRedis({ appendfsync: 'everysec' })
        const client = new IoRedis(server.url)
        return {
          ledger: redis.redisLedger({ client }),
          bare: () => client.ping(),
          async close() {
            client.disconnect()
            await server[Symbol.asyncDispose]()
          },
        }
      },
    },
    {
      name: 'postgres',
      bareName: 'SELECT 1',
      missing: hasPostgres() ? undefined : 'PostgreSQL is not installed',
      async open() {
        const server = await startPostgres()
        const client = new pg.Pool({ connectionString: server.url, max: 16 })
        const ledger = postgres.postgresLedger({ client })
        await ledger.migrate()
        return {
          ledger,
          bare: () => client.query('SELECT 1'),
          async close() {
            await client.end()
            await server.stop()
          },
        }
      },
    },
    {
      name: 'pglite',
      bareName: 'SELECT 1',
      async open() {
        const client = new PGlite()
        const ledger = postgres.postgresLedger({ client })
        await ledger.migrate()
        return { ledger, bare: () => client.query('SELECT 1'), close: () => client.close() }
      },
    },
    {
      name: 'sqlite',
      bareName: '-',
      async open() {
        const folder = mkdtempSync(join(tmpdir(), 'x402-bench-'))
        const ledger = sqlite.sqliteLedger({ path: join(folder, 'x402.db') })
        return {
          ledger,
          async close() {
            await ledger.close()
            if (existsSync(folder)) rmSync(folder, { recursive: true })
          },
        }
      },
    },
  ]
}

const concurrencies = [1, 32, 256]
/** Calls of each kind at each concurrency, in turns, so that a slow moment hits all of them. */
const callsPerTurn = 512
const turns = 4

export interface Timing {
  readonly p50Ms: number
  readonly p99Ms: number
  readonly perSecond: number
}

export interface LedgerResult {
  readonly name: string
  readonly bareName: string
  readonly rows: readonly {
    readonly concurrency: number
    readonly bare?: Timing
    readonly claim: Timing
    readonly update: Timing
  }[]
  /** Microseconds of a healthy settle with it. */
  readonly settleUs: number
}

/** @param only names of ledgers; all of them, if none are given */
export async function measureLedgers(
  library: Library,
  entryPoints: LedgerEntryPoints,
  settleWith: (ledger: SettlementLedger) => Promise<number>,
  only: readonly string[] = [],
): Promise<readonly LedgerResult[]> {
  const results: LedgerResult[] = []
  for (const { name, bareName, missing, open } of contenders(library, entryPoints)) {
    if (only.length > 0 && !only.includes(name)) continue
    if (missing !== undefined) {
      console.error(`left out: ${name}, as ${missing}`)
      continue
    }
    let place: Place | undefined
    try {
      place = await open()
      await measure(place, 1)
      const rows = []
      for (const concurrency of concurrencies)
        rows.push({ concurrency, ...(await measure(place, concurrency)) })
      results.push({ name, bareName, rows, settleUs: await settleWith(place.ledger) })
    } catch (error) {
      if (place) throw error
      console.error(`left out: ${name}: ${(error as Error).message}`)
    } finally {
      await place?.close()
    }
  }
  return results
}

async function measure({ ledger, bare }: Place, concurrency: number) {
  const samples = { bare: [] as number[], claim: [] as number[], update: [] as number[] }
  const spent = { bare: 0, claim: 0, update: 0 }
  const run = async (kind: keyof typeof samples, calls: readonly (() => Promise<unknown>)[]) => {
    const startedAt = performance.now()
    samples[kind].push(...(await timed(calls, concurrency)))
    spent[kind] += performance.now() - startedAt
  }
  for (let turn = 0; turn < turns; turn++) {
    const requests = Array.from({ length: callsPerTurn }, newClaim)
    if (bare)
      await run(
        'bare',
        Array.from({ length: callsPerTurn }, () => bare),
      )
    await run(
      'claim',
      requests.map(request => () => ledger.claim(request)),
    )
    await run(
      'update',
      requests.map(
        ({ key, claim }) =>
          () =>
            ledger.update({ key, claim, settlement: settled }),
      ),
    )
  }
  const timing = (kind: keyof typeof samples): Timing => {
    const sorted = samples[kind].sort((one, other) => one - other)
    const at = (share: number) => Number((sorted[Math.floor(sorted.length * share)] ?? Number.NaN).toFixed(3))
    return {
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      perSecond: Math.round((sorted.length / spent[kind]) * 1000),
    }
  }
  return { ...(bare && { bare: timing('bare') }), claim: timing('claim'), update: timing('update') }
}

/** The milliseconds of each call, so many of them at a time. */
async function timed(calls: readonly (() => Promise<unknown>)[], concurrency: number): Promise<number[]> {
  const times: number[] = []
  const queue = calls.values()
  const work = async () => {
    for (const call of queue) {
      const startedAt = performance.now()
      await call()
      times.push(performance.now() - startedAt)
    }
  }
  await Promise.all(Array.from({ length: concurrency }, work))
  return times
}

const settled: LedgerUpdate['settlement'] = { state: 'settled', transaction: `0x${'12'.repeat(32)}` }
let payments = 0

/** As long as a real one. */
function newClaim(): ClaimRequest {
  const nonce = `0x${(++payments).toString(16).padStart(64, '0')}`
  const payer = `0x${(payments % 1_000).toString(16).padStart(40, 'a')}`
  const asset = '0x833589fcd6edb6e08f4c7c32d4f71b54bda02913'
  return {
    key: `eip3009|eip155:8453|${asset}|${payer}|${nonce}`,
    fingerprint: `0x${'ab'.repeat(65)}|${asset}|0x${'22'.repeat(20)}|10000`,
    claim: crypto.randomUUID(),
    leaseMs: 90_000,
    query: {
      method: 'eip3009',
      network: 'eip155:8453',
      asset,
      payer,
      nonce,
      payTo: `0x${'22'.repeat(20)}`,
      amount: '10000',
      validBefore: Math.floor(Date.now() / 1000) + 600,
    },
  }
}

export function printLedgers(results: readonly LedgerResult[]): void {
  console.log('milliseconds per call, so many at a time; `bare` is the barest call of the same client\n')
  console.log(
    'ledger     at once  bare p50   p99    claim p50   p99     per s   update p50   p99     per s   claim / bare',
  )
  for (const { name, bareName, rows } of results)
    for (const { concurrency, bare, claim, update } of rows)
      console.log(
        [
          name.padEnd(11),
          `${concurrency}`.padStart(7),
          bare ? cell(bare.p50Ms, 10) + cell(bare.p99Ms, 8) : '-'.padStart(18),
          cell(claim.p50Ms, 11) + cell(claim.p99Ms, 8) + `${claim.perSecond}`.padStart(8),
          cell(update.p50Ms, 11) + cell(update.p99Ms, 8) + `${update.perSecond}`.padStart(8),
          bare ? `${(claim.p50Ms / bare.p50Ms).toFixed(2)} (${bareName})`.padStart(18) : '',
        ].join(' '),
      )
  const memory = results.find(({ name }) => name === 'memory')?.settleUs
  console.log('\nmicroseconds of a healthy settle')
  for (const { name, settleUs } of results) {
    const more = memory === undefined ? '' : `  + ${(settleUs - memory).toFixed(0)}`
    console.log(`${name.padEnd(11)}${settleUs.toFixed(1).padStart(10)}${more}`)
  }
}

function cell(ms: number, width: number): string {
  return ms.toFixed(2).padStart(width)
}
