/** What the errors of SQLite mean, and what to do. */
import { LedgerError } from '../errors.ts'
import { safeMessageOf } from '../observe/redact.ts'

/** By SQLite's result codes, as each driver reports them. */
const meanings: Readonly<Record<number, (path: string) => string>> = {
  5: path => `another process holds ${path} for too long`,
  8: path => `${path} is read-only: the process must be allowed to write the file and its folder`,
  11: path => `${path} is damaged: restore it from a copy, or move it away to begin anew`,
  13: path => `the disk of ${path} is full`,
  14: path =>
    `${path} cannot be opened: its folder must exist, and the process must be allowed to write there`,
  26: path => `${path} is not a database of SQLite: name another file`,
}

const busy = 5
const cannotOpen = 14

const numbers: Readonly<Record<string, number>> = {
  SQLITE_BUSY: busy,
  SQLITE_READONLY: 8,
  SQLITE_CORRUPT: 11,
  SQLITE_FULL: 13,
  SQLITE_CANTOPEN: cannotOpen,
  SQLITE_NOTADB: 26,
}

export function sqliteFault(error: unknown, path: string): LedgerError {
  if (error instanceof LedgerError) return error
  return ledgerFault(meanings[numberOf(error)]?.(path) ?? safeMessageOf(error))
}

export function ledgerFault(problem: string): LedgerError {
  return new LedgerError(`the ledger in SQLite cannot be used: ${problem}.`)
}

/** Another process writes just now. */
export function isBusy(error: unknown): boolean {
  return numberOf(error) === busy
}

/** Without what extends the code: `SQLITE_BUSY_SNAPSHOT` is busy too. */
function numberOf(error: unknown): number {
  const { code, errcode, message } = Object(error) as { code?: unknown; errcode?: unknown; message?: unknown }
  if (typeof errcode === 'number') return errcode & 0xff
  // The package looks at the folder itself.
  if (`${message}`.includes('directory does not exist')) return cannotOpen
  const [name = ''] = /^SQLITE_[A-Z]+/.exec(`${code}`) ?? []
  return numbers[name] ?? 0
}
