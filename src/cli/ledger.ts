/** The ledger that a command works with, by its address: `sqlite:./x402.db`, `postgres://…`, `redis://…`, `memory`. */
import { access } from 'node:fs/promises'
import type { AnswerStore } from '../ledgers/answer-store.ts'
import type { SettlementLedger } from '../settlement/ledger.ts'
import { printable, withoutKeys } from './printable.ts'
import { UsageError } from './usage-error.ts'

/** Where `serve` records payments unless it is told otherwise. */
export const defaultLedger = 'sqlite:./x402.db'

export interface NamedLedger {
  /** Absent for the one in memory, which the aggregator makes itself. */
  readonly ledger: SettlementLedger | undefined
  /** What may be shown of its address: no user, no password. */
  readonly name: string
  /** Where the gateways that share the ledger keep their answers together, if it can. */
  readonly answers?: AnswerStore
  /** Makes its table if need be, and looks whether it can be used. */
  prepare(): Promise<void>
  /** Ends its connections. */
  close(): Promise<void>
}

export interface OpenOptions {
  /** Milliseconds for which a ledger that forgets by itself keeps what is over; its own default otherwise. */
  readonly keepMs?: number
  /** Gets what is doubtful about the ledger; stderr otherwise. */
  readonly log?: (message: string) => void
}

type Open = (address: string, options: OpenOptions) => Promise<NamedLedger>

/** By what an address begins with. A ledger of another kind needs a line here, and one in the help of `serve`. */
const kinds: readonly (readonly [RegExp, Open])[] = [
  [/^memory$/, openMemory],
  [/^sqlite:/, openSqlite],
  [/^postgres(ql)?:\/\//, openPostgres],
  [/^rediss?:\/\//, openRedis],
]

const examples =
  'sqlite:./x402.db, postgres://user:password@host:5432/database, redis://user:password@host:6379/0, or memory'

/**
 * Connects to Redis; nothing is asked of the other ledgers yet.
 *
 * @throws {UsageError} for an address that is none, which is not repeated: it may hold a password
 */
export async function openLedger(address: string, options: OpenOptions = {}): Promise<NamedLedger> {
  const [, open] = kinds.find(([pattern]) => pattern.test(address)) ?? []
  if (open === undefined) throw new UsageError(`--ledger: expected ${examples}`)
  return open(address, options)
}

/** The default is there where the runtime has SQLite. */
export async function hasDefaultLedger(): Promise<boolean> {
  const { hasDriver } = await import('../sqlite/driver.ts')
  return hasDriver()
}

/** @throws {UsageError} where there is no file: what reads it would make an empty one */
export async function demandFile(address: string): Promise<void> {
  const path = address.startsWith('sqlite:') ? pathOf(address) : undefined
  if (path === undefined) return
  await access(path).catch(() => {
    throw new UsageError(`--ledger ${printable(address)}: there is no such file`)
  })
}

async function openMemory(): Promise<NamedLedger> {
  return { ledger: undefined, name: 'memory', prepare: async () => {}, close: async () => {} }
}

async function openSqlite(address: string): Promise<NamedLedger> {
  const path = pathOf(address)
  if (path === '') throw new UsageError('--ledger sqlite:<file>: the file is missing')
  const { sqliteLedger } = await import('../sqlite/index.ts')
  const ledger = sqliteLedger({ path })
  return { ledger, name: address, prepare: () => ledger.migrate(), close: () => ledger.close() }
}

/** `sqlite:./x402.db`, `sqlite:/data/x402.db` and `sqlite:///data/x402.db`. */
function pathOf(address: string): string {
  return address.slice('sqlite:'.length).replace(/^\/\/(?=\/)/, '')
}

async function openPostgres(address: string): Promise<NamedLedger> {
  if (!URL.canParse(address)) throw new UsageError(`--ledger: expected ${examples}`)
  const { Pool } = await loadPg()
  const pool = new Pool({
    connectionString: address,
    application_name: 'x402-aggregator',
    // Less than a claim may take.
    connectionTimeoutMillis: 4_000,
    allowExitOnIdle: true,
  })
  // A connection that is lost while nobody uses it: the next statement takes another.
  pool.on('error', () => {})
  const { postgresLedger } = await import('../postgres/index.ts')
  const ledger = postgresLedger({ client: pool })
  return {
    ledger,
    name: placeOf('postgres', new URL(address)),
    prepare: () => ledger.migrate(),
    close: () => pool.end(),
  }
}

/** Without user, password and parameters. */
function placeOf(kind: string, { hostname, port, pathname }: URL): string {
  return withoutKeys(`${kind} at ${hostname}${port && `:${port}`}${pathname}`)
}

async function loadPg() {
  // Bundlers take an import that may fail for optional only inside a `try`.
  try {
    return (await import('pg')).default
  } catch {
    throw new UsageError('--ledger postgres://… needs pg: npm install pg')
  }
}

async function openRedis(address: string, { keepMs, log }: OpenOptions): Promise<NamedLedger> {
  const url = readRedisUrl(address)
  const [{ connectRedis }, { redisLedger }] = await Promise.all([
    import('./redis-connection.ts'),
    import('../redis/index.ts'),
  ])
  const { client, close } = await connectRedis(address)
  const ledger = redisLedger({
    client,
    ...(keepMs !== undefined && { keepMs }),
    ...(log !== undefined && { onWarning: log }),
  })
  return {
    ledger,
    name: placeOf('redis', url),
    answers: ledger.answers,
    // The first call looks at the server.
    prepare: async () => void (await ledger.list({ limit: 1 })),
    close: async () => close(),
  }
}

/** @throws {UsageError} for what the clients do not understand; some of them would repeat it */
function readRedisUrl(address: string): URL {
  try {
    const url = new URL(address)
    decodeURIComponent(`${url.username} ${url.password}`)
    if (url.hostname !== '' && /^(\/\d*)?$/.test(url.pathname)) return url
  } catch {
    // Neither a URL, nor one whose password can be read.
  }
  throw new UsageError(
    '--ledger redis://…: expected redis://user:password@host:6379/0, with the number of a database, and %25 for a % in the password',
  )
}
