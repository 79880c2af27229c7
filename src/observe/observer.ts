/** Everything that is emitted and logged about what happens. */

import { type AttemptReport, describeOutcome, type OutcomeKind } from './attempt-report.ts'
import { type ObserverEvents, SafeEmitter } from './events.ts'
import { type LogEntry, type Logger, type LogLevel, type LogRecord, passOn, toEntry } from './log.ts'
import { safeMessageOf } from './redact.ts'

export interface ObserverOptions {
  /** Without one, warnings and errors go to the console. */
  readonly logger: Logger | false | undefined
  readonly logLevel: LogLevel
  readonly maxLogEntries: number
}

/** From the least. */
const levels: readonly LogLevel[] = ['debug', 'info', 'warn', 'error']

/** @typeParam Events what it may emit */
export class Observer<Events extends { [E in keyof Events]: object } = ObserverEvents> {
  readonly emitter = new SafeEmitter((error, event) => this.#listenerFailed(error, event))
  /** The newest, oldest first: up to twice as many as are kept, so that the others can be dropped together. */
  readonly #records: LogRecord[] = []
  /** An error of a listener of `log` is kept from all of them: two that fail would report each other without end. */
  #isMuted = false

  constructor(private readonly options: ObserverOptions) {}

  /** The newest entries, oldest first. */
  recentLogs(limit: number): LogEntry[] {
    const count = Math.min(limit, this.options.maxLogEntries)
    return this.#records.slice(Math.max(0, this.#records.length - count)).map(toEntry)
  }

  /** Logs what has happened; `describe` makes its sentence from the fields when it is read. */
  log<F extends object>(level: LogLevel, event: string, fields: F, describe: (fields: F) => string): void {
    const rank = levels.indexOf(level)
    const { logLevel, maxLogEntries, logger = rank > 1 && console } = this.options
    if (rank < levels.indexOf(logLevel)) return
    const record: LogRecord = { time: Date.now(), level, event, fields, describe }
    const count = this.#records.push(record)
    if (count > 2 * maxLogEntries) this.#records.splice(0, count - maxLogEntries)
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
  emit<E extends Exclude<keyof Events & string, 'log'>>(
    event: E,
    data: Events[E],
    level: LogLevel,
    describe: (data: Events[E]) => string,
  ): void {
    this.log(level, event, data, describe)
    this.emitter.emit(event, data)
  }

  /** @param level where the report deserves another level than its outcome's */
  attempt(this: Observer, report: AttemptReport, level = attemptLevel(report)): void {
    this.emit('attempt', report, level, describeAttempt)
  }

  failover(this: Observer, data: ObserverEvents['failover']): void {
    this.emit(
      'failover',
      data,
      'warn',
      event => `${event.operation} goes on from ${event.from} to ${event.to} (${describeOutcome(event)})`,
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

  #listenerFailed(error: unknown, event: string): void {
    this.#isMuted = event === 'log'
    try {
      this.fault('listener:error', 'an event listener threw', error)
    } finally {
      this.#isMuted = false
    }
  }
}

/** How an attempt ends at a facilitator that works. */
const goodOutcomes: readonly OutcomeKind[] = ['answered', 'pending', 'spent']

function attemptLevel({ operation, outcome }: AttemptReport): LogLevel {
  if (outcome === 'answered' && operation === 'supported') return 'debug'
  return goodOutcomes.includes(outcome) ? 'info' : 'warn'
}

function describeAttempt(report: AttemptReport): string {
  const { facilitator, operation, network, outcome, reason, durationMs } = report
  const where = network === undefined ? '' : ` on ${network}`
  const why = reason === undefined ? '' : ` (${reason})`
  return `${facilitator}: ${operation}${where} ${outcome}${why} in ${Math.round(durationMs)} ms`
}
