/** SQLite as the runtime has it: `node:sqlite`, `bun:sqlite`, or the package `better-sqlite3`. */
import { LedgerError } from '../errors.ts'
import { messageOf } from '../observe/redact.ts'

type Value = string | number | null

/** What the three drivers have in common. */
export interface Database {
  exec(sql: string): unknown
  prepare(sql: string): {
    run(...values: Value[]): unknown
    get(...values: Value[]): unknown
    all(...values: Value[]): unknown[]
  }
  close(): void
}

type Open = new (path: string) => Database

/** What a runtime hands out without an import, which bundlers would try to resolve. */
interface Host {
  readonly process?: { getBuiltinModule?(name: string): { readonly DatabaseSync?: Open } | undefined }
  readonly Bun?: unknown
}

/**
 * @param path of the file; it is made where there is none
 * @throws {LedgerError} where there is no driver
 */
export async function openDatabase(path: string): Promise<Database> {
  const Driver = await findDriver()
  return new Driver(path)
}

/** Whether this runtime can open such a file. */
export async function hasDriver(): Promise<boolean> {
  return findDriver().then(
    () => true,
    () => false,
  )
}

async function findDriver(): Promise<Open> {
  const { process, Bun } = globalThis as Host
  if (Bun !== undefined) {
    const name = 'bun:sqlite'
    const bun: { Database: Open } = await import(/* @vite-ignore */ /* webpackIgnore: true */ name)
    return bun.Database
  }
  const ofRuntime = process?.getBuiltinModule?.('node:sqlite')?.DatabaseSync
  return ofRuntime ?? loadPackage()
}

async function loadPackage(): Promise<Open> {
  // Bundlers take an import that may fail for optional only inside a `try`.
  try {
    const { default: Driver } = await import('better-sqlite3')
    return Driver
  } catch (error) {
    const isMissing = /^ERR_MODULE_NOT_FOUND$|^MODULE_NOT_FOUND$/.test(
      `${(error as { code?: unknown }).code}`,
    )
    throw new LedgerError(
      isMissing
        ? 'this runtime has no SQLite: use Node.js 22.13 or newer, Bun or Deno, or npm install better-sqlite3.'
        : `better-sqlite3 cannot be loaded (${messageOf(error).split('\n')[0]}): npm rebuild better-sqlite3, or use Node.js 22.13 or newer.`,
    )
  }
}
