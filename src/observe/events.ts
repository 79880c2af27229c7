/** The events of an aggregator, and an emitter whose listeners cannot hurt a payment. */
import type { SupportedResponse } from '@x402/core/types'
import type { AttemptReport, Operation, OutcomeKind } from './attempt-report.ts'
import type { LogEntry } from './log.ts'

/** `open`: asked last. `half-open`: one trial decides. */
export type CircuitName = 'closed' | 'open' | 'half-open'

/** A lane whose circuit changed its state. */
export interface CircuitChange {
  readonly facilitator: string
  readonly operation: Operation
  /** Absent for `supported` and `list`, as is `network`. */
  readonly scheme?: string | undefined
  readonly network?: string | undefined
  readonly from: CircuitName
  readonly to: CircuitName
  readonly consecutiveFailures: number
}

/** A payment, without anything secret. */
export interface SettlementSummary {
  /** Identifies the payment, for `closeSettlement`; absent where nothing that can be spent only once is known of it. */
  readonly key?: string | undefined
  readonly network: string
  readonly payer?: string | undefined
  readonly payTo: string
  readonly asset: string
  /** In atomic units. */
  readonly amount: string
  /** The transaction that a facilitator or the chain has named, if one has. */
  readonly transaction?: string | undefined
}

/** Every event with what its listeners get. */
export interface AggregatorEvents {
  /** One call of one operation on one facilitator has ended. */
  attempt: AttemptReport
  /** An operation goes on from one facilitator to the next. */
  failover: {
    readonly operation: Operation
    readonly network?: string | undefined
    readonly from: string
    readonly to: string
    readonly outcome: OutcomeKind
    readonly reason?: string | undefined
  }
  /** A facilitator has become healthy (not quarantined, no lane's circuit open) or unhealthy. */
  'health:change': { readonly facilitator: string; readonly isHealthy: boolean }
  'circuit:change': CircuitChange
  /** What the pool advertises has changed: new 402 answers should name living facilitators. */
  'supported:change': { readonly supported: SupportedResponse }
  /** A settlement succeeded although the facilitator's answer did not say so: the chain did. */
  'settlement:recovered': SettlementSummary & { readonly attempts: readonly AttemptReport[] }
  /** A payment may have been charged, and nobody could say whether it was. */
  'settlement:indeterminate': SettlementSummary & {
    readonly attempts: readonly AttemptReport[]
    /** The aggregator is stopping, and this settlement is still unresolved. */
    readonly isLeftAtStop?: boolean
    /** The buyer sent the payment again, and `onRetry: 'reject'` turned it away. */
    readonly isRetryRejected?: boolean
  }
  /**
   * The chain has shown what became of an indeterminate settlement. After `paid`: deliver, or refund. After `undatable`:
   * by the clocks it was paid before its settlement began: they differ, or it is a replay of one that was delivered. After
   * `unattributed`: it was paid by a transaction that no attempt of this settlement made; another process may have
   * delivered it.
   */
  'settlement:resolved': SettlementSummary & {
    readonly key: string
    readonly result: 'paid' | 'undatable' | 'unattributed' | 'spent-otherwise' | 'expired'
  }
  /** A facilitator claimed a success that the chain does not know: it is asked no more until enabled again. */
  'facilitator:quarantined': {
    readonly facilitator: string
    readonly network: string
    readonly transaction: string
  }
  log: LogEntry
  /** `stop()` has begun and the calls in flight have ended. */
  stop: Record<never, never>
}

export type EventName = keyof AggregatorEvents
/** A listener of anything else would never be called. */
const events: Readonly<Record<EventName, true>> = {
  attempt: true,
  failover: true,
  'health:change': true,
  'circuit:change': true,
  'supported:change': true,
  'settlement:recovered': true,
  'settlement:indeterminate': true,
  'settlement:resolved': true,
  'facilitator:quarantined': true,
  log: true,
  stop: true,
}

export type Listener<E extends EventName> = (event: AggregatorEvents[E]) => unknown

/**
 * An event emitter that contains what its listeners throw, at once or as a rejected promise, and hands it to
 * `onListenerError`. A listener of `log` does not get the entries that it causes itself while it is called: that would
 * never end. The others do.
 */
export class SafeEmitter {
  /** By event, each with whether it is called once only. */
  readonly #listeners = new Map<EventName, Map<Listener<never>, boolean>>()
  /** The listeners of `log` that are being called: what they log themselves they are not told. */
  readonly #hearing = new Set<Listener<never>>()

  constructor(private readonly onListenerError: (error: unknown, event: EventName) => void) {}

  add<E extends EventName>(event: E, listener: Listener<E>, isOnce: boolean): void {
    if (typeof listener !== 'function') throw new TypeError('a listener is a function')
    if (!Object.hasOwn(events, event))
      throw new TypeError(`${event} is not an event; there are ${Object.keys(events).join(', ')}`)
    const listeners = this.#listeners.get(event) ?? new Map()
    this.#listeners.set(event, listeners.set(listener, isOnce))
  }

  remove<E extends EventName>(event: E, listener: Listener<E>): void {
    this.#listeners.get(event)?.delete(listener)
  }

  has(event: EventName): boolean {
    return (this.#listeners.get(event)?.size ?? 0) > 0
  }

  emit<E extends EventName>(event: E, data: AggregatorEvents[E]): void {
    const listeners = this.#listeners.get(event)
    if (listeners === undefined) return
    for (const [listener, isOnce] of [...listeners]) {
      if (isOnce) listeners.delete(listener)
      void this.#call(event, listener as Listener<E>, data)
    }
  }

  async #call<E extends EventName>(
    event: E,
    listener: Listener<E>,
    data: AggregatorEvents[E],
  ): Promise<void> {
    const isLog = event === 'log'
    if (isLog && this.#hearing.has(listener)) return
    try {
      if (isLog) this.#hearing.add(listener)
      let heard: unknown
      try {
        heard = listener(data)
      } finally {
        if (isLog) this.#hearing.delete(listener)
      }
      await heard
    } catch (error) {
      try {
        this.onListenerError(error, event)
      } catch {
        // No stack is left, as listeners call each other without end: nobody waits for this promise to hear of it.
      }
    }
  }
}
