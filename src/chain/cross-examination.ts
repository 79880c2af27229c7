/** Whether a facilitator that rejects a payment is right: where the chain can tell, it is the judge. */
import { LazyAbort, withTimeout } from '../facilitator/attempt.ts'
import type { DeclineCause } from '../facilitator/outcome.ts'
import { screenedOut } from '../facilitator/reasons.ts'
import { now } from '../runtime/clock.ts'
import type { ChainReader, Chains, ProbeHost, SignedPayment } from '../settlement/probe.ts'

/** Questions per network and second: a buyer's junk buys no more. */
const questionsPerSecond = 20

/** What a chain does not see; and what may be screening as well, which is left alone. */
const hiddenFromChain =
  /payment_requirements|eip2612|erc20|extension_|blocked|restrict|prohibit|forbid|embargo|risk/

/** What a rejection becomes where the chain takes the payment; otherwise it stands. */
const causes: Readonly<Partial<Record<string, DeclineCause>>> = {
  accepts: 'contradicted',
  // It may be right by the block that its own node knows.
  'accepts-now': 'simulation',
}

export function crossExaminer(
  readers: readonly ChainReader[],
  { alarms, observer, settlement }: ProbeHost,
): Chains['crossExamine'] {
  /** The questions of the last second. */
  let asked: { network: string; at: number }[] = []
  const dryRun = async (payment: SignedPayment, timeoutMs: number): Promise<unknown> => {
    const { network, method } = payment.query
    const reader = readers.find(one => one.wouldAccept && one.supports(network, method))
    const at = now()
    asked = asked.filter(one => one.at > at - 1_000)
    const count = asked.filter(one => one.network === network).length
    if (!reader?.wouldAccept || method === 'payload' || count >= questionsPerSecond) return undefined
    asked.push({ network, at })
    const abort = new LazyAbort()
    const answer = await withTimeout(reader.wouldAccept(payment, abort), timeoutMs, alarms)
    abort.now('over')
    return answer
  }
  return async ({ reason = '', response }, { facilitator, operation, payment, timeoutMs }) => {
    try {
      if (!settlement.crossExamine || !isVisibleToChain(response)) return undefined
      const cause = causes[String(await dryRun(payment, timeoutMs))]
      if (cause === 'contradicted')
        observer.emit(
          'facilitator:contradicted',
          { facilitator, operation, network: payment.network, reason },
          'warn',
          event => `${event.facilitator} rejected a payment that the chain accepts`,
        )
      return cause && { kind: 'declined', cause, reason, response }
    } catch {
      return undefined
    }
  }
}

/** Whether the chain can say that a rejection is wrong. Never so of compliance: whoever is screened out stays out. */
function isVisibleToChain(answer: unknown): boolean {
  const text = JSON.stringify(answer).toLowerCase()
  return !screenedOut.test(text) && !hiddenFromChain.test(text)
}
