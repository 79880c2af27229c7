/** The table of a ledger in Postgres. */
import { states } from '../ledgers/settlement-row.ts'

/** Of the table's columns and their meaning; it stands in the table's comment. */
export const schemaVersion = 1

/** Any number, the same in every process: who migrates holds the lock of this name. */
const migrationLock = 402_402_402

/** Begins the table's comment; the version follows. */
export const commentPrefix = 'Settlements of x402-facilitator-aggregator, version '

const longestName = 40

/** A name that was checked, in quotes: `"x402_settlements"`, `"shop"."x402_settlements"`. */
export interface TableName {
  readonly quoted: string
  /** Without its schema: indexes are named after it. */
  readonly plain: string
}

/** @throws {RangeError} for what is not a plain name */
export function readTableName(table: string): TableName {
  const parts = `${table}`.split('.')
  const plain = parts.at(-1) ?? ''
  if (parts.length > 2 || !parts.every(part => /^[a-z_][a-z\d_]*$/i.test(part) && part.length <= longestName))
    throw new RangeError(
      `postgresLedger: table: expected letters, digits and underscores (${longestName} at most), after a schema and a dot if need be, such as "x402_settlements"`,
    )
  return { quoted: parts.map(part => `"${part}"`).join('.'), plain }
}

/**
 * The statements that make the table and its indexes, for those who run their own migrations. `migrate()` of the ledger
 * runs the same.
 *
 * @param table its name, with a schema and a dot before it if need be; `x402_settlements` by default
 * @throws {RangeError} for what is not a plain name
 */
export function postgresLedgerSchema(table = 'x402_settlements'): string {
  const { quoted, plain } = readTableName(table)
  return `CREATE TABLE IF NOT EXISTS ${quoted} (
  payment_key text COLLATE "C" PRIMARY KEY,
  purchase_fingerprint text NOT NULL,
  first_claimed_at timestamptz NOT NULL,
  claim_id text NOT NULL,
  state text NOT NULL CHECK (state IN (${states.map(state => `'${state}'`).join(', ')})),
  state_ends_at timestamptz,
  settlement json NOT NULL,
  settlement_before json,
  network text NOT NULL,
  asset text NOT NULL,
  payer text,
  payee text NOT NULL,
  amount numeric,
  payment_query json NOT NULL,
  authorization_ends_at timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS "${plain}_by_time" ON ${quoted} (first_claimed_at, payment_key);
CREATE INDEX IF NOT EXISTS "${plain}_unfinished" ON ${quoted} (first_claimed_at, payment_key)
  WHERE state IN ('settling', 'unresolved', 'undelivered');
CREATE INDEX IF NOT EXISTS "${plain}_by_payer" ON ${quoted} (payer, network, payee, asset)
  WHERE state IN ('settling', 'unresolved', 'undelivered');
COMMENT ON TABLE ${quoted} IS '${commentPrefix}${schemaVersion}';
`
}

/** One statement, so that it is atomic with every client; the lock lets one of several replicas do it. */
export function migration(table: string): string {
  const { quoted } = readTableName(table)
  return `DO $migration$ BEGIN
PERFORM pg_advisory_xact_lock(${migrationLock});
IF to_regclass('${quoted}') IS NULL THEN
${postgresLedgerSchema(table)}
END IF;
END $migration$`
}
