/** The object that keeps a share of a seller's settlements in its own SQLite. */
import { safeMessageOf } from '../observe/redact.ts'
import type { ClaimRequest, LedgerFilter, LedgerUpdate } from '../settlement/ledger.ts'
import { schemaVersion } from '../sqlite/statements.ts'
import { SettlementTable, tableVersion } from '../sqlite/table.ts'

type Value = string | number | null

/** The part of a Durable Object's state that is used. */
export interface ObjectState {
  readonly storage: {
    readonly sql: { exec(query: string, ...values: (string | number | null)[]): { toArray(): unknown[] } }
    transactionSync<T>(work: () => T): T
  }
}

/** What the ledger asks of an object, and in which form. */
export type ObjectCall =
  | { readonly call: 'claim'; readonly with: ClaimRequest }
  | { readonly call: 'update'; readonly with: LedgerUpdate }
  | { readonly call: 'get'; readonly with: string }
  | { readonly call: 'list'; readonly with: LedgerFilter }
  | { readonly call: 'undelivered'; readonly with: ClaimRequest['query'] }
  | { readonly call: 'prune'; readonly with: { readonly olderThanMs: number } }

/** `answer` is absent where there is none, as for a key that is not known. */
export type ObjectAnswer = { readonly answer?: unknown } | { readonly error: string }

/** Entries that one call forgets at most: the object does nothing else meanwhile. */
export const pruneBatch = 1_000

/**
 * Export it from the Worker, bind it, and let its migration name it under `new_sqlite_classes`:
 *
 * ```jsonc
 * "durable_objects": { "bindings": [{ "name": "SETTLEMENTS", "class_name": "SettlementLedgerObject" }] },
 * "migrations": [{ "tag": "settlements", "new_sqlite_classes": ["SettlementLedgerObject"] }]
 * ```
 *
 * What it answers has been stored: the runtime holds an answer back until it is. `durableObjectLedger` calls it.
 */
export class SettlementLedgerObject {
  readonly #storage: ObjectState['storage']
  #table: SettlementTable | undefined

  constructor(state: ObjectState) {
    this.#storage = state.storage
  }

  /** Takes the calls of `durableObjectLedger`. Do not route requests from outside to it. */
  async fetch(request: Request): Promise<Response> {
    const call = (await request.json()) as ObjectCall
    return Response.json(this.#answer(call))
  }

  #answer(call: ObjectCall): ObjectAnswer {
    try {
      return { answer: this.#storage.transactionSync(() => this.#run(this.#open(), call)) }
    } catch (error) {
      return { error: safeMessageOf(error) }
    }
  }

  #run(table: SettlementTable, call: ObjectCall): unknown {
    switch (call.call) {
      case 'claim':
        return table.claim(call.with)
      case 'update':
        return table.update(call.with)
      case 'get':
        return table.get(call.with)
      case 'list':
        return table.list(call.with)
      case 'undelivered':
        return table.undelivered(call.with)
      case 'prune':
        return table.forgetSome(call.with.olderThanMs, pruneBatch)
    }
  }

  #open(): SettlementTable {
    if (this.#table) return this.#table
    const { sql } = this.#storage
    const database = {
      exec: (text: string) => sql.exec(text),
      prepare: (text: string) => ({
        run: (...values: Value[]) => sql.exec(text, ...values),
        get: (...values: Value[]) => sql.exec(text, ...values).toArray()[0],
        all: (...values: Value[]) => sql.exec(text, ...values).toArray(),
      }),
    }
    const version = tableVersion(database)
    if (version !== schemaVersion)
      throw new Error(
        `its table is of version ${version}, and this release needs version ${schemaVersion}: deploy the release that made it`,
      )
    this.#table = new SettlementTable(database)
    return this.#table
  }
}
