/** The store of settlements in Redis. */
import { LedgerError } from '../errors.ts'
import type { AnswerStore } from '../ledgers/answer-store.ts'
import { forEachShard, groupOf, shards } from '../ledgers/shards.ts'
import type { LedgerStore } from '../ledgers/shared-ledger.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import type {
  Claim,
  ClaimRequest,
  LedgerEntry,
  LedgerFilter,
  LedgerPage,
  LedgerUpdate,
  SettlementState,
} from '../settlement/ledger.ts'
import { closedBySeller } from '../settlement/ledger.ts'
import type { ScriptRunner } from './client.ts'
import { isUnknownScript, ledgerFault } from './faults.ts'
import { layoutVersion, type ScriptName, sourceOf } from './scripts.ts'

export interface RedisStoreOptions {
  readonly prefix: string
  readonly keepMs: number
  readonly onWarning: (message: string) => void
}

/** An entry as the scripts answer it: the fields of its hash, and what is true of it now. */
interface View {
  readonly key: string
  readonly fingerprint: string
  readonly query: string
  readonly amount: string
  readonly claim: string
  readonly first_claimed_us: string
  readonly settlement: string
  readonly state_now: SettlementState['state']
  readonly left_ms?: string
  readonly before_state?: SettlementState['state']
  readonly before_settlement?: string
  readonly before_left_ms?: string
}

/** The empty list of Lua is an empty object in JSON. */
type LuaList<T> = readonly T[] | Record<string, never>

interface ShardPage {
  readonly entries: LuaList<View>
  readonly position?: string
}

interface Pruned {
  readonly count: number
  readonly position?: string
}

/** An entry, and its place among all of them: the microsecond of its first claim, and its shard. */
interface Placed {
  readonly entry: LedgerEntry
  readonly micros: number
  readonly shard: number
}

const openStates: readonly SettlementState['state'][] = ['settling', 'unresolved', 'undelivered']

/** Over so many hash slots of a cluster payments are spread. */
const spread = shards(16)

export class RedisStore implements LedgerStore {
  readonly #digests = new Map<ScriptName, Promise<string>>()
  #inspection: Promise<unknown> | undefined

  constructor(
    private readonly scripts: ScriptRunner,
    private readonly options: RedisStoreOptions,
  ) {}

