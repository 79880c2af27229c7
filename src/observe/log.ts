/** Structured log entries: the newest in a ring, each also to the seller's logger. */

export type LogLevel = 'debug' | 'info' | 'warn' | 'error'

/** One structured log entry; everything beside the first four fields depends on the event. */
export interface LogEntry {
  /** ISO 8601. */
  timestamp: string
  level: LogLevel
  /** What happened, as a stable name: `attempt`, `failover`, `circuit:change`, … */
  event: string
  message: string
  [field: string]: unknown
}

/** pino, console, or anything with these methods. */
export interface Logger {
  debug(...args: unknown[]): void
  info(...args: unknown[]): void
  warn(...args: unknown[]): void
  error(...args: unknown[]): void
}

/** What is kept until somebody reads it: entries are made from it then, not on a payment's way. */
interface Record_ {
  readonly time: number
  readonly level: LogLevel
  readonly event: string
  readonly fields: object
  readonly describe: (fields: never) => string
}

const rank: Record<LogLevel, number> = { debug: 0, info: 1, warn: 2, error: 3 }

export interface LogOptions {
  readonly maxEntries: number
  readonly level: LogLevel
  readonly logger: Logger | undefined
  /** Called with each entry while `wanted` says that somebody listens. */
  readonly listener: { wanted(): boolean; call(entry: LogEntry): void }
}

export class Log {
  readonly #ring: Record_[] = []
  #next = 0

  constructor(private readonly options: LogOptions) {}

  /** Records an event; `describe` makes its sentence from the fields when it is read. */
  write<F extends object>(level: LogLevel, event: string, fields: F, describe: (fields: F) => string): void {
    const { options } = this
    if (rank[level] < rank[options.level]) return
    const record: Record_ = { time: Date.now(), level, event, fields, describe }
    if (options.maxEntries > 0) {
      this.#ring[this.#next] = record
      this.#next = (this.#next + 1) % options.maxEntries
    }
    const wanted = options.listener.wanted()
    if (options.logger === undefined && !wanted) return
    const entry = toEntry(record)
    if (wanted) options.listener.call(entry)
    if (options.logger !== undefined) tell(options.logger, entry)
  }

  /** The newest entries, oldest first. */
  recent(limit: number): LogEntry[] {
    const ordered = [...this.#ring.slice(this.#next), ...this.#ring.slice(0, this.#next)]
    return ordered.slice(Math.max(0, ordered.length - limit)).map(toEntry)
  }
}

function toEntry({ time, level, event, fields, describe }: Record_): LogEntry {
  const message = describe(fields as never)
  return { timestamp: new Date(time).toISOString(), level, event, message, ...fields }
}

/** pino and bunyan (known by `fatal`) take the fields first, console and winston the message. */
function tell(logger: Logger, entry: LogEntry): void {
  const { message, level, timestamp: _, ...fields } = entry
  const text = `[Facilitator] ${message}`
  try {
    const told: unknown = 'fatal' in logger ? logger[level](fields, text) : logger[level](text, fields)
    if (told instanceof Promise) told.catch(() => {})
  } catch {
    // An observer's fault must not become a payment's.
  }
}
