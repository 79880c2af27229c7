/** The table of a ledger in SQLite, and what is asked of it. Times are Unix ms, by the clock of SQLite. */
import { inAnyState, states, statesThatAreOver } from '../ledgers/settlement-row.ts'

/** Of the table's columns and their meaning. */
export const schemaVersion = 1

export const table = 'x402_settlements'

/** With the clock of the machine, as SQLite reads it. */
const now = "CAST(round((julianday('now') - 2440587.5) * 86400000) AS INTEGER)"

/** How many undelivered charges of one buyer are looked at. */
const maxUndelivered = 1_000

/** Nothing that was answered may be lost, and several processes share the file. */
export const settings = `PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;`

export const schema = `CREATE TABLE IF NOT EXISTS ${table}_version (version INTEGER NOT NULL);
INSERT INTO ${table}_version SELECT ${schemaVersion} WHERE NOT EXISTS (SELECT 1 FROM ${table}_version);
CREATE TABLE IF NOT EXISTS ${table} (
  payment_key TEXT PRIMARY KEY NOT NULL,
  purchase_fingerprint TEXT NOT NULL,
  first_claimed_at INTEGER NOT NULL,
  claim_id TEXT NOT NULL,
  state TEXT NOT NULL CHECK (state IN (${states.map(state => `'${state}'`).join(', ')})),
  state_ends_at INTEGER,
  settlement TEXT NOT NULL,
  settlement_before TEXT,
  network TEXT NOT NULL,
  asset TEXT NOT NULL,
  payer TEXT,
  payee TEXT NOT NULL,
  amount TEXT,
  payment_query TEXT NOT NULL,
  authorization_ends_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS ${table}_by_time ON ${table} (first_claimed_at, payment_key);
CREATE INDEX IF NOT EXISTS ${table}_unfinished ON ${table} (first_claimed_at, payment_key)
  WHERE state IN ('settling', 'unresolved', 'undelivered');
CREATE INDEX IF NOT EXISTS ${table}_by_payer ON ${table} (payer, network, payee, asset)
  WHERE state IN ('settling', 'unresolved', 'undelivered');`

/** The version of a file that has a table already. */
export const selectVersion = `SELECT version FROM ${table}_version`
export const selectTables = `SELECT count(*) AS tables FROM sqlite_master WHERE name = '${table}_version'`

export const selectNow = `SELECT ${now} AS now`

const columns = `payment_key, purchase_fingerprint, first_claimed_at AS first_claimed_ms, claim_id, settlement,
  state_ends_at - ${now} AS left_ms, payment_query, amount`

export const selectOne = `SELECT ${columns}, settlement_before FROM ${table} WHERE payment_key = ?`

export const insertOne = `INSERT INTO ${table} (payment_key, purchase_fingerprint, claim_id, first_claimed_at, state,
  state_ends_at, settlement, network, asset, payer, payee, amount, payment_query, authorization_ends_at)
VALUES (?, ?, ?, ?, 'settling', ?, '{"state":"settling"}', ?, ?, ?, ?, ?, ?, ?)`

export const takeOver = `UPDATE ${table} SET claim_id = ?, state = 'settling', state_ends_at = ?,
  settlement = '{"state":"settling"}', settlement_before = ?, amount = ? WHERE payment_key = ?`

/** Answers with a row where it is stored; the same update once more changes nothing and answers the same. */
export const updateOne = `UPDATE ${table} SET
  settlement = CASE WHEN state = ? THEN settlement ELSE ? END,
  state_ends_at = CASE WHEN state = ? THEN state_ends_at ELSE ${now} + ? END,
  state = ?
WHERE payment_key = ? AND claim_id = ?
  AND (state = 'settling' OR state = ? OR (state = 'settled' AND ? = 'undelivered'))
RETURNING payment_key`

export const selectUndelivered = `SELECT ${columns} FROM ${table}
WHERE payer = ? AND network = ? AND payee = ? AND asset = ?
  AND state IN ('settling', 'unresolved', 'undelivered') AND ${inAnyState(['unresolved', 'undelivered'], now)}
ORDER BY first_claimed_at, payment_key LIMIT ${maxUndelivered}`

/** @param conditions more of them, with their own placeholders; the last placeholder is the limit */
export function selectPage(
  wanted: Parameters<typeof inAnyState>[0] | undefined,
  conditions: readonly string[],
): string {
  const isUnfinished = wanted?.every(state => ['settling', 'unresolved', 'undelivered'].includes(state))
  const all = [
    ...(isUnfinished ? ["state IN ('settling', 'unresolved', 'undelivered')"] : []),
    ...(wanted ? [inAnyState(wanted, now)] : []),
    ...conditions,
  ]
  return `SELECT ${columns} FROM ${table} ${all.length > 0 ? `WHERE ${all.join(' AND ')}` : ''}
ORDER BY first_claimed_at, payment_key LIMIT ?`
}

/** Forgets a batch: other processes wait meanwhile. */
export const deleteOver = `DELETE FROM ${table} WHERE payment_key IN (
  SELECT payment_key FROM ${table}
  WHERE first_claimed_at < ${now} - ? AND ${inAnyState(statesThatAreOver, now)} AND authorization_ends_at < ${now} - ?
  ORDER BY first_claimed_at LIMIT ?)
RETURNING payment_key`
