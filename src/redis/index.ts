/** A ledger of settlements on Redis or Valkey, for the replicas of one seller. */
import { InvalidOptionsError } from '../errors.ts'
import type { AnswerStore } from '../ledgers/answer-store.ts'
import { sharedLedger } from '../ledgers/shared-ledger.ts'
import type { SettlementLedger } from '../settlement/ledger.ts'
import { type RedisClient, scriptRunner } from './client.ts'
import { RedisStore } from './store.ts'

export type { AnswerStore } from '../ledgers/answer-store.ts'
export type { IoRedisClient, NodeRedisClient, RedisClient, UpstashRedisClient } from './client.ts'

export interface RedisLedger extends SettlementLedger {
  /** For `answers` of a gateway, so that its replicas give one answer under an `Idempotency-Key`. */
  readonly answers: AnswerStore
}

export interface RedisLedgerOptions {
  /**
   * A client of `redis` (5 or 6; connected), `ioredis`, `iovalkey` or `@upstash/redis`, of a single server, of sentinels or
   * of a cluster.
   */
  client: RedisClient
  /**
   * What the keys begin with. Replicas of one seller use the same; no braces.
   * @default 'x402'
   */
  prefix?: string
  /**
   * Milliseconds for which a payment that is over stays listed, and longer where its authorization can still be used. One
   * takes about 2 kB. What is open or undelivered is not forgotten.
   * @default 86400000
   */
  keepMs?: number
  /**
   * Gets what is doubtful about the server, once: it may forget, or does not tell.
   * @default console.warn
   */
  onWarning?: (message: string) => void
}

/**
 * A ledger for `settlement.ledger`, in Redis (6.2 or later) or Valkey. Leases and windows are judged by its clock; each call is one
 * script and one round trip.
 *
 * The first call looks at the server. It fails, and nothing is sent to a facilitator, when the server evicts keys that it
 * should keep (`maxmemory-policy` must be `noeviction`), or has entries of another version of this library. It warns where a
 * restart would forget (`appendonly` must be `yes`).
 *
 * Redis copies to its replicas later: a primary that dies takes its last moments with it. What the chain accepts once is
 * charged once all the same.
 *
 * @throws {InvalidOptionsError} for a `client` that is none, and a `prefix` or `keepMs` that cannot be
 *
 * @example
 * ```ts
 * const client = await createClient({ url: process.env.REDIS_URL }).connect()
 * const aggregator = new FacilitatorAggregator({ facilitators, settlement: { ledger: redisLedger({ client }) } })
 * ```
 */
export function redisLedger(options: RedisLedgerOptions): RedisLedger {
  const { client, prefix = 'x402', keepMs = 86_400_000, onWarning = console.warn } = options
  const problems: string[] = []
  if (!/^[^{}\s]{1,64}$/.test(prefix))
    problems.push('redisLedger: prefix: expected 1 to 64 characters without braces and blanks')
  if (!(Number.isSafeInteger(keepMs) && keepMs >= 0))
    problems.push('redisLedger: keepMs: expected a whole number of milliseconds')
  if (problems.length > 0) throw new InvalidOptionsError(problems)
  const store = new RedisStore(scriptRunner(client), { prefix, keepMs, onWarning })
  return Object.assign(sharedLedger(store), { answers: store.answers })
}
