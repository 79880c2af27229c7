/** Every event of an aggregator with what its listeners get. */
import type { SupportedResponse } from '@x402/core/types'
import type { PoolEvents } from './pool/pool.ts'
import type { SettlementEvents } from './settlement/events.ts'

export interface AggregatorEvents extends PoolEvents, SettlementEvents {
  /** What the pool advertises has changed: new 402 answers should name living facilitators. */
  'supported:change': { readonly supported: SupportedResponse }
  /** `stop()` has begun and the calls in flight have ended. */
  stop: Record<never, never>
}

export type EventName = keyof AggregatorEvents

/** All of them: a listener of anything else would never be called. */
const names: Readonly<Record<EventName, 1>> = {
  attempt: 1,
  failover: 1,
  'health:change': 1,
  'circuit:change': 1,
  'supported:change': 1,
  'settlement:recovered': 1,
  'settlement:indeterminate': 1,
  'settlement:resolved': 1,
  'facilitator:quarantined': 1,
  'facilitator:contradicted': 1,
  log: 1,
  stop: 1,
}
export const eventNames: readonly string[] = Object.keys(names)

export type Listener<E extends EventName> = (event: AggregatorEvents[E]) => unknown
