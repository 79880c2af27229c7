/** Asks the chain whether a facilitator that rejects a payment is right. */
import { LazyAbort, withTimeout } from '../facilitator/attempt.ts'
import { screenedOut } from '../facilitator/reasons.ts'
import { now } from '../runtime/clock.ts'
import type { ChainReader, Chains, ProbeHost } from '../settlement/probe.ts'

/** Questions per network and second: a buyer's junk buys no more. */
const questionsPerSecond = 20

/** What a chain does not see; and what may be screening as well, which is left alone. */
const hiddenFromChain =
  /payment_requirements|eip2612|erc20|extension_|blocked|restrict|prohibit|forbid|embargo|risk/

/** @param alarms end the questions when they ring */
export function crossExaminer(
  readers: readonly ChainReader[],
  { alarms }: Pick<ProbeHost, 'alarms'>,
): Chains['crossExamine'] {
  /** The questions of the last second. */
  let asked: { network: string; at: number }[] = []
  return async (payment, answer, timeoutMs) => {
    const { network, method } = payment.query
    const reader = readers.find(one => one.wouldAccept && one.supports(network, method))
    const at = now()
    asked = asked.filter(one => one.at > at - 1_000)
    const count = asked.filter(one => one.network === network).length
    if (
      !reader?.wouldAccept ||
      method === 'payload' ||
      count >= questionsPerSecond ||
      !isVisibleToChain(answer)
    )
      return undefined
    asked.push({ network, at })
    const abort = new LazyAbort()
    const dryRun = await withTimeout(reader.wouldAccept(payment, abort), timeoutMs, alarms)
    abort.now('over')
    if (dryRun === 'accepts') return 'contradicted'
    // The facilitator may be right by the block that its own node knows.
    return dryRun === 'accepts-now' ? 'simulation' : undefined
  }
}

/** Whether the chain can say that a rejection is wrong. Never so of compliance: whoever is screened out stays out. */
function isVisibleToChain(answer: unknown): boolean {
  const text = JSON.stringify(answer).toLowerCase()
  return !screenedOut.test(text) && !hiddenFromChain.test(text)
}
