/** Looks at unresolved settlements in the background until the chain has told the fate of each. */
import { setBackgroundTimeout } from '../clock.ts'
import type { LedgerEntry } from './ledger.ts'

/** A shared ledger is looked at now and then even when nothing is known to be unresolved, in intervals. */
const idleIntervals = 6

export interface WatchOptions {
  /** Milliseconds between looks. */
  readonly intervalMs: number
  /** Others may leave settlements in the ledger too. */
  readonly isShared: boolean
  entries(): Promise<LedgerEntry[]>
  /** Asks the chain about one; true when its fate is known, and told. */
  look(entry: LedgerEntry): Promise<boolean>
  onFault(error: unknown): void
}

export class Watch {
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Keys whose fate is known. */
  readonly #told = new Set<string>()
  /** Some fates were not known when it last looked. */
  #isNeeded = false
  #isStopped = false

  constructor(private readonly options: WatchOptions) {}

  /** Watches another settlement. */
  add(key: string): void {
    this.#told.delete(key)
    this.#isNeeded = true
    this.#schedule(this.options.intervalMs)
  }

  start(): void {
    this.#isStopped = false
    if (this.#isNeeded || this.options.isShared) this.#schedule(this.options.intervalMs)
  }

  stop(): void {
    this.#isStopped = true
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped || this.#timer !== undefined) return
    const timer = setBackgroundTimeout(async () => {
      this.#isNeeded = !(await this.#lookAtAll())
      if (this.#timer !== timer) return
      this.#timer = undefined
      const { intervalMs, isShared } = this.options
      if (this.#isNeeded) this.#schedule(intervalMs)
      else if (isShared) this.#schedule(intervalMs * idleIntervals)
    }, delayMs)
    this.#timer = timer
  }

  async #lookAtAll(): Promise<boolean> {
    try {
      const entries = await this.options.entries()
      const keys = new Set(entries.map(entry => entry.key))
      for (const key of this.#told) if (!keys.has(key)) this.#told.delete(key)
      const untold = entries.filter(entry => !this.#told.has(entry.key))
      const isTold = await Promise.all(untold.map(entry => this.options.look(entry)))
      for (const [i, entry] of untold.entries()) if (isTold[i]) this.#told.add(entry.key)
      return isTold.every(Boolean)
    } catch (error) {
      this.options.onFault(error)
      return false
    }
  }
}
