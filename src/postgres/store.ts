/** The settlements of a seller in a table of Postgres. */

import { entryOf, pageOf, queryOf, type SettlementRow } from '../ledgers/settlement-row.ts'
import type { LedgerStore } from '../ledgers/shared-ledger.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import {
  type Claim,
  type ClaimRequest,
  isOpen,
  type LedgerEntry,
  type LedgerFilter,
  type LedgerPage,
  type LedgerUpdate,
} from '../settlement/ledger.ts'
import { ledgerFault, missing, postgresFault, readOnly, rightsMissing, triesAfter } from './faults.ts'
import { commentPrefix, migration, readTableName, schemaVersion } from './schema.ts'
import {
  claimStatement,
  getStatement,
  listStatement,
  pruneBatch,
  pruneStatement,
  type Statement,
  standingStatement,
  undeliveredStatement,
  updateStatement,
} from './statements.ts'

/** Whatever runs one statement: a `Pool` of `pg` or of Neon's driver, a PGlite. */
export interface PostgresClient {
  query(text: string, values: (string | null)[]): Promise<{ readonly rows: readonly unknown[] }>
}

/** How often an entry is claimed that changes meanwhile. */
const maxTries = 10
/** Milliseconds after which `prune` forgets no further batch: it would hold up others. */
const longestPruneMs = 3_000

type ClaimRow = SettlementRow & { readonly is_granted: boolean; readonly settlement_before: string | null }

interface Standing {
  readonly user: string
  readonly relation: string | null
  readonly comment: string | null
  readonly may_write: boolean | null
  readonly is_read_only: boolean
  readonly commits_late: boolean
  readonly is_unlogged: boolean | null
}

export class PostgresStore implements LedgerStore {
  readonly #table: string
  readonly #migration: string
  /** What the connection may do; asked once more after a failure. */
  #standing: Promise<Standing> | undefined

  constructor(
    private readonly client: PostgresClient,
    table: string,
  ) {
    this.#table = readTableName(table).quoted
    this.#migration = migration(table)
  }

  async migrate(): Promise<void> {
    await this.#run({ text: this.#migration, values: [] })
    this.#standing = undefined
    await this.#check('write')
  }

  async claim(request: ClaimRequest): Promise<Claim> {
    await this.#check('write')
    const statement = claimStatement(this.#table, request)
    for (let tries = 0; tries < maxTries; tries++) {
      const [row] = await this.#run<ClaimRow>(statement)
      if (row?.is_granted) {
        const before = row.settlement_before === null ? undefined : JSON.parse(row.settlement_before)
        return { kind: 'claimed', before, since: Number(row.first_claimed_ms), query: queryOf(row) }
      }
      const entry = row && entryOf(row)
      // Otherwise another claim has made or taken the entry since this statement began, and it read what was before.
      const isCurrent = entry && !(isOpen(entry.settlement) && entry.fingerprint === request.fingerprint)
      if (isCurrent) return { kind: 'refused', entry }
    }
    throw ledgerFault('the entry changed each time that it was claimed')
  }

  async update(update: LedgerUpdate): Promise<boolean> {
    await this.#check('write')
    return (await this.#run(updateStatement(this.#table, update))).length > 0
  }

  async get(key: string): Promise<LedgerEntry | undefined> {
    await this.#check('read')
    const [row] = await this.#run<SettlementRow>(getStatement(this.#table, key))
    return row && entryOf(row)
  }

  async list(filter: LedgerFilter): Promise<LedgerPage> {
    await this.#check('read')
    return pageOf(await this.#run<SettlementRow>(listStatement(this.#table, filter)), filter.limit)
  }

  async undelivered(query: SettlementQuery): Promise<readonly LedgerEntry[]> {
    // What nobody has signed is nobody's.
    if (query.payer === undefined) return []
    await this.#check('read')
    return (await this.#run<SettlementRow>(undeliveredStatement(this.#table, query))).map(entryOf)
  }

  async prune({ olderThanMs }: { readonly olderThanMs: number }): Promise<number> {
    await this.#check('write')
    const statement = pruneStatement(this.#table, olderThanMs)
    const begun = performance.now()
    let forgotten = 0
    for (;;) {
      const [row] = await this.#run<{ forgotten: string }>(statement)
      const inBatch = Number(row?.forgotten)
      forgotten += inBatch
      if (!(inBatch >= pruneBatch) || performance.now() - begun > longestPruneMs) return forgotten
    }
  }

  /** Before the first statement: what would fail after money has moved fails here. */
  async #check(purpose: 'read' | 'write'): Promise<void> {
    this.#standing ??= this.#askStanding()
    try {
      const problem = problemOf(await this.#standing, this.#table, purpose)
      if (problem !== undefined) throw ledgerFault(problem)
    } catch (error) {
      this.#standing = undefined
      throw error
    }
  }

  async #askStanding(): Promise<Standing> {
    const [standing] = await this.#run<Standing>(standingStatement(this.#table))
    if (standing === undefined) throw ledgerFault('the client answers without rows')
    return standing
  }

  /** One statement is one transaction, and may run twice: a claim and an update answer the same again. */
  async #run<Row>({ text, values }: Statement): Promise<readonly Row[]> {
    for (let tries = 1; ; tries++) {
      try {
        const answer = await this.client.query(text, values)
        if (!Array.isArray(answer?.rows))
          throw ledgerFault('query(text, values) of the client does not answer with { rows }')
        return answer.rows
      } catch (error) {
        if (tries >= triesAfter(error)) throw postgresFault(error, this.#table)
      }
    }
  }
}

function problemOf(standing: Standing, table: string, purpose: 'read' | 'write'): string | undefined {
  const { user, relation, comment, may_write, is_read_only, commits_late, is_unlogged } = standing
  if (is_read_only && purpose === 'write') return readOnly
  if (relation === null) return missing(table)
  const version = comment?.startsWith(commentPrefix) ? comment.slice(commentPrefix.length) : undefined
  if (version === undefined)
    return `the table ${table} is not a ledger's, or has lost its comment "${commentPrefix}${schemaVersion}": name another table, or set the comment again`
  if (version !== `${schemaVersion}`)
    return `the table ${table} is of version ${version}, and this release needs version ${schemaVersion}: use the release that made it, or name another table`
  if (purpose === 'read') return undefined
  if (!may_write) return rightsMissing(table, `the role ${user}`)
  if (is_unlogged)
    return `the table ${table} is unlogged, and a crash empties it: ALTER TABLE ${table} SET LOGGED`
  if (commits_late)
    return `synchronous_commit is off, and a crash may forget a payment: ALTER ROLE ${user} SET synchronous_commit = on`
  return undefined
}
