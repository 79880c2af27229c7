/** What the errors of Postgres and its clients mean, and what to do. */
import { LedgerError } from '../errors.ts'
import { safeMessageOf } from '../observe/redact.ts'

const unreachable = 'the server does not answer: check host, port and network of the connection'
const refused = 'the server refuses the user or the password'

/** By SQLSTATE, or the code of a network error. */
const meanings: Readonly<Record<string, (table: string) => string>> = {
  '42P01': table => missing(table),
  '3F000': table => missing(table),
  '42703': table =>
    `the table ${table} has other columns than those of postgresLedgerSchema(): name another table, or drop it`,
  '42501': table => rightsMissing(table, 'the role'),
  '25006': () => readOnly,
  '28P01': () => refused,
  '28000': () => refused,
  '3D000': () => 'there is no such database: create it, or check its name in the connection',
  '53300': () => 'the server has no connection left: raise its max_connections',
  ECONNREFUSED: () => unreachable,
  ENOTFOUND: () => unreachable,
  EAI_AGAIN: () => unreachable,
  EHOSTUNREACH: () => unreachable,
  ETIMEDOUT: () => unreachable,
}

export const readOnly = 'the database is read-only: connect to the primary, as a role that may write'

export function missing(table: string): string {
  return `there is no table ${table}: call migrate() of the ledger once, or run the SQL of postgresLedgerSchema()`
}

export function rightsMissing(table: string, role: string): string {
  return `${role} may not write: GRANT SELECT, INSERT, UPDATE, DELETE ON ${table} to it; a role that may create tables makes a table that is missing`
}

export function postgresFault(error: unknown, table: string): LedgerError {
  if (error instanceof LedgerError) return error
  const meaning = meanings[codeOf(error)]?.(table)
  return ledgerFault(meaning ?? withoutCredentials(safeMessageOf(error)))
}

export function ledgerFault(problem: string): LedgerError {
  return new LedgerError(`the ledger in Postgres cannot be used: ${problem}.`)
}

/**
 * How often a statement is run that fails so. Each of the ledger's may come twice: it comes again when the connection was
 * lost, and more often when the transaction gave way to another one.
 */
export function triesAfter(error: unknown): number {
  const code = codeOf(error)
  if (/^40(001|P01)$/.test(code)) return 10
  const isLost = /^(08...|57P..|ECONNRESET|EPIPE|)$/.test(code) && !(error instanceof TypeError)
  return isLost ? 2 : 1
}

function codeOf(error: unknown): string {
  const { code } = Object(error) as { code?: unknown }
  return typeof code === 'string' ? code : ''
}

function withoutCredentials(text: string): string {
  return text.replace(/\b([a-z][a-z\d+.-]*:\/\/)[^\s/?#]*@/gi, '$1')
}
