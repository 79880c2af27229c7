/** Structured log entries, and how the seller's logger gets them. */

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
export interface LogRecord {
  readonly time: number
  readonly level: LogLevel
  readonly event: string
  readonly fields: object
  /** Of these very fields; a method, as those take what is narrower than `object`. */
  describe(fields: object): string
}

export function toEntry({ time, level, event, fields, describe }: LogRecord): LogEntry {
  const message = describe(fields)
  return { timestamp: new Date(time).toISOString(), level, event, message, ...fields }
}

/** pino and bunyan (known by `fatal`) take the fields first, console and winston the message. */
export function passOn(logger: Logger, entry: LogEntry): void {
  const { message, level, timestamp: _, ...fields } = entry
  const text = `[Facilitator] ${message}`
  try {
    const logged: unknown = 'fatal' in logger ? logger[level](fields, text) : logger[level](text, fields)
    if (logged instanceof Promise) logged.catch(() => {})
  } catch {
    // An observer's fault must not become a payment's.
  }
}
