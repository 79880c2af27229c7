/** The events that every part of an aggregator emits, and an emitter whose listeners cannot hurt a payment. */
import type { AttemptReport, Operation, OutcomeKind } from './attempt-report.ts'
import type { LogEntry } from './log.ts'

export interface ObserverEvents {
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
  log: LogEntry
}

type Listener = (data: never) => unknown

/**
 * An event emitter that contains what its listeners throw, at once or as a rejected promise, and hands it to
 * `onListenerError`. A listener of `log` does not get the entries that it causes itself while it is called: that would
 * never end. The others do.
 */
export class SafeEmitter {
  /** By event, each with whether it is called once only. */
  readonly #listeners = new Map<string, Map<Listener, boolean>>()
  /** The listeners of `log` that are being called: they do not get what they log themselves. */
  readonly #running = new Set<Listener>()

  constructor(private readonly onListenerError: (error: unknown, event: string) => void) {}

  add(event: string, listener: Listener, isOnce: boolean): void {
    if (typeof listener !== 'function') throw new TypeError('a listener is a function')
    const listeners = this.#listeners.get(event) ?? new Map()
    this.#listeners.set(event, listeners.set(listener, isOnce))
  }

  remove(event: string, listener: Listener): void {
    this.#listeners.get(event)?.delete(listener)
  }

  has(event: string): boolean {
    return Boolean(this.#listeners.get(event)?.size)
  }

  /** @param data what listeners of `event` take: those who add them and those who emit agree on it by their types */
  emit(event: string, data: unknown): void {
    const listeners = this.#listeners.get(event)
    if (!listeners) return
    for (const [listener, isOnce] of [...listeners]) {
      if (isOnce) listeners.delete(listener)
      this.#call(event, listener, data)
    }
  }

  #call(event: string, listener: Listener, data: unknown): void {
    const isLog = event === 'log'
    if (isLog && this.#running.has(listener)) return
    const failed = (error: unknown) => this.#failed(error, event)
    try {
      if (isLog) this.#running.add(listener)
      const result = (listener as (data: unknown) => unknown)(data)
      if (result !== undefined) Promise.resolve(result).catch(failed)
    } catch (error) {
      failed(error)
    } finally {
      if (isLog) this.#running.delete(listener)
    }
  }

  #failed(error: unknown, event: string): void {
    try {
      this.onListenerError(error, event)
    } catch {
      // No stack is left, as listeners call each other without end.
    }
  }
}
