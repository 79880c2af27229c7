/** Looks at unresolved settlements in the background until the chain has shown how each of them ended. */

import type { Observer } from '../observe/observer.ts'
import { never, now, setBackgroundTimeout } from '../runtime/clock.ts'
import { type Books, ledgerError, summarize } from './books.ts'
import type { Chains } from './chain-view.ts'
import type { SettlementEvents, SettlementSummary } from './events.ts'
import { mayHaveMade } from './evidence.ts'
import type { LedgerEntry } from './ledger.ts'

/** A shared ledger is looked at now and then even when nothing is known to be unresolved, in intervals. */
const idleIntervals = 6
/** How many settlements it looks at together. */
const atOnce = 8
/** Milliseconds after which a lazy look is given up. */
const longestLookMs = 60_000

type Result = SettlementEvents['settlement:resolved']['result']

/** A settlement that may have been charged and was not delivered. */
export interface UnresolvedSettlement extends SettlementSummary {
  /** Identifies the payment. */
  readonly key: string
  /** What the chain has shown this process: as the event `settlement:resolved` says it. */
  readonly result?: Exclude<Result, 'spent-otherwise' | 'expired'> | undefined
}

/** What is added to an unresolved settlement when the chain has shown something of it. */
type Finding = Pick<UnresolvedSettlement, 'result' | 'transaction'>

/** Of what the chain will show nothing, or has shown that it is unresolved no more. */
const nothingMore: Finding = {}

export interface ResolverOptions {
  /** Milliseconds between looks. */
  readonly watchIntervalMs: number
  /** No timers: `runIfDue` is called beside requests instead. */
  readonly isLazy: boolean
}

export class Resolver {
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Monotonic time (ms) of the next look. */
  #dueAt = never
  /** By key: of these there is no more to find. */
  readonly #found = new Map<string, Finding>()
  /** Some settlements were not resolved when it last looked. */
  #isNeeded = false
  #isStopped = false
  /** Others may leave settlements in the ledger too. */
  readonly #looksWhenIdle: boolean

  constructor(
    private readonly books: Books,
    private readonly chains: Chains,
    private readonly observer: Observer<SettlementEvents>,
    private readonly options: ResolverOptions,
  ) {
    this.#looksWhenIdle = books.isShared && !chains.isEmpty
  }

  /** Looks at another settlement from now on, or at one anew. */
  watch(key: string): void {
    this.#found.delete(key)
    this.resume()
  }

  /** There is something to look at again, though a look in between may have seen nothing. */
  resume(): void {
    this.#isNeeded = true
    this.#schedule(this.options.watchIntervalMs)
  }

