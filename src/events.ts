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

/** All of them. */
export const eventNames = [
  'attempt',
  'failover',
  'log',
  'stop',
  'circuit:change',
  'health:change',
  'supported:change',
  'facilitator:contradicted',
  'facilitator:quarantined',
  'settlement:credited',
  'settlement:indeterminate',
  'settlement:recovered',
  'settlement:resolved',
] as const satisfies readonly EventName[]

export type Listener<E extends EventName> = (event: AggregatorEvents[E]) => unknown
