/** Looks at unresolved settlements in the background until the chain has shown what became of each. */
import { now, setBackgroundTimeout } from '../clock.ts'
import type { LedgerEntry } from './ledger.ts'

/** A shared ledger is looked at now and then even when nothing is known to be unresolved, in intervals. */
const idleIntervals = 6
/** Milliseconds after which a lazy look is given up. */
const longestLookMs = 60_000

export interface WatchOptions<Fate> {
  /** Milliseconds between looks. */
  readonly intervalMs: number
  /** No timers: `touch` is called beside requests instead. */
  readonly isLazy: boolean
  /** Others may leave settlements in the ledger too. */
  readonly isShared: boolean
  entries(): Promise<LedgerEntry[]>
  /** Asks the chain about one, and tells of its fate; nothing while that is not known. */
  look(entry: LedgerEntry): Promise<Fate | undefined>
  onFault(error: unknown): void
}

export class Watch<Fate> {
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Monotonic time (ms) of the next look. */
  #dueAt = Number.POSITIVE_INFINITY
  /** The fates that are known, by key. */
  readonly #told = new Map<string, Fate>()
  /** Some fates were not known when it last looked. */
  #isNeeded = false
  #isStopped = false

  constructor(private readonly options: WatchOptions<Fate>) {}

  /** What was told of a settlement that is unresolved still. */
  told(key: string): Fate | undefined {
    return this.#told.get(key)
  }

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
    const { intervalMs, isShared, isLazy } = this.options
    // Due no more, but not yet to be scheduled anew: `touch` must not look twice at a time. A look that ends with the
    // request beside which it began must not be the last, though.
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
      for (const key of this.#told.keys()) if (!keys.has(key)) this.#told.delete(key)
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
    const fate = await this.options.look(entry)
    if (fate !== undefined) this.#told.set(entry.key, fate)
    return fate !== undefined
  }
}
