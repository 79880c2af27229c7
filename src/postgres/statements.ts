/**
 * The statements of a ledger in Postgres. Every value is a text that the statement itself casts, so that no client's
 * conversion of types matters; the clock is the database's alone.
 */
import {
  boundsOf,
  columnsOf,
  inAnyState,
  lastMs,
  statesThatAreOver,
  usableMarginMs,
  usableWithoutEndMs,
} from '../ledgers/settlement-row.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { toJson } from '../runtime/json.ts'
import type { ClaimRequest, LedgerFilter, LedgerUpdate } from '../settlement/ledger.ts'

export interface Statement {
  readonly text: string
  readonly values: (string | null)[]
}

/** While a statement waits for a lock time goes on; what only reads has one time for all rows. */
const clock = 'clock_timestamp()'
const readingClock = 'statement_timestamp()'

/** How many undelivered charges of one buyer are looked at. */
const maxUndelivered = 1_000
/** Rows that one statement forgets at most: locks are short. */
export const pruneBatch = 5_000

const milliseconds = (parameter: string) => `${parameter}::text::float8 * interval '1 millisecond'`
const timeOf = (parameter: string) => `timestamptz 'epoch' + ${milliseconds(parameter)}`

const millisecondsLeft = (now: string, row = '') =>
  `ceil(extract(epoch FROM ${row}state_ends_at - ${now}) * 1000)`

const columns = (now: string) =>
  `payment_key, purchase_fingerprint, (extract(epoch FROM first_claimed_at) * 1000)::bigint::text AS first_claimed_ms,
  claim_id, settlement::text AS settlement, ${millisecondsLeft(now)}::text AS left_ms,
  payment_query::text AS payment_query, amount::text AS amount`

/**
 * Answers with the row and `is_granted`. A refused claim reads the row as it was when the statement began, or no row if
 * it was made since: the store asks once more then.
 */
export function claimStatement(table: string, request: ClaimRequest): Statement {
  const { key, fingerprint, claim, leaseMs, query } = request
  const { network, asset, payer, payee, amount, authorizationEndsAt } = columnsOf(query)
  const isRepeated = "entry.claim_id = excluded.claim_id AND entry.state = 'settling'"
  const isOpen = inAnyState(['unresolved', 'failed', 'undelivered'], clock, 'entry.')
  const leaseEnd = `${clock} + ${milliseconds('$4')}`
  return {
    text: `WITH granted AS (
INSERT INTO ${table} AS entry (payment_key, purchase_fingerprint, claim_id, first_claimed_at, state, state_ends_at,
  settlement, network, asset, payer, payee, amount, payment_query, authorization_ends_at)
VALUES ($1::text, $2::text, $3::text, date_trunc('milliseconds', ${clock}), 'settling', ${leaseEnd},
  '{"state":"settling"}', $5::text, $6::text, $7::text, $8::text, $9::text::numeric, $10::text::json,
  coalesce(${timeOf('$11')}, ${clock} + interval '${usableWithoutEndMs} milliseconds'))
ON CONFLICT (payment_key) DO UPDATE SET
  claim_id = excluded.claim_id, state = 'settling', state_ends_at = ${leaseEnd}, settlement = excluded.settlement,
  settlement_before = CASE
    WHEN ${isRepeated} THEN entry.settlement_before
    WHEN entry.state = 'settling' THEN '{"state":"unresolved"}'
    WHEN entry.state = 'undelivered' THEN (entry.settlement::jsonb ||
      jsonb_build_object('windowMs', ${millisecondsLeft(clock, 'entry.')}))::json
    ELSE entry.settlement END,
  amount = least(entry.amount, excluded.amount)
WHERE (${isRepeated}) OR (entry.purchase_fingerprint = excluded.purchase_fingerprint AND ${isOpen})
RETURNING entry.*)
SELECT true AS is_granted, settlement_before::text AS settlement_before, ${columns(clock)} FROM granted
UNION ALL
SELECT false, NULL, ${columns(clock)} FROM ${table}
WHERE payment_key = $1::text AND NOT EXISTS (SELECT FROM granted)`,
    values: [
      key,
      fingerprint,
      claim,
      `${leaseMs}`,
      network,
      asset,
      payer,
      payee,
      amount,
      toJson(query),
      text(authorizationEndsAt),
    ],
  }
}