  async claim({ key, fingerprint, query, claim, leaseMs }: ClaimRequest): Promise<Claim> {
    const { amount, validBefore } = query
    const answer = await this.#run<{ kind: 'claimed' | 'refused'; entry: View }>('claim', spread.ofKey(key), [
      key,
      fingerprint,
      claim,
      `${leaseMs}`,
      JSON.stringify(query),
      amount,
      numberOf(amount),
      validBefore === undefined ? '' : `${validBefore * 1000}`,
      groupOf(query) ?? '',
    ])
    const entry = entryOf(answer.entry)
    if (answer.kind === 'refused') return { kind: 'refused', entry }
    const { before_state, before_settlement = '', before_left_ms } = answer.entry
    const before = before_state && settlementOf(before_state, before_settlement, before_left_ms)
    return { kind: 'claimed', before, since: entry.since, query: entry.query }
  }

  async update({ key, claim, settlement }: LedgerUpdate): Promise<boolean> {
    const stored = await this.#run<number>('update', spread.ofKey(key), [
      key,
      claim,
      settlement.state,
      JSON.stringify(settlement),
      settlement.state === 'undelivered' ? `${settlement.windowMs}` : '',
      isUncharged(settlement) ? '1' : '',
      `${this.options.keepMs}`,
    ])
    return Number(stored) === 1
  }

  async get(key: string): Promise<LedgerEntry | undefined> {
    const view = await this.#run<View | null>('get', spread.ofKey(key), [key])
    return view ? entryOf(view) : undefined
  }

  /** Each shard is asked for a page; the oldest of them all are the page. */
  async list(filter: LedgerFilter): Promise<LedgerPage> {
    const found = await forEachShard(spread, shard => this.#listShard(shard, filter))
    const all = found.flat().sort((one, other) => one.micros - other.micros || one.shard - other.shard)
    const page = all.slice(0, filter.limit)
    const last = page.at(-1)
    const entries = page.map(({ entry }) => entry)
    return last && all.length > filter.limit
      ? { entries, cursor: `${last.micros}-${last.shard}` }
      : { entries }
  }

  /** One more than the page takes, so that it is known whether there is another. */
  async #listShard(shard: number, { states, from, until, limit, cursor }: LedgerFilter): Promise<Placed[]> {
    const index = states?.every(state => openStates.includes(state)) ? 'open-payments' : 'payments-by-time'
    const wanted = states ? `,${states.join()},` : ''
    const max = until === undefined ? '+inf' : `(${until * 1000}`
    let min = from === undefined ? '-inf' : `${from * 1000}`
    if (cursor !== undefined) {
      const [micros, lastShard] = readCursor(cursor)
      min = shard > lastShard ? `${micros}` : `(${micros}`
    }
    const found: Placed[] = []
    for (;;) {
      const missing = limit + 1 - found.length
      const page = await this.#run<ShardPage>('list', shard, [index, min, max, `${missing}`, wanted])
      for (const view of listOf(page.entries))
        found.push({ entry: entryOf(view), micros: Number(view.first_claimed_us), shard })
      if (page.position === undefined || found.length > limit) return found
      min = `(${page.position}`
    }
  }

  async undelivered(query: SettlementQuery): Promise<readonly LedgerEntry[]> {
    const group = groupOf(query)
    if (query.payer === undefined || group === undefined) return []
    const answers = await Promise.all(
      spread
        .ofPayer(query.payer)
        .map(shard => this.#run<Pick<ShardPage, 'entries'>>('undelivered', shard, [group])),
    )
    return answers
      .flatMap(({ entries }) => listOf(entries).map(entryOf))
      .sort((one, other) => one.since - other.since)
  }

  async prune({ olderThanMs }: { readonly olderThanMs: number }): Promise<number> {
    const counts = await forEachShard(spread, async shard => {
      let total = 0
      let min = '-inf'
      for (;;) {
        const parameters = [min, `${olderThanMs}`]
        const { count, position } = await this.#run<Pruned>('prune', shard, parameters)
        total += count
        if (position === undefined) return total
        min = `(${position}`
      }
    })
    return counts.reduce((sum, count) => sum + count, 0)
  }

  /** What gateways have answered, spread by its name. */
  readonly answers: AnswerStore = {
    get: async name => {
      const kept = await this.#run<string | null>('getAnswer', spread.ofKey(`||||${name}`), [name])
      return kept?.slice(1)
    },
    putIfAbsent: async (name, answer, keepMs) => {
      const parameters = [name, answer, `${keepMs}`]
      const kept = await this.#run<string>('putAnswer', spread.ofKey(`||||${name}`), parameters)
      return kept.slice(1)
    },
  }

  /** After the first call, which looks at the server: what it would not keep must not be recorded there. */
  async #run<T>(name: ScriptName, shard: number, parameters: string[]): Promise<T> {
    this.#inspection ??= this.#inspect().catch(error => {
      this.#inspection = undefined
      throw error
    })
    await this.#inspection
    return this.#call(name, shard, parameters)
  }

  async #call<T>(name: ScriptName, shard: number, parameters: string[]): Promise<T> {
    const base = `${this.options.prefix}:{${shard}}:`
    try {
      return readAnswer<T>(await this.#callScript(name, [base], parameters))
    } catch (error) {
      throw ledgerFault(error)
    }
  }

  async #callScript(name: ScriptName, keys: string[], parameters: string[]): Promise<unknown> {
    const digest = this.#digests.get(name) ?? sha1(sourceOf(name))
    this.#digests.set(name, digest)
    try {
      return await this.scripts.byDigest(await digest, keys, parameters)
    } catch (error) {
      if (!isUnknownScript(error)) throw error
      return this.scripts.bySource(sourceOf(name), keys, parameters)
    }
  }

  /** Of a cluster each part is asked: a shard's script runs where the shard is. */
  async #inspect(): Promise<void> {
    const reports = await forEachShard(spread, shard =>
      this.#call<{ layout: string; policy?: string; appends?: string }>('inspect', shard, [layoutVersion]),
    )
    const { prefix, onWarning } = this.options
    for (const { layout, policy } of reports) {
      if (`${layout}` !== layoutVersion)
        throw new LedgerError(
          `redisLedger: the entries under "${prefix}" were made by another version of this library (layout ${layout}, not ${layoutVersion}): use that version, or another prefix once nothing is open there.`,
        )
      if (policy !== undefined && policy !== 'noeviction')
        throw new LedgerError(
          `redisLedger: this Redis evicts keys when it is full (maxmemory-policy ${policy}): a payment that is forgotten could be delivered twice. Set maxmemory-policy to noeviction, or use another Redis.`,
        )
    }
    if (reports.some(({ policy }) => policy === undefined))
      onWarning(
        'redisLedger: this Redis does not tell its maxmemory-policy: make sure that it is noeviction, or payments are forgotten.',
      )
    if (reports.some(({ appends }) => appends === '0'))
      onWarning(
        'redisLedger: this Redis does not write a log of its changes (appendonly no): after a restart it has forgotten the last payments. Set appendonly to yes.',
      )
  }
}

