/** What the chain says of one payment, asked as often as its settlement needs to know. */

import type { Observer } from '../observe/observer.ts'
import { messageOf, redact } from '../observe/redact.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { never, now, within } from '../runtime/clock.ts'
import type { LedgerEntry } from './ledger.ts'
import type { ProbeAnswer, SettlementProbe } from './probe.ts'

/** Milliseconds that one question may take. */
const questionTimeoutMs = 10_000
/**
 * Milliseconds by which a block's timestamp may lie before the payment in it was sent: it is the start of the slot,
 * in whole seconds, and a block may be built some seconds into its slot.
 */
const toleranceMs = 3_000
/**
 * Milliseconds by which the clocks of this process and of the chain may differ: a payment that is older than its
 * settlement by less may be its own, or a replay of another one, and nobody can tell.
 */
const clockSkewMs = 60_000
/** Milliseconds before the beginning of a settlement from which its payment is searched for, as clocks differ. */
const searchMarginMs = 10 * 60_000
/** Seconds that must pass after its end before an unused authorization counts as run out. */
const expiryMarginSeconds = 60

/** How many kinds of silence are reported, and characters of each that are looked at. */
const maxSilences = 100
const longestReason = 500

/** Milliseconds that our clock is ahead of the one that never jumps. */
function clockOffset(): number {
  return Date.now() - now()
}

/** The chains that probes can look at. */
export class Chains {
  /** What was reported of chains that cannot tell. */
  readonly #silences = new Set<string>()
  /** Taken with the first payment: some runtimes know no time before a request. */
  #clockOffset: number | undefined
  #wasClockSet = false

  constructor(
    private readonly probes: readonly SettlementProbe[],
    private readonly observer: Observer,
  ) {}

  /** Whether our clock has been set since this began: what it dated before says nothing then. */
  #isClockSet(): boolean {
    this.#clockOffset ??= clockOffset()
    this.#wasClockSet ||= Math.abs(clockOffset() - this.#clockOffset) > toleranceMs
    return this.#wasClockSet
  }

  get isEmpty(): boolean {
    return this.probes.length === 0
  }

  /**
   * The chain's view of a payment, where a probe can look at it.
   *
   * @param isOurClock the clock of this process has dated the entry
   */
  viewOf({ query, since }: Pick<LedgerEntry, 'query' | 'since'>, isOurClock: boolean): ChainView | undefined {
    const { network, method } = query
    this.#isClockSet()
    const probe = method === 'payload' ? undefined : this.probes.find(one => one.supports(network, method))
    if (probe)
      return new ChainView(
        probe,
        query,
        { at: since, isTrusted: () => isOurClock && !this.#isClockSet() },
        reason => this.#noteSilence(network, reason),
      )
    this.#noteSilence(network, `no probe covers ${method}: doubt ends in a 502`)
    return undefined
  }

  /** A node that does not answer is a fault of the configuration, or a long one: reported once, not per question. */
  #noteSilence(network: string, reason: string): void {
    const key = `${network} ${reason}`
    if (this.#silences.has(key) || this.#silences.size >= maxSilences) return
    this.#silences.add(key)
    this.observer.log(
      'warn',
      'probe',
      { network, reason: redact(reason.slice(0, longestReason).replace(/(\w+:\/\/[^\s/]+)\/\S*/g, '$1')) },
      fields => `the chain ${fields.network} gives no answer: ${fields.reason}`,
    )
  }
}

export class ChainView {
  constructor(
    private readonly probe: SettlementProbe,
    private readonly query: SettlementQuery,
    /** When the settlement began: Unix ms, by this process's clock or by a replica's. */
    private readonly since: { readonly at: number; isTrusted(): boolean },
    /** Called with the reason why the chain could not tell. */
    private readonly onSilence: (reason: string) => void,
  ) {}

  /**
   * One question. A payment that was made before its settlement began is a replay of another one: spent otherwise.
   * A probe that throws, against its contract, cannot tell.
   */
  async ask(timeoutMs = questionTimeoutMs): Promise<ProbeAnswer> {
    const longestMs = Math.max(1, Math.ceil(Math.min(timeoutMs, questionTimeoutMs)))
    const since = this.#searchSince
    try {
      const answer = await within(longestMs, signal => this.probe.ask(this.query, { signal, since }))
      if (answer.state === 'cannot-tell' && answer.isMined === undefined) this.onSilence(answer.reason)
      if ('asOf' in answer) this.#wasBehind ||= Date.now() - answer.asOf * 1000 > clockSkewMs
      return answer.state === 'paid' ? this.#date(answer) : answer
    } catch (error) {
      const reason = messageOf(error)
      this.onSilence(reason)
      return { state: 'cannot-tell', reason }
    }
  }

  /**
   * Whether its head has been far behind our clock. After a halt a chain may date its next blocks back, so that a new
   * payment looks old when the head has caught up.
   */
  #wasBehind = false

  /**
   * Unix seconds before which nothing was made that this settlement can be about. Replicas' clocks may differ by
   * anything, and so may a process's from the chain's that it has never compared with.
   */
  get #searchSince(): number | undefined {
    const { at } = this.since
    return this.since.isTrusted() ? Math.floor((at - searchMarginMs) / 1000) : undefined
  }

  /**
   * By how much the payment is older than its settlement is told by two clocks: ours, which may be wrong, and the
   * chain's, which stands still when its node does. It is new when both say so, and a replay when both deny it. What a
   * replica's clock has dated may be either.
   */
  #date(answer: Extract<ProbeAnswer, { state: 'paid' }>): ProbeAnswer {
    const { at } = this.since
    const byOurClock = at - answer.minedAt * 1000
    const byTheChain = (answer.asOf - answer.minedAt) * 1000 - (Date.now() - at)
    if (Math.max(byOurClock, byTheChain) <= toleranceMs) return answer
    return this.since.isTrusted() && byOurClock > clockSkewMs && !this.#wasBehind
      ? { state: 'spent-otherwise', transaction: answer.transaction }
      : {
          state: 'cannot-tell',
          reason: 'paid at about the time of its claim',
          undatable: answer.transaction,
        }
  }

  /** Unix seconds from which an unused authorization counts as run out: then it can never be charged. */
  get expiresAt(): number {
    return (this.query.validBefore ?? never) + expiryMarginSeconds
  }
}
