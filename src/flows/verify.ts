import type { VerifyResponse } from '@x402/core/types'
import type { Payment } from '../payment.ts'
import { allFailed, onlyAbilitiesLacked } from './failure.ts'
import { type Context, Run } from './run.ts'

/**
 * Asks one facilitator after the other whether the payment is valid, until one gives a verdict. A verdict is
 * not shopped: `isValid: false` about the payment is final.
 *
 * @throws {AllFacilitatorsFailedError} when none gave one
 */
export async function verify(context: Context, payment: Payment): Promise<VerifyResponse> {
  const run = new Run(context, 'verify', { payment })
  const lacking: VerifyResponse[] = []
  for (let member = run.next(); member !== undefined; member = run.next()) {
    const outcome = await run.ask(member)
    switch (outcome.kind) {
      case 'answered':
        if (outcome.response.isValid) context.pool.rememberVerifier(payment, member)
        return outcome.response
      case 'spent':
        return outcome.response
      case 'declined':
        if (outcome.cause === 'ability' && outcome.response !== undefined) lacking.push(outcome.response)
        break
      case 'unreachable':
      case 'unknown':
      case 'pending':
        break
    }
  }
  return onlyAbilitiesLacked(run, lacking) ?? allFailed(context, run, 'verify', payment)
}
