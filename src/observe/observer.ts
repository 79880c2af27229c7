/** Everything that is told about what happens: events, log, and health as outsiders see it. */

import type { AttemptReport, OutcomeKind } from '../facilitator/outcome.ts'
import { safeMessageOf } from '../redact.ts'
import { type AggregatorEvents, type EventName, SafeEmitter } from './events.ts'
import { Log, type LogEntry, type Logger, type LogLevel } from './log.ts'

export interface ObserverOptions {
  readonly logger: Logger | undefined
  readonly logLevel: LogLevel
  readonly maxLogEntries: number
}

export class Observer {
  readonly emitter: SafeEmitter
  readonly #log: Log
  #inListenerError = false

  constructor(options: ObserverOptions) {
    this.emitter = new SafeEmitter(error => this.#listenerFailed(error))
    this.#log = new Log({
      maxEntries: options.maxLogEntries,
      level: options.logLevel,
      logger: options.logger,
      listener: {
        // A listener of `log` that throws is not told about its own error: that would never end.
        wanted: () => !this.#inListenerError && this.emitter.has('log'),
        call: entry => this.emitter.emit('log', entry),
      },
    })
  }

  recentLogs(limit: number): LogEntry[] {
    return this.#log.recent(limit)
  }

  log<F extends object>(level: LogLevel, event: string, fields: F, describe: (fields: F) => string): void {
    this.#log.write(level, event, fields, describe)
  }

  /** Logs what was thrown where no caller could be told. */
  fault(event: string, what: string, thrown: unknown, about: object = {}): void {
    const fields = { ...about, error: safeMessageOf(thrown) }
    this.log('error', event, fields, ({ error }) => `${what}: ${error}`)
  }

  /** Emits an event and logs it under the same name. */
  tell<E extends Exclude<EventName, 'log'>>(
    event: E,
    data: AggregatorEvents[E],
    level: LogLevel,
    describe: (data: AggregatorEvents[E]) => string,
  ): void {
    this.#log.write(level, event, data, describe)
    this.emitter.emit(event, data)
  }

  /** @param level where the report deserves another level than its outcome's */
  attempt(report: AttemptReport, level = attemptLevel(report)): void {
    this.tell('attempt', report, level, describeAttempt)
  }

  failover(data: AggregatorEvents['failover']): void {
    this.tell(
      'failover',
      data,
      'warn',
      ({ operation, from, to, outcome, reason }) =>
        `${operation} goes on from ${from} to ${to} (${outcome}${reason === undefined ? '' : `, ${reason}`})`,
    )
  }

  #listenerFailed(error: unknown): void {
    this.#inListenerError = true
    try {
      this.fault('listener:error', 'an event listener threw', error)
    } finally {
      this.#inListenerError = false
    }
  }
}

const attemptLevels: Record<OutcomeKind, LogLevel> = {
  answered: 'info',
  declined: 'warn',
  unreachable: 'warn',
  unknown: 'warn',
  pending: 'info',
  spent: 'info',
}

function attemptLevel({ operation, outcome }: AttemptReport): LogLevel {
  if (outcome === 'answered' && operation === 'supported') return 'debug'
  return attemptLevels[outcome]
}

function describeAttempt({
  facilitator,
  operation,
  network,
  outcome,
  reason,
  durationMs,
}: AttemptReport): string {
  const where = network === undefined ? '' : ` on ${network}`
  const why = reason === undefined ? '' : ` (${reason})`
  return `${facilitator}: ${operation}${where} ${outcome}${why} in ${Math.round(durationMs)} ms`
}
