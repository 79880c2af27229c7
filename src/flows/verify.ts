import type { VerifyResponse } from '@x402/core/types'
import { isExplainedByPayment } from '../facilitator/reasons.ts'
import type { Payment } from '../payment/payment.ts'
import { identify, type KeyedPayment } from '../payment/payment-key.ts'
import { duplicate } from '../settlement/ledger.ts'
import type { Context } from './context.ts'
import { allFailed } from './failure.ts'
import { hedged } from './hedge.ts'
import { endOf } from './in-progress.ts'
import { Run } from './run.ts'

/**
 * Asks one facilitator after the other whether the payment is valid, until one gives a verdict. A verdict is
 * not shopped: `isValid: false` about the payment is final.
 *
 * A payment that this seller is settling, or has settled, is refused at once. One whose settlement was left
 * unresolved and undelivered is valid, though its authorization may be used: its settle resumes that settlement, and
 * finds out.
 *
 * @throws {AllFacilitatorsFailedError} when none gave a verdict
 * @throws {SettlementInProgressError} when another request settles the payment
 */
export async function verify(context: Context, payment: Payment): Promise<VerifyResponse> {
  const keyed = await identify(payment)
  if (!keyed) return judge(context, { payment, keyed, standing: 'new' })
  const standing = await context.books.standing(keyed)
  if (standing === 'resumable') return resumable(keyed)
  if (standing === 'settling') {
    const { errorReason, errorMessage } = await endOf(keyed.key, context, 'verify')
    return refusal(errorReason, errorMessage)
  }
  if (standing === 'duplicate') return refusal(duplicate.reason, duplicate.message)

  return judge(context, { payment, keyed, standing })
}

/** A payment that the facilitators have to judge. */
interface Judged {
  readonly payment: Payment
  readonly keyed: KeyedPayment | undefined
  readonly standing: 'new' | 'suspect'
}

/** What the facilitators say of it. */
export async function judge(context: Context, { payment, keyed, standing }: Judged): Promise<VerifyResponse> {
  const run = new Run(context, 'verify', { payment, examinable: keyed?.query })
  for await (const { member, outcome } of hedged(run, context.hedgeAfterMs)) {
    switch (outcome.kind) {
      case 'answered':
        if (outcome.response.isValid) context.pool.rememberVerifier(payment, member, run.unanswered)
        else if (standing === 'suspect' && isExplainedByPayment(outcome.reason)) return resumable(keyed)
        return outcome.response
      case 'spent':
        return standing === 'suspect' ? resumable(keyed) : outcome.response
      case 'declined':
        if (standing === 'suspect' && isExplainedByPayment(outcome.reason)) return resumable(keyed)
        break
      case 'unreachable':
      case 'unknown':
      case 'pending':
        break
    }
  }
  const verdict = standing === 'suspect' ? undefined : run.verdictOnAbilities
  return verdict ?? allFailed(run, standing === 'new')
}

function resumable(keyed: KeyedPayment | undefined): VerifyResponse {
  const payer = keyed?.query.payer
  return payer === undefined ? { isValid: true } : { isValid: true, payer }
}

function refusal(invalidReason = 'rejected', invalidMessage = ''): VerifyResponse {
  return { isValid: false, invalidReason, invalidMessage }
}
