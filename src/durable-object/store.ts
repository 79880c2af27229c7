/** The settlements of a seller in Durable Objects, each of which keeps a share. */
import { LedgerError } from '../errors.ts'
import { forEachShard, type Shards, shards } from '../ledgers/shards.ts'
import type { LedgerStore } from '../ledgers/shared-ledger.ts'
import { safeMessageOf } from '../observe/redact.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { toJson } from '../runtime/json.ts'
import type {
  Claim,
  ClaimRequest,
  LedgerEntry,
  LedgerFilter,
  LedgerPage,
  LedgerUpdate,
} from '../settlement/ledger.ts'
import { type ObjectAnswer, type ObjectCall, pruneBatch } from './ledger-object.ts'

/** The binding of the class, as the Worker gets it: `env.SETTLEMENTS`. */
export interface ObjectNamespace {
  idFromName(name: string): unknown
  get(id: unknown): { fetch(url: string, init: { method: string; body: string }): Promise<Response> }
}

export class DurableObjectStore implements LedgerStore {
  readonly #spread: Shards

  constructor(
    private readonly namespace: ObjectNamespace,
    count: number,
  ) {
    this.#spread = shards(count)
  }

  claim(request: ClaimRequest): Promise<Claim> {
    return this.#ask<Claim>(this.#spread.ofKey(request.key), { call: 'claim', with: request })
  }

  update(update: LedgerUpdate): Promise<boolean> {
    return this.#ask<boolean>(this.#spread.ofKey(update.key), { call: 'update', with: update })
  }

  get(key: string): Promise<LedgerEntry | undefined> {
    return this.#ask<LedgerEntry | undefined>(this.#spread.ofKey(key), { call: 'get', with: key })
  }

  /** Each is asked for a page, which begins behind the same entry; the oldest of them all are the page. */
  async list(filter: LedgerFilter): Promise<LedgerPage> {
    const pages = await forEachShard(this.#spread, shard =>
      this.#ask<LedgerPage>(shard, { call: 'list', with: filter }),
    )
    const [only] = pages
    if (pages.length === 1 && only) return only
    const all = pages.flatMap(({ entries }) => entries).sort(byTime)
    const entries = all.slice(0, filter.limit)
    const last = entries.at(-1)
    const hasMore = all.length > filter.limit || pages.some(({ cursor }) => cursor !== undefined)
    return hasMore && last ? { entries, cursor: `${last.since}|${last.key}` } : { entries }
  }

  async undelivered(query: SettlementQuery): Promise<readonly LedgerEntry[]> {
    if (query.payer === undefined) return []
    const found = await Promise.all(
      this.#spread
        .ofPayer(query.payer)
        .map(shard => this.#ask<LedgerEntry[]>(shard, { call: 'undelivered', with: query })),
    )
    return found.flat().sort(byTime)
  }

  async prune(options: { readonly olderThanMs: number }): Promise<number> {
    const counts = await forEachShard(this.#spread, async shard => {
      let total = 0
      for (;;) {
        const count = await this.#ask<number>(shard, { call: 'prune', with: options })
        total += count
        if (count < pruneBatch) return total
      }
    })
    return counts.reduce((sum, count) => sum + count, 0)
  }

  /** @throws {LedgerError} that says what to do */
  async #ask<T>(shard: number, call: ObjectCall): Promise<T> {
    const { namespace } = this
    // The number of shards is part of the name: with another one each payment would be looked for elsewhere.
    const name = `x402-settlements-${shard}-of-${this.#spread.count}`
    let answer: ObjectAnswer
    try {
      const object = namespace.get(namespace.idFromName(name))
      const response = await object.fetch('https://settlements.invalid/', {
        method: 'POST',
        body: toJson(call),
      })
      answer = (await response.json()) as ObjectAnswer
    } catch (error) {
      throw new LedgerError(
        `durableObjectLedger: the object ${name} gives no answer (${safeMessageOf(error)}).`,
      )
    }
    if ('error' in answer) throw new LedgerError(`durableObjectLedger: the object ${name}: ${answer.error}.`)
    return answer.answer as T
  }
}

/** As the objects order them. */
function byTime(one: LedgerEntry, other: LedgerEntry): number {
  return one.since - other.since || (one.key < other.key ? -1 : 1)
}
