/** The settlements of a seller in a file of SQLite, which the processes of one machine share. */

import {
  boundsOf,
  columnsOf,
  entryOf,
  lastMs,
  pageOf,
  queryOf,
  type SettlementRow,
  usableMarginMs,
} from '../ledgers/settlement-row.ts'
import type { LedgerStore } from '../ledgers/shared-ledger.ts'
import { type SettlementQuery, withLesserAmount } from '../payment/payment-key.ts'
import { toJson } from '../runtime/json.ts'
import {
  type Claim,
  type ClaimRequest,
  isOpen,
  type LedgerEntry,
  type LedgerFilter,
  type LedgerPage,
  type LedgerUpdate,
} from '../settlement/ledger.ts'
import { type Database, openDatabase } from './driver.ts'
import { isBusy, ledgerFault, sqliteFault } from './faults.ts'
import * as sql from './statements.ts'

/** Milliseconds for which SQLite waits for another process by itself: nothing else happens here meanwhile. */
const busyTimeoutMs = 20
/** Milliseconds for which a call waits altogether, a pause after each try. */
const patienceMs = 4_000
const pauseMs = 20

/** Rows that one statement forgets at most. */
const pruneBatch = 1_000
/** Milliseconds after which `prune` forgets no further batch. */
const longestPruneMs = 3_000

type KeptRow = SettlementRow & { readonly settlement_before: string | null }
type Statement = ReturnType<Database['prepare']>

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
    return this.#write(opened => grantOrRefuse(opened, request))
  }

  update({ key, claim, settlement }: LedgerUpdate): Promise<boolean> {
    const { state } = settlement
    const windowMs = state === 'undelivered' ? Math.ceil(settlement.windowMs) : null
    const values = [state, toJson(settlement), state, windowMs, state, key, claim, state, state]
    return this.#write(({ update }) => update.all(...values).length > 0)
  }

  get(key: string): Promise<LedgerEntry | undefined> {
    return this.#read(({ select }) => {
      const row = select.get(key) as SettlementRow | undefined
      return row ? entryOf(row) : undefined
    })
  }

  list(filter: LedgerFilter): Promise<LedgerPage> {
    const { fromMs, untilMs, after } = boundsOf(filter)
    const conditions: string[] = []
    const values: (string | number)[] = []
    const add = (condition: string, ...own: (string | number)[]) => {
      conditions.push(condition)
      values.push(...own)
    }
    if (fromMs > 0) add('first_claimed_at >= ?', fromMs)
    if (untilMs < lastMs) add('first_claimed_at < ?', untilMs)
    if (after) add('(first_claimed_at, payment_key) > (?, ?)', after.sinceMs, after.key)
    const text = sql.selectPage(filter.states, conditions)
    return this.#read(({ database }) => {
      const rows = database.prepare(text).all(...values, filter.limit + 1)
      return pageOf(rows as SettlementRow[], filter.limit)
    })
  }

  async undelivered(query: SettlementQuery): Promise<readonly LedgerEntry[]> {
    const { network, asset, payer, payee } = columnsOf(query)
    // What nobody has signed is nobody's.
    if (payer === null) return []
    return this.#read(({ selectUndelivered }) =>
      (selectUndelivered.all(payer, network, payee, asset) as SettlementRow[]).map(entryOf),
    )
  }

  async prune({ olderThanMs }: { readonly olderThanMs: number }): Promise<number> {
    const begun = performance.now()
    let forgotten = 0
    for (;;) {
      const inBatch = await this.#write(
        ({ database }) =>
          database.prepare(sql.deleteOver).all(Math.floor(olderThanMs), usableMarginMs, pruneBatch).length,
      )
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
  readonly now: Statement
  readonly select: Statement
  readonly insert: Statement
  readonly takeOver: Statement
  readonly update: Statement
  readonly selectUndelivered: Statement
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
    return {
      database,
      now: database.prepare(sql.selectNow),
      select: database.prepare(sql.selectOne),
      insert: database.prepare(sql.insertOne),
      takeOver: database.prepare(sql.takeOver),
      update: database.prepare(sql.updateOne),
      selectUndelivered: database.prepare(sql.selectUndelivered),
    }
  } catch (error) {
    database.close()
    throw error
  }
}

function makeTable(database: Database, path: string): void {
  database.exec('BEGIN IMMEDIATE')
  try {
    const { tables } = database.prepare(sql.selectTables).get() as { tables: number }
    if (tables === 0) database.exec(sql.schema)
    const { version } = database.prepare(sql.selectVersion).get() as { version: number }
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

function grantOrRefuse(opened: Opened, { key, fingerprint, claim, leaseMs, query }: ClaimRequest): Claim {
  const row = (opened.select.get(key) ?? undefined) as KeptRow | undefined
  const { now } = opened.now.get() as { now: number }
  const leaseEndsAt = now + Math.ceil(leaseMs)
  if (row === undefined) {
    const { network, asset, payer, payee, amount, authorizationEndsAt, lifetimeSeconds } = columnsOf(query)
    const usableUntil = authorizationEndsAt ?? now + lifetimeSeconds * 1000
    const text = toJson(query)
    opened.insert.run(
      key,
      fingerprint,
      claim,
      now,
      leaseEndsAt,
      network,
      asset,
      payer,
      payee,
      amount,
      text,
      usableUntil,
    )
    return { kind: 'claimed', before: undefined, since: now, query }
  }
  const entry = entryOf(row)
  // Its first answer was lost.
  const isRepeated = row.claim_id === claim && JSON.parse(row.settlement).state === 'settling'
  if (!isRepeated && !(entry.fingerprint === fingerprint && isOpen(entry.settlement)))
    return { kind: 'refused', entry }
  const before = isRepeated ? row.settlement_before : toJson(entry.settlement)
  const lesser = withLesserAmount(entry.query, query)
  const { amount } = columnsOf(lesser)
  opened.takeOver.run(claim, leaseEndsAt, before, amount, key)
  return {
    kind: 'claimed',
    before: before === null ? undefined : JSON.parse(before),
    since: entry.since,
    query: queryOf({ ...row, amount }),
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