/** Answers with a row where it is stored; the same update once more changes nothing and answers the same. */
export function updateStatement(table: string, { key, claim, settlement }: LedgerUpdate): Statement {
  const windowMs = settlement.state === 'undelivered' ? settlement.windowMs : null
  const unlessRepeated = (column: string, value: string) =>
    `${column} = CASE WHEN state = $3::text THEN ${column} ELSE ${value} END`
  return {
    text: `UPDATE ${table} SET state = $3::text, ${unlessRepeated('settlement', '$4::text::json')},
  ${unlessRepeated('state_ends_at', `${clock} + ${milliseconds('$5')}`)}
WHERE payment_key = $1::text AND claim_id = $2::text
  AND (state = 'settling' OR state = $3::text OR (state = 'settled' AND $3::text = 'undelivered'))
RETURNING payment_key`,
    values: [key, claim, settlement.state, toJson(settlement), text(windowMs)],
  }
}

export function getStatement(table: string, key: string): Statement {
  return {
    text: `SELECT ${columns(readingClock)} FROM ${table} WHERE payment_key = $1::text`,
    values: [key],
  }
}

/** Reads one row more than the page has, if there are more. */
export function listStatement(table: string, filter: LedgerFilter): Statement {
  const { fromMs, untilMs, after } = boundsOf(filter)
  const conditions = ['true']
  const values: string[] = []
  const parameter = (value: string | number) => `$${values.push(`${value}`)}`
  if (filter.states) conditions.push(inAnyState(filter.states, readingClock))
  if (fromMs > 0) conditions.push(`first_claimed_at >= ${timeOf(parameter(fromMs))}`)
  if (untilMs < lastMs) conditions.push(`first_claimed_at < ${timeOf(parameter(untilMs))}`)
  if (after)
    conditions.push(
      `(first_claimed_at, payment_key) > (${timeOf(parameter(after.sinceMs))}, ${parameter(after.key)}::text)`,
    )
  return {
    text: `SELECT ${columns(readingClock)} FROM ${table} WHERE ${conditions.join(' AND ')}
ORDER BY first_claimed_at, payment_key LIMIT ${parameter(filter.limit + 1)}::text::bigint`,
    values,
  }
}

export function undeliveredStatement(table: string, query: SettlementQuery): Statement {
  const { network, asset, payer, payee } = columnsOf(query)
  return {
    text: `SELECT ${columns(readingClock)} FROM ${table}
WHERE payer = $1::text AND network = $2::text AND payee = $3::text AND asset = $4::text
  AND ${inAnyState(['unresolved', 'undelivered'], readingClock)}
ORDER BY first_claimed_at, payment_key LIMIT ${maxUndelivered}`,
    values: [payer, network, payee, asset],
  }
}

/** Forgets a batch; passes over rows that are being changed. */
export function pruneStatement(table: string, olderThanMs: number): Statement {
  const isOver = inAnyState(statesThatAreOver, readingClock)
  return {
    text: `WITH forgotten AS (
DELETE FROM ${table} WHERE payment_key IN (
  SELECT payment_key FROM ${table}
  WHERE first_claimed_at < ${readingClock} - ${milliseconds('$1')} AND ${isOver}
    AND authorization_ends_at < ${readingClock} - interval '${usableMarginMs} milliseconds'
  ORDER BY first_claimed_at LIMIT ${pruneBatch} FOR UPDATE SKIP LOCKED)
RETURNING 1)
SELECT count(*)::text AS forgotten FROM forgotten`,
    values: [`${olderThanMs}`],
  }
}

/** What the connection may do, and which table it finds. */
export function standingStatement(table: string): Statement {
  const may = (privilege: string) => `has_table_privilege(to_regclass($1::text)::oid, '${privilege}')`
  return {
    text: `SELECT current_user::text AS user, to_regclass($1::text)::text AS relation,
  obj_description(to_regclass($1::text)::oid, 'pg_class') AS comment,
  ${may('SELECT')} AND ${may('INSERT')} AND ${may('UPDATE')} AS may_write,
  current_setting('transaction_read_only') = 'on' AS is_read_only,
  current_setting('synchronous_commit') = 'off' AS commits_late,
  (SELECT relpersistence <> 'p' FROM pg_class WHERE oid = to_regclass($1::text)::oid) AS is_unlogged`,
    values: [table],
  }
}

function text(value: number | null): string | null {
  return value === null ? null : `${value}`
}
