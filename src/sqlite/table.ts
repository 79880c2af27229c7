/** The table of settlements in a database of SQLite: what is asked of it within one transaction of its owner. */
import {
  boundsOf,
  columnsOf,
  entryOf,
  lastMs,
  pageOf,
  queryOf,
  type SettlementRow,
  usableMarginMs,
  usableWithoutEndMs,
} from '../ledgers/settlement-row.ts'
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
import type { Database } from './driver.ts'
import * as sql from './statements.ts'

type KeptRow = SettlementRow & { readonly settlement_before: string | null }
type Statement = ReturnType<Database['prepare']>

/** The version of the database's table, which is made where there is none. */
export function tableVersion(database: Pick<Database, 'exec' | 'prepare'>): number {
  const { tables } = database.prepare(sql.selectTables).get() as { tables: number }
  if (tables === 0) database.exec(sql.schema)
  const { version } = database.prepare(sql.selectVersion).get() as { version: number }
  return version
}

export class SettlementTable {
  readonly #database: Pick<Database, 'prepare'>
  readonly #now: Statement
  readonly #select: Statement
  readonly #insert: Statement
  readonly #takeOver: Statement
  readonly #update: Statement
  readonly #selectUndelivered: Statement

  constructor(database: Pick<Database, 'prepare'>) {
    this.#database = database
    this.#now = database.prepare(sql.selectNow)
    this.#select = database.prepare(sql.selectOne)
    this.#insert = database.prepare(sql.insertOne)
    this.#takeOver = database.prepare(sql.takeOver)
    this.#update = database.prepare(sql.updateOne)
    this.#selectUndelivered = database.prepare(sql.selectUndelivered)
  }

  claim({ key, fingerprint, claim, leaseMs, query }: ClaimRequest): Claim {
    const row = (this.#select.get(key) ?? undefined) as KeptRow | undefined
    const { now } = this.#now.get() as { now: number }
    const leaseEndsAt = now + Math.ceil(leaseMs)
    if (row === undefined) {
      const { network, asset, payer, payee, amount, authorizationEndsAt } = columnsOf(query)
      const usableUntil = authorizationEndsAt ?? now + usableWithoutEndMs
      const text = toJson(query)
      this.#insert.run(
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
    this.#takeOver.run(claim, leaseEndsAt, before, amount, key)
    return {
      kind: 'claimed',
      before: before === null ? undefined : JSON.parse(before),
      since: entry.since,
      query: queryOf({ ...row, amount }),
    }
  }

  update({ key, claim, settlement }: LedgerUpdate): boolean {
    const { state } = settlement
    const windowMs = state === 'undelivered' ? Math.ceil(settlement.windowMs) : null
    const values = [state, toJson(settlement), state, windowMs, state, key, claim, state, state]
    return this.#update.all(...values).length > 0
  }

  get(key: string): LedgerEntry | undefined {
    const row = this.#select.get(key) as SettlementRow | undefined
    return row ? entryOf(row) : undefined
  }

  list(filter: LedgerFilter): LedgerPage {
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
    const rows = this.#database.prepare(text).all(...values, filter.limit + 1)
    return pageOf(rows as SettlementRow[], filter.limit)
  }

  undelivered(query: SettlementQuery): readonly LedgerEntry[] {
    const { network, asset, payer, payee } = columnsOf(query)
    // What nobody has signed is nobody's.
    if (payer === null) return []
    return (this.#selectUndelivered.all(payer, network, payee, asset) as SettlementRow[]).map(entryOf)
  }

  /** Forgets what is over, so many rows at most. */
  forgetSome(olderThanMs: number, most: number): number {
    return this.#database.prepare(sql.deleteOver).all(Math.floor(olderThanMs), usableMarginMs, most).length
  }
}
