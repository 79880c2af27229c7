/** Everything that is told about what happens: events and log. */

import type { AttemptReport, OutcomeKind } from './attempt-report.ts'
import { type AggregatorEvents, type EventName, SafeEmitter } from './events.ts'
import { type LogEntry, type Logger, type LogLevel, type LogRecord, LogRing, passOn, toEntry } from './log.ts'
import { safeMessageOf } from './redact.ts'

export interface ObserverOptions {
  /** Without one, warnings and errors go to the console. */
  readonly logger: Logger | false | undefined
  readonly logLevel: LogLevel
  readonly maxLogEntries: number
}

const rank: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 }

export class Observer {
  readonly emitter = new SafeEmitter((error, event) => this.#listenerFailed(error, event))
  readonly #ring: LogRing
  /** An error of a listener of `log` is kept from all of them: two that fail would report each other without end. */
  #isMuted = false

  constructor(private readonly options: ObserverOptions) {
    this.#ring = new LogRing(options.maxLogEntries)
  }

  recentLogs(limit: number): LogEntry[] {
    return this.#ring.recent(limit)
  }

  /** Logs what has happened; `describe` makes its sentence from the fields when it is read. */
  log<F extends object>(level: LogLevel, event: string, fields: F, describe: (fields: F) => string): void {
    const { logLevel, logger = rank[level] >= rank.warn && console } = this.options
    if (rank[level] < rank[logLevel]) return
    const record: LogRecord = { time: Date.now(), level, event, fields, describe }
    this.#ring.keep(record)
    const isHeard = !this.#isMuted && this.emitter.has('log')
    if (!logger && !isHeard) return
    const entry = toEntry(record)
    if (isHeard) this.emitter.emit('log', entry)
    if (logger) passOn(logger, entry)
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
    this.log(level, event, data, describe)
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

  credentials(facilitator: string, reason: string | undefined): void {
    this.log(
      'error',
      'credentials',
      { facilitator, reason },
      fields =>
        `${fields.facilitator} does not accept our credentials (${fields.reason}): see createAuthHeaders`,
    )
  }

  #listenerFailed(error: unknown, event: EventName): void {
    this.#isMuted = event === 'log'
    try {
      this.fault('listener:error', 'an event listener threw', error)
    } finally {
      this.#isMuted = false
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
