/** What the chain says of one payment, asked as often as its settlement needs to know. */
import type { SettlementQuery } from './payment-key.ts'
import type { ProbeAnswer, SettlementProbe } from './probe.ts'

/** Milliseconds that one question may take. */
const questionTimeoutMs = 10_000
/**
 * Milliseconds by which a block's timestamp may lie before the payment in it was sent: it is the start of the slot,
 * in whole seconds, and a block may be built some seconds into its slot.
 */
const toleranceMs = 3_000

export class ChainView {
  constructor(
    private readonly probe: SettlementProbe,
    private readonly query: SettlementQuery,
    private readonly since: number,
  ) {}

  /**
   * One question. A payment that was made before its settlement began is a replay of another one: spent otherwise.
   * A probe that throws, against its contract, cannot tell.
   */
  async ask(timeoutMs = questionTimeoutMs): Promise<ProbeAnswer> {
    try {
      const signal = AbortSignal.timeout(Math.max(1, Math.ceil(Math.min(timeoutMs, questionTimeoutMs))))
      const answer = await this.probe.ask(this.query, { signal })
      if (answer.state !== 'paid' || answer.minedAt * 1000 >= this.since - toleranceMs) return answer
      return { state: 'spent-otherwise', transaction: answer.transaction }
    } catch (error) {
      return { state: 'cannot-tell', reason: error instanceof Error ? error.message : String(error) }
    }
  }

  /** Whether the authorization has run out unused: then it can never be charged. */
  hasExpired(answer: ProbeAnswer): boolean {
    const { validBefore } = this.query
    return (
      answer.state === 'unspent' &&
      answer.asOf !== undefined &&
      validBefore !== undefined &&
      answer.asOf >= validBefore
    )
  }
}
