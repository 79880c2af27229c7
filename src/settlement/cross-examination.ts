/** Asks the chain whether a facilitator that rejects a payment is right. */
import { LazyAbort, withTimeout } from '../facilitator/attempt.ts'
import { type Alarms, now } from '../runtime/clock.ts'
import type { SettlementProbe, SignedPayment } from './probe.ts'

/** Questions per network and second: a buyer's junk buys no more. */
const questionsPerSecond = 20

/**
 * @param timeoutMs milliseconds that the question may take
 * @returns a `DryRun`, or something else where the chain is not asked, or does not answer in time
 */
export type CrossExamine = (payment: SignedPayment, timeoutMs: number) => Promise<unknown>

/** @param alarms end the questions when they ring */
export function crossExaminer(probes: readonly SettlementProbe[], alarms: Alarms): CrossExamine {
  /** The questions of the last second. */
  let asked: { network: string; at: number }[] = []
  return async (payment, timeoutMs) => {
    const { network, method } = payment.query
    const probe = probes.find(one => one.wouldAccept && one.supports(network, method))
    const at = now()
    asked = asked.filter(one => one.at > at - 1_000)
    const count = asked.filter(one => one.network === network).length
    if (!probe?.wouldAccept || method === 'payload' || count >= questionsPerSecond) return undefined
    asked.push({ network, at })
    const abort = new LazyAbort()
    const answer = await withTimeout(probe.wouldAccept(payment, abort), timeoutMs, alarms)
    abort.now('over')
    return answer
  }
}
