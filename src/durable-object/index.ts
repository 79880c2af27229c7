/** A ledger of settlements in Durable Objects, for sellers on Cloudflare Workers. */
import { InvalidOptionsError } from '../errors.ts'
import { sharedLedger } from '../ledgers/shared-ledger.ts'
import type { SettlementLedger } from '../settlement/ledger.ts'
import { DurableObjectStore, type ObjectNamespace } from './store.ts'

export { type ObjectState, SettlementLedgerObject } from './ledger-object.ts'
export type { ObjectNamespace } from './store.ts'

export interface DurableObjectLedgerOptions {
  /**
   * Over so many objects payments are spread, by their payers. One takes some hundred payments a second. Do not change it
   * while payments are open: they would be looked for elsewhere.
   * @default 1
   */
  shards?: number
}

/**
 * A ledger for `settlement.ledger`, in Durable Objects of `SettlementLedgerObject`: whatever isolate of the Worker settles
 * a payment, all of them know of it, also after their end. An object's clock judges leases and windows.
 *
 * Old payments are forgotten when `prune` is called, such as from a `scheduled` handler.
 *
 * @param namespace the binding of the class
 * @throws {InvalidOptionsError} for a `namespace` that is none, and for `shards` that are not 1 to 256
 *
 * @example
 * ```ts
 * import { env } from 'cloudflare:workers'
 *
 * export { SettlementLedgerObject } from 'x402-facilitator-aggregator/durable-object'
 * const aggregator = aggregatorFromEnv(env, { settlement: { ledger: durableObjectLedger(env.SETTLEMENTS) } })
 * ```
 */
export function durableObjectLedger(
  namespace: ObjectNamespace,
  { shards = 1 }: DurableObjectLedgerOptions = {},
): SettlementLedger {
  const problems: string[] = []
  if (typeof namespace?.idFromName !== 'function' || typeof namespace.get !== 'function')
    problems.push(
      'durableObjectLedger: expected the binding of SettlementLedgerObject: durable_objects.bindings in the configuration of wrangler',
    )
  if (!(Number.isInteger(shards) && shards >= 1 && shards <= 256))
    problems.push('durableObjectLedger: shards: expected a whole number from 1 to 256')
  if (problems.length > 0) throw new InvalidOptionsError(problems)
  return sharedLedger(new DurableObjectStore(namespace, shards))
}