  start(): void {
    this.#isStopped = false
    if (this.#isNeeded || this.#looksWhenIdle) this.#schedule(this.options.watchIntervalMs)
  }

  /** Ends the looks, and reports which settlements are left. */
  async stop(): Promise<void> {
    this.#isStopped = true
    this.#dueAt = never
    clearTimeout(this.#timer)
    this.#timer = undefined
    try {
      await this.books.flush()
      for (const left of (await this.books.unresolved()).map(summarize))
        this.observer.emit(
          'settlement:indeterminate',
          { ...left, attempts: [], isLeftAtStop: true },
          'error',
          event => `stopped with an unresolved settlement: ${event.key}`,
        )
    } catch (error) {
      this.books.failed(error)
    }
  }

  /** Looks, if it is time: called beside requests where no timer may run. */
  runIfDue(): Promise<void> | undefined {
    return now() < this.#dueAt ? undefined : this.#look()
  }

  /** @throws {LedgerError} when the ledger does not answer */
  async list(): Promise<UnresolvedSettlement[]> {
    try {
      const entries = await this.books.unresolved()
      return entries.map(entry => ({ ...summarize(entry), ...this.#found.get(entry.key) }))
    } catch (error) {
      throw ledgerError(error)
    }
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped || this.#dueAt !== never) return
    this.#dueAt = now() + delayMs
    if (!this.options.isLazy) this.#timer = setBackgroundTimeout(() => void this.#look(), delayMs)
  }

  async #look(): Promise<void> {
    const { watchIntervalMs, isLazy } = this.options
    // Due no more, but not yet to be scheduled anew: `runIfDue` must not look twice at a time. A look that ends with the
    // request beside which it began must not be the last, though.
    this.#dueAt = isLazy ? now() + longestLookMs : never
    this.#isNeeded = false
    if (!(await this.#lookAtAll())) this.#isNeeded = true
    if (isLazy && !this.#isStopped) this.#dueAt = never
    if (this.#isNeeded) this.#schedule(watchIntervalMs)
    else if (this.#looksWhenIdle) this.#schedule(watchIntervalMs * idleIntervals)
  }

  async #lookAtAll(): Promise<boolean> {
    try {
      const entries = await this.books.unresolved()
      const keys = new Set(entries.map(entry => entry.key))
      for (const key of this.#found.keys()) if (!keys.has(key)) this.#found.delete(key)
      const open = entries.filter(entry => !this.#found.has(entry.key))
      let isDone = true
      for (let at = 0; at < open.length; at += atOnce) {
        const looks = open.slice(at, at + atOnce).map(entry => this.#lookAtOne(entry))
        isDone = (await Promise.all(looks)).every(Boolean) && isDone
      }
      return isDone
    } catch (error) {
      this.books.failed(error)
      return false
    }
  }

  /** What was found is noted at once: a fault of the next look must not have it reported again. */
  async #lookAtOne(entry: LedgerEntry): Promise<boolean> {
    const finding = await this.#resolve(entry)
    if (finding) this.#found.set(entry.key, finding)
    return Boolean(finding)
  }

  /** Nothing while the chain does not say. */
  async #resolve(entry: LedgerEntry): Promise<Finding | undefined> {
    const view = this.chains.viewOf(entry, !this.books.isShared)
    if (!view) return nothingMore
    const answer = await view.ask()
    switch (answer.state) {
      case 'paid': {
        const before = entry.settlement
        const isOurs = mayHaveMade({ before, attempts: [], wasRefused: false }, answer.transaction)
        return this.#paid(entry, isOurs ? 'paid' : 'unattributed', answer.transaction)
      }
      case 'cannot-tell':
        return answer.undatable === undefined ? undefined : this.#paid(entry, 'undatable', answer.undatable)
      case 'spent-otherwise':
        return this.#uncharged(entry, 'spent-otherwise')
      case 'unspent':
        return answer.asOf >= view.expiresAt ? this.#uncharged(entry, 'expired') : undefined
    }
  }

  async #paid(entry: LedgerEntry, result: Finding['result'] & string, transaction: string): Promise<Finding> {
    // The buyer's retry may have delivered it meanwhile.
    if ((await this.books.findUnresolved(entry.key)) !== undefined) this.#report(entry, result, transaction)
    return { result, transaction }
  }

  async #uncharged(entry: LedgerEntry, result: 'spent-otherwise' | 'expired'): Promise<Finding | undefined> {
    if (!(await this.books.close(entry, result))) return undefined
    this.#report(entry, result)
    return nothingMore
  }

  #report(entry: LedgerEntry, result: Result, transaction?: string): void {
    this.observer.emit(
      'settlement:resolved',
      { ...summarize(entry), result, transaction },
      transaction ? 'warn' : 'info',
      event => `an unresolved settlement on ${event.network} ${describe(event)}`,
    )
  }
}

function describe({ result, transaction }: SettlementEvents['settlement:resolved']): string {
  if (result === 'paid') return `was paid by ${transaction}: deliver or refund`
  return transaction
    ? `may have been paid by ${transaction}: look whether that was delivered`
    : `was never charged (${result})`
}
