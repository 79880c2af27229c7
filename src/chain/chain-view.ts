/** What the chain says of one payment, asked as often as its settlement needs to know. */
import { messageOf } from '../observe/redact.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { never, now, within } from '../runtime/clock.ts'
import type { ChainEvent } from '../settlement/machine.ts'
import type { ChainReader, Chains, ChainView, ProbeHost } from '../settlement/probe.ts'
import type { ProbeAnswer } from '../settlement/probe-answer.ts'

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

/** Characters of a reason that are looked at. */
const longestReason = 500

/** Milliseconds that our clock is ahead of the one that never jumps. */
function clockOffset(): number {
  return Date.now() - now()
}

/** Makes the views of one aggregator's payments. */
export function chainViewer(
  readers: readonly ChainReader[],
  { noteSilence }: Pick<ProbeHost, 'noteSilence'>,
): Chains['viewOf'] {
  /** Taken with the first payment: some runtimes know no time before a request. */
  let firstOffset: number | undefined
  let wasClockSet = false
  /** Whether our clock has been set since this began: what it dated before says nothing then. */
  const isClockSet = () => {
    firstOffset ??= clockOffset()
    wasClockSet ||= Math.abs(clockOffset() - firstOffset) > toleranceMs
    return wasClockSet
  }
  return ({ query, since }, isOurClock) => {
    const { network, method } = query
    isClockSet()
    const reader = method === 'payload' ? undefined : readers.find(one => one.supports(network, method))
    if (reader)
      return new DatedView(reader, { query, since, isDatedByUs: () => isOurClock && !isClockSet() }, reason =>
        noteSilence(query, withoutPaths(reason)),
      )
    noteSilence(query)
    return undefined
  }
}

/** Of a node's URL its host is enough: what follows may be a key. */
function withoutPaths(reason: string): string {
  return reason.slice(0, longestReason).replace(/(\w+:\/\/[^\s/]+)\/\S*/g, '$1')
}

interface DatedSettlement {
  readonly query: SettlementQuery
  /** When it began: Unix ms, by this process's clock or by a replica's. */
  readonly since: number
  /** Whether it was this process's clock, and that has not been set since. */
  isDatedByUs(): boolean
}

class DatedView implements ChainView {
  /**
   * Whether its head has been far behind our clock. After a halt a chain may date its next blocks back, so that a new
   * payment looks old when the head has caught up.
   */
  #wasBehind = false

  /** @param onSilence called with the reason why the chain could not tell */
  constructor(
    private readonly reader: ChainReader,
    private readonly settlement: DatedSettlement,
    private readonly onSilence: (reason: string) => void,
  ) {}

  async ask(timeoutMs = questionTimeoutMs): Promise<ChainEvent> {
    const answer = await this.#ask(timeoutMs)
    const blockAt = 'asOf' in answer ? answer.asOf * 1000 - Date.now() + now() : 0
    return { kind: 'chain', answer, blockAt }
  }

  /** A reader that throws, against its contract, cannot tell. */
  async #ask(timeoutMs: number): Promise<ProbeAnswer> {
    const longestMs = Math.max(1, Math.ceil(Math.min(timeoutMs, questionTimeoutMs)))
    const since = this.#searchSince
    try {
      const answer = await within(longestMs, signal =>
        this.reader.ask(this.settlement.query, { signal, since }),
      )
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
   * Unix seconds before which nothing was made that this settlement can be about. Replicas' clocks may differ by
   * anything, and so may a process's from the chain's that it has never compared with.
   */
  get #searchSince(): number | undefined {
    const { since, isDatedByUs } = this.settlement
    return isDatedByUs() ? Math.floor((since - searchMarginMs) / 1000) : undefined
  }

  /**
   * By how much the payment is older than its settlement is told by two clocks: ours, which may be wrong, and the
   * chain's, which stands still when its node does. It is new when both say so, and a replay when both deny it. What a
   * replica's clock has dated may be either.
   */
  #date(answer: Extract<ProbeAnswer, { state: 'paid' }>): ProbeAnswer {
    const { since, isDatedByUs } = this.settlement
    const byOurClock = since - answer.minedAt * 1000
    const byTheChain = (answer.asOf - answer.minedAt) * 1000 - (Date.now() - since)
    if (Math.max(byOurClock, byTheChain) <= toleranceMs) return answer
    return isDatedByUs() && byOurClock > clockSkewMs && !this.#wasBehind
      ? { state: 'spent-otherwise', transaction: answer.transaction }
      : {
          state: 'cannot-tell',
          reason: 'paid at about the time of its claim',
          undatable: answer.transaction,
        }
  }

  get expiresAt(): number {
    return (this.settlement.query.validBefore ?? never) + expiryMarginSeconds
  }
}