/** JSON, or what a client has made of it by itself; or a text behind a sign. */
function readAnswer<T>(answer: unknown): T {
  return (typeof answer === 'string' && !answer.startsWith('=') ? JSON.parse(answer) : answer) as T
}

function listOf<T>(list: LuaList<T>): readonly T[] {
  return Array.isArray(list) ? list : []
}

function readCursor(cursor: string): [micros: number, shard: number] {
  const [, micros, shard] = /^(\d+)-(\d+)$/.exec(cursor) ?? []
  if (micros === undefined) throw new RangeError('redisLedger: cursor is none that list() has returned')
  return [Number(micros), Number(shard)]
}

function entryOf(view: View): LedgerEntry {
  const { key, fingerprint, claim, amount, state_now, settlement, left_ms } = view
  return {
    key,
    fingerprint,
    query: { ...(JSON.parse(view.query) as SettlementQuery), amount },
    since: Math.floor(Number(view.first_claimed_us) / 1000),
    claim,
    settlement: settlementOf(state_now, settlement, left_ms),
  }
}

/** What is stored, as the state that it is now. */
function settlementOf(
  state: SettlementState['state'],
  stored: string,
  leftMs: string | undefined,
): SettlementState {
  const settlement = JSON.parse(stored) as SettlementState
  if (state === 'undelivered') return { ...settlement, state, windowMs: Number(leftMs) } as SettlementState
  if (settlement.state !== 'undelivered') return { ...settlement, state } as SettlementState
  const { transaction, redeliveries } = settlement
  return { state: 'settled', transaction, redeliveries }
}

/** Nothing was charged, and that is sure. */
function isUncharged(settlement: SettlementState): boolean {
  return settlement.state === 'rejected'
    ? settlement.reason !== closedBySeller
    : settlement.state === 'failed' && !settlement.wasSent
}

/** In decimal digits, which can be compared as texts of one length; nothing for what is no whole number. */
function numberOf(amount: string): string {
  return /^(\d{1,78}|0x[\da-f]{1,64})$/i.test(amount) ? `${BigInt(amount)}` : ''
}

async function sha1(text: string): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-1', new TextEncoder().encode(text))
  return Array.from(new Uint8Array(digest), byte => byte.toString(16).padStart(2, '0')).join('')
}
