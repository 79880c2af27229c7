/** The settlements of a seller in a file of SQLite, which the processes of one machine share. */

import type { LedgerStore } from '../ledgers/shared-ledger.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import type {
  Claim,
  ClaimRequest,
  LedgerEntry,
  LedgerFilter,
  LedgerPage,
  LedgerUpdate,
} from '../settlement/ledger.ts'
import { type Database, openDatabase } from './driver.ts'
import { isBusy, ledgerFault, sqliteFault } from './faults.ts'
import * as sql from './statements.ts'
import { SettlementTable, tableVersion } from './table.ts'

/** Milliseconds for which SQLite waits for another process by itself: nothing else happens here meanwhile. */
const busyTimeoutMs = 20
/** Milliseconds for which a call waits altogether, a pause after each try. */
const patienceMs = 4_000
const pauseMs = 20

/** Rows that one statement forgets at most. */
const pruneBatch = 1_000
/** Milliseconds after which `prune` forgets no further batch. */
const longestPruneMs = 3_000

export class SqliteStore implements LedgerStore {
  readonly #path: string
  #opening: Promise<Opened> | undefined

  constructor(path: string) {
    this.#path = path
  }

  /** Opens the file, and makes its table where there is none. */
  async migrate(): Promise<void> {
    await this.#open()
  }

  async close(): Promise<void> {
    const opening = this.#opening
    this.#opening = undefined
    ;(await opening)?.database.close()
  }

  claim(request: ClaimRequest): Promise<Claim> {
    return this.#write(({ table }) => table.claim(request))
  }

  update(update: LedgerUpdate): Promise<boolean> {
    return this.#write(({ table }) => table.update(update))
  }

  get(key: string): Promise<LedgerEntry | undefined> {
    return this.#read(({ table }) => table.get(key))
  }

  list(filter: LedgerFilter): Promise<LedgerPage> {
    return this.#read(({ table }) => table.list(filter))
  }

  undelivered(query: SettlementQuery): Promise<readonly LedgerEntry[]> {
    return this.#read(({ table }) => table.undelivered(query))
  }

  async prune({ olderThanMs }: { readonly olderThanMs: number }): Promise<number> {
    const begun = performance.now()
    let forgotten = 0
    for (;;) {
      const inBatch = await this.#write(({ table }) => table.forgetSome(olderThanMs, pruneBatch))
      forgotten += inBatch
      if (inBatch < pruneBatch || performance.now() - begun > longestPruneMs) return forgotten
    }
  }

  /** One transaction, which holds the file from its beginning. */
  #write<T>(work: (opened: Opened) => T): Promise<T> {
    return this.#read(opened => {
      const { database } = opened
      database.exec('BEGIN IMMEDIATE')
      try {
        const result = work(opened)
        database.exec('COMMIT')
        return result
      } catch (error) {
        rollBack(database)
        throw error
      }
    })
  }

  async #read<T>(work: (opened: Opened) => T): Promise<T> {
    const opened = await this.#open()
    return whenFree(this.#path, () => work(opened))
  }

  #open(): Promise<Opened> {
    this.#opening ??= open(this.#path).catch(error => {
      this.#opening = undefined
      throw sqliteFault(error, this.#path)
    })
    return this.#opening
  }
}

interface Opened {
  readonly database: Database
  readonly table: SettlementTable
}

async function open(path: string): Promise<Opened> {
  const database = await openDatabase(path)
  try {
    database.exec(`PRAGMA busy_timeout = ${busyTimeoutMs}`)
    await whenFree(path, () => database.exec(sql.settings))
    const { journal_mode } = database.prepare('PRAGMA journal_mode').get() as { journal_mode: string }
    if (journal_mode !== 'wal')
      throw ledgerFault(`${path} cannot be shared by processes: name a file on a disk of this machine`)
    await whenFree(path, () => makeTable(database, path))
    return { database, table: new SettlementTable(database) }
  } catch (error) {
    database.close()
    throw error
  }
}

function makeTable(database: Database, path: string): void {
  database.exec('BEGIN IMMEDIATE')
  try {
    const version = tableVersion(database)
    if (version !== sql.schemaVersion)
      throw ledgerFault(
        `${path} is of version ${version}, and this release needs version ${sql.schemaVersion}: use the release that made it, or name another file`,
      )
    database.exec('COMMIT')
  } catch (error) {
    rollBack(database)
    throw error
  }
}

/** Repeats what another process holds up, with pauses: SQLite's own would hold up everything here. */
async function whenFree<T>(path: string, work: () => T): Promise<T> {
  const begun = performance.now()
  for (;;) {
    try {
      return work()
    } catch (error) {
      if (!isBusy(error) || performance.now() - begun > patienceMs) throw sqliteFault(error, path)
    }
    await new Promise(resolve => setTimeout(resolve, pauseMs * (0.5 + Math.random())))
  }
}

/** What has failed may have ended the transaction already. */
function rollBack(database: Database): void {
  try {
    database.exec('ROLLBACK')
  } catch {
    // There is nothing to take back.
  }
}
