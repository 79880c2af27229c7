/** A ledger in Postgres, for replicas and restarts: with `pg`, Neon's driver, PGlite, or anything alike. */
import { sharedLedger } from '../ledgers/shared-ledger.ts'
import type { SettlementLedger } from '../settlement/ledger.ts'
import { type PostgresClient, PostgresStore } from './store.ts'

export { postgresLedgerSchema } from './schema.ts'
export type { PostgresClient } from './store.ts'

export interface PostgresLedgerOptions {
  /**
   * Runs one statement: a `Pool` of `pg` or of `@neondatabase/serverless`, a `PGlite`. Give it several connections, as
   * each payment asks twice or three times. It stays yours to close.
   */
  client: PostgresClient
  /**
   * The table, after its schema and a dot if it is not on the search path.
   * @default 'x402_settlements'
   */
  table?: string
}

export interface PostgresLedger extends SettlementLedger {
  /**
   * Makes the table and its indexes where there is none. Any number of processes may do so at the same time, at each
   * start. Its role must be allowed to create tables; the ledger needs to select, insert, update and delete rows only.
   *
   * @throws {LedgerError} that says what to do
   */
  migrate(): Promise<void>
}

/**
 * A ledger for `settlement.ledger` in a table of Postgres 12 or newer. Give replicas of one seller the same table.
 *
 * Each claim, update and question is one statement, and the database's clock alone judges leases. Before its first
 * statement the ledger checks the table, its version and the rights of its role.
 *
 * @throws {TypeError} for a client without `query`
 * @throws {RangeError} for a table whose name is not a plain one
 *
 * @example
 * ```ts
 * const ledger = postgresLedger({ client: new Pool({ connectionString }) })
 * await ledger.migrate()
 * const aggregator = new FacilitatorAggregator({ facilitators, settlement: { ledger } })
 * ```
 *
 * @example
 * ```ts
 * // With the client `postgres`, whose name for it is another.
 * const client = { query: async (text, values) => ({ rows: await sql.unsafe(text, values) }) }
 * ```
 */
export function postgresLedger({
  client,
  table = 'x402_settlements',
}: PostgresLedgerOptions): PostgresLedger {
  if (typeof client?.query !== 'function')
    throw new TypeError(
      'postgresLedger: client: expected an object with query(text, values), such as a Pool of pg',
    )
  const store = new PostgresStore(client, table)
  return Object.assign(sharedLedger(store), { migrate: () => store.migrate() })
}
