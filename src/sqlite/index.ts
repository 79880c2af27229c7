/** A ledger in a file of SQLite, for one machine: it outlives restarts, and the machine's processes share it. */
import { sharedLedger } from '../ledgers/shared-ledger.ts'
import type { SettlementLedger } from '../settlement/ledger.ts'
import { SqliteStore } from './store.ts'

export interface SqliteLedgerOptions {
  /** The file, on a disk of this machine; it is made where there is none. SQLite keeps two more beside it. */
  path: string
}

export interface SqliteLedger extends SettlementLedger {
  /**
   * Opens the file, and makes its table where there is none; otherwise the first payment does.
   *
   * @throws {LedgerError} that says what to do
   */
  migrate(): Promise<void>
  /** Closes the file, after the aggregator has stopped; the next call opens it again. */
  close(): Promise<void>
}

/**
 * A ledger for `settlement.ledger` in a file of SQLite: with `node:sqlite` (Node.js 22.13 or newer, Deno), `bun:sqlite`,
 * or the package `better-sqlite3`.
 *
 * Each payment is on the disk before it is sent. Any number of processes of one machine may share the file; replicas on
 * several machines need `postgresLedger`.
 *
 * @throws {TypeError} without a path
 *
 * @example
 * ```ts
 * const aggregator = new FacilitatorAggregator({ facilitators, settlement: { ledger: sqliteLedger({ path: './x402.db' }) } })
 * ```
 */
export function sqliteLedger({ path }: SqliteLedgerOptions): SqliteLedger {
  if (typeof path !== 'string' || path.trim() === '')
    throw new TypeError('sqliteLedger: path: expected the path of a file, such as "./x402.db"')
  const store = new SqliteStore(path)
  return Object.assign(sharedLedger(store), {
    migrate: () => store.migrate(),
    close: () => store.close(),
  })
}
