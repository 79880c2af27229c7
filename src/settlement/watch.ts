/** Looks at unresolved settlements in the background until the chain has told the fate of each. */
import { now, setBackgroundTimeout } from '../clock.ts'
import type { LedgerEntry } from './ledger.ts'

/** A shared ledger is looked at now and then even when nothing is known to be unresolved, in intervals. */
const idleIntervals = 6
/** Milliseconds after which a lazy look is given up. */
const longestLookMs = 60_000

export interface WatchOptions {
  /** Milliseconds between looks. */
  readonly intervalMs: number
  /** No timers: `touch` is called beside requests instead. */
  readonly isLazy: boolean
  /** Others may leave settlements in the ledger too. */
  readonly isShared: boolean
  entries(): Promise<LedgerEntry[]>
  /** Asks the chain about one; true when its fate is known, and told. */
  look(entry: LedgerEntry): Promise<boolean>
  onFault(error: unknown): void
}

export class Watch {
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Monotonic time (ms) of the next look. */
  #dueAt = Number.POSITIVE_INFINITY
  /** Keys whose fate is known. */
  readonly #told = new Set<string>()
  /** Some fates were not known when it last looked. */
  #isNeeded = false
  #isStopped = false

  constructor(private readonly options: WatchOptions) {}

  /** Watches another settlement. */
  add(key: string): void {
    this.#told.delete(key)
    this.goOn()
  }

  /** There is something to watch again, though a look in between may have seen nothing. */
  goOn(): void {
    this.#isNeeded = true
    this.#schedule(this.options.intervalMs)
  }

  start(): void {
    this.#isStopped = false
    if (this.#isNeeded || this.options.isShared) this.#schedule(this.options.intervalMs)
  }

  stop(): void {
    this.#isStopped = true
    this.#dueAt = Number.POSITIVE_INFINITY
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Looks, if it is time. */
  touch(): Promise<void> | undefined {
    return now() < this.#dueAt ? undefined : this.#look()
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped || this.#dueAt !== Number.POSITIVE_INFINITY) return
    this.#dueAt = now() + delayMs
    if (!this.options.isLazy) this.#timer = setBackgroundTimeout(() => void this.#look(), delayMs)
  }

  async #look(): Promise<void> {
    // Due no more, but not yet to be scheduled anew: `touch` must not look twice at a time.
    const { intervalMs, isShared, isLazy } = this.options
    // A look that ends with the request beside which it began must not be the last.
    this.#dueAt = isLazy ? now() + longestLookMs : Number.POSITIVE_INFINITY
    this.#isNeeded = false
    if (!(await this.#lookAtAll())) this.#isNeeded = true
    if (isLazy && !this.#isStopped) this.#dueAt = Number.POSITIVE_INFINITY
    if (this.#isNeeded) this.#schedule(intervalMs)
    else if (isShared) this.#schedule(intervalMs * idleIntervals)
  }

  async #lookAtAll(): Promise<boolean> {
    try {
      const entries = await this.options.entries()
      const keys = new Set(entries.map(entry => entry.key))
      for (const key of this.#told) if (!keys.has(key)) this.#told.delete(key)
      const untold = entries.filter(entry => !this.#told.has(entry.key))
      const isTold = await Promise.all(untold.map(entry => this.#lookAt(entry)))
      return isTold.every(Boolean)
    } catch (error) {
      this.options.onFault(error)
      return false
    }
  }

  /** What was told is noted at once: a fault of the next look must not have it told again. */
  async #lookAt(entry: LedgerEntry): Promise<boolean> {
    const isTold = await this.options.look(entry)
    if (isTold) this.#told.add(entry.key)
    return isTold
  }
}
