/** What the errors of SQLite mean, and what to do. */
import { LedgerError } from '../errors.ts'
import { messageOf, safeMessageOf } from '../observe/redact.ts'

interface Fault {
  /** SQLite's result code, as `node:sqlite` has it. */
  readonly number: number
  /** Its name, as the others have it. */
  readonly name: string
  /** In what SQLite says of it, for a driver that has neither in all of its errors. */
  readonly text: string
  meaning(path: string): string
}

const busy: Fault = {
  number: 5,
  name: 'SQLITE_BUSY',
  text: 'database is locked',
  meaning: path => `another process holds ${path} for too long`,
}

const faults: readonly Fault[] = [
  busy,
  {
    number: 8,
    name: 'SQLITE_READONLY',
    text: 'attempt to write a readonly database',
    meaning: path => `${path} is read-only: the process must be allowed to write the file and its folder`,
  },
  {
    number: 11,
    name: 'SQLITE_CORRUPT',
    text: 'database disk image is malformed',
    meaning: path => `${path} is damaged: restore it from a copy, or move it away to begin anew`,
  },
  {
    number: 13,
    name: 'SQLITE_FULL',
    text: 'database or disk is full',
    meaning: path => `the disk of ${path} is full`,
  },
  {
    number: 14,
    name: 'SQLITE_CANTOPEN',
    text: 'unable to open database file',
    meaning: cannotOpen,
  },
  {
    number: 26,
    name: 'SQLITE_NOTADB',
    text: 'file is not a database',
    meaning: path => `${path} is not a database of SQLite: name another file`,
  },
  // The package `better-sqlite3` looks at the folder itself.
  { number: 14, name: 'SQLITE_CANTOPEN', text: 'directory does not exist', meaning: cannotOpen },
]

export function sqliteFault(error: unknown, path: string): LedgerError {
  if (error instanceof LedgerError) return error
  return ledgerFault(faultOf(error)?.meaning(path) ?? safeMessageOf(error))
}

export function ledgerFault(problem: string): LedgerError {
  return new LedgerError(`the ledger in SQLite cannot be used: ${problem}.`)
}

/** Another process writes just now. */
export function isBusy(error: unknown): boolean {
  return faultOf(error) === busy
}

/** By the code without what extends it: `SQLITE_BUSY_SNAPSHOT` is busy too. */
function faultOf(error: unknown): Fault | undefined {
  const { code, errcode } = Object(error) as { code?: unknown; errcode?: unknown }
  const [name] = /^SQLITE_[A-Z]+/.exec(`${code}`) ?? []
  return faults.find(
    fault =>
      fault.name === name ||
      (typeof errcode === 'number' && fault.number === (errcode & 0xff)) ||
      messageOf(error).includes(fault.text),
  )
}

function cannotOpen(path: string): string {
  return `${path} cannot be opened: its folder must exist, and the process must be allowed to write there`
}
