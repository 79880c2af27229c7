/** The ledger that a command works with, by its address: `sqlite:./x402.db`, `postgres://…`, `memory`. */
import { access } from 'node:fs/promises'
import type { SettlementLedger } from '../settlement/ledger.ts'
import { printable, withoutKeys } from './printable.ts'
import { UsageError } from './usage-error.ts'

/** Where `serve` records payments unless it is told otherwise. */
export const defaultLedger = 'sqlite:./x402.db'

type DurableLedger = SettlementLedger & { migrate(): Promise<void> }

export interface NamedLedger {
  /** Absent for the one in memory, which the aggregator makes itself. */
  readonly ledger: DurableLedger | undefined
  /** What may be shown of its address: no user, no password. */
  readonly name: string
  /** Ends its connections. */
  close(): Promise<void>
}

/** By what an address begins with. A ledger of another kind needs a line here, and one in the help of `serve`. */
const kinds: readonly (readonly [RegExp, (address: string) => Promise<NamedLedger>])[] = [
  [/^memory$/, async () => ({ ledger: undefined, name: 'memory', close: async () => {} })],
  [/^sqlite:/, openSqlite],
  [/^postgres(ql)?:\/\//, openPostgres],
]

const examples = 'sqlite:./x402.db, postgres://user:password@host:5432/database, or memory'

/**
 * Nothing is asked of the ledger yet.
 *
 * @throws {UsageError} for an address that is none, which is not repeated: it may hold a password
 */
export async function openLedger(address: string): Promise<NamedLedger> {
  const [, open] = kinds.find(([pattern]) => pattern.test(address)) ?? []
  if (open === undefined) throw new UsageError(`--ledger: expected ${examples}`)
  return open(address)
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

async function openSqlite(address: string): Promise<NamedLedger> {
  const path = pathOf(address)
  if (path === '') throw new UsageError('--ledger sqlite:<file>: the file is missing')
  const { sqliteLedger } = await import('../sqlite/index.ts')
  const ledger = sqliteLedger({ path })
  return { ledger, name: address, close: () => ledger.close() }
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
  const { hostname, port, pathname } = new URL(address)
  return {
    ledger: postgresLedger({ client: pool }),
    name: withoutKeys(`postgres at ${hostname}${port && `:${port}`}${pathname}`),
    close: () => pool.end(),
  }
}

async function loadPg() {
  // Bundlers take an import that may fail for optional only inside a `try`.
  try {
    return (await import('pg')).default
  } catch {
    throw new UsageError('--ledger postgres://… needs pg: npm install pg')
  }
}
