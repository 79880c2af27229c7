/** Looks at unresolved settlements in the background until the chain has shown how each of them ended. */

import { never, now, setBackgroundTimeout } from '../runtime/clock.ts'
import { summarize } from '../settlement/books.ts'
import type { SettlementEvents } from '../settlement/events.ts'
import { isAmong } from '../settlement/evidence.ts'
import type { LedgerEntry } from '../settlement/ledger.ts'
import type { Chains, Finding, ProbeHost, Watcher } from '../settlement/probe.ts'

/** A shared ledger, in which others may leave settlements too, is looked at now and then even when nothing is known to be unresolved, in intervals. */
const idleIntervals = 6
/** How many settlements it looks at together. */
const atOnce = 8
/** Milliseconds after which a lazy look is given up. */
const longestLookMs = 60_000

/** Of what the chain will show nothing, or has shown that it is unresolved no more. */
const nothingMore: Finding = {}

type Resolution = SettlementEvents['settlement:resolved']

/** Of the settlements of one aggregator, on every chain. */
export class BackgroundWatcher implements Watcher {
  #timer: ReturnType<typeof setTimeout> | undefined
  /** Monotonic time (ms) of the next look. */
  #dueAt = never
  /** Of these there is no more to find. */
  readonly findings = new Map<string, Finding>()
  /** Some settlements were not resolved when it last looked. */
  #isNeeded = false
  #isStopped = false

  constructor(
    private readonly viewOf: Chains['viewOf'],
    private readonly host: ProbeHost,
  ) {}

  watch(key: string): void {
    this.findings.delete(key)
    this.resume()
  }

  resume(): void {
    this.#isNeeded = true
    this.#schedule(this.host.settlement.watchIntervalMs)
  }

  start(): void {
    const { books, settlement } = this.host
    this.#isStopped = false
    if (this.#isNeeded || books.isShared) this.#schedule(settlement.watchIntervalMs)
  }

  stop(): void {
    this.#isStopped = true
    this.#dueAt = never
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  runIfDue(): Promise<void> | undefined {
    return now() < this.#dueAt ? undefined : this.#look()
  }

  #schedule(delayMs: number): void {
    if (this.#isStopped || this.#dueAt !== never) return
    this.#dueAt = now() + delayMs
    if (!this.host.settlement.isLazy) this.#timer = setBackgroundTimeout(() => void this.#look(), delayMs)
  }

  async #look(): Promise<void> {
    const { books, settlement } = this.host
    const { watchIntervalMs, isLazy } = settlement
    // Due no more, but not yet to be scheduled anew: `runIfDue` must not look twice at a time. A look that ends with the
    // request beside which it began must not be the last, though.
    this.#dueAt = isLazy ? now() + longestLookMs : never
    this.#isNeeded = false
    if (!(await this.#lookAtAll())) this.#isNeeded = true
    if (isLazy && !this.#isStopped) this.#dueAt = never
    if (this.#isNeeded) this.#schedule(watchIntervalMs)
    else if (books.isShared) this.#schedule(watchIntervalMs * idleIntervals)
  }

  async #lookAtAll(): Promise<boolean> {
    const { books } = this.host
    try {
      const entries = await books.unresolved()
      const keys = new Set(entries.map(entry => entry.key))
      for (const key of this.findings.keys()) if (!keys.has(key)) this.findings.delete(key)
      const open = entries.filter(entry => !this.findings.has(entry.key))
      let isDone = true
      for (let at = 0; at < open.length; at += atOnce) {
        const looks = open.slice(at, at + atOnce).map(entry => this.#lookAtOne(entry))
        isDone = (await Promise.all(looks)).every(Boolean) && isDone
      }
      return isDone
    } catch (error) {
      books.failed(error)
      return false
    }
  }

  /** What was found is noted at once: a fault of the next look must not have it reported again. */
  async #lookAtOne(entry: LedgerEntry): Promise<boolean> {
    const finding = await this.#resolve(entry)
    if (finding) this.findings.set(entry.key, finding)
    return Boolean(finding)
  }

  /** Nothing while the chain does not say. */
  async #resolve(entry: LedgerEntry): Promise<Finding | undefined> {
    const view = this.viewOf(entry, !this.host.books.isShared)
    if (!view) return nothingMore
    const { answer } = await view.ask()
    switch (answer.state) {
      case 'paid': {
        const before = entry.settlement
        const own = before.state === 'unresolved' ? before.ownTransactions : []
        const isOurs = isAmong(own, answer.transaction)
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

  async #paid(
    entry: LedgerEntry,
    result: NonNullable<Finding['result']>,
    transaction: string,
  ): Promise<Finding> {
    // The buyer's retry may have delivered it meanwhile.
    if ((await this.host.books.findUnresolved(entry.key)) !== undefined)
      this.#report(entry, result, transaction)
    return { result, transaction }
  }

  async #uncharged(entry: LedgerEntry, result: 'spent-otherwise' | 'expired'): Promise<Finding | undefined> {
    if (!(await this.host.books.close(entry, result))) return undefined
    this.#report(entry, result)
    return nothingMore
  }

  #report(entry: LedgerEntry, result: Resolution['result'], transaction?: string): void {
    this.host.observer.emit(
      'settlement:resolved',
      { ...summarize(entry), result, transaction },
      transaction ? 'warn' : 'info',
      event => `an unresolved settlement on ${event.network} ${describe(event)}`,
    )
  }
}

function describe({ result, transaction }: Resolution): string {
  if (result === 'paid') return `was paid by ${transaction}: deliver or refund`
  return transaction
    ? `may have been paid by ${transaction}: look whether that was delivered`
    : `was never charged (${result})`
}
