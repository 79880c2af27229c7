/** What the seller is told of a settlement: its answer, its error, and the events that come with them. */
import type { SettleResponse } from '@x402/core/types'
import { SettlementIndeterminateError } from '../errors.ts'
import type { Payment } from '../payment/payment.ts'
import { amountOf } from '../payment/payment-key.ts'
import { writeJson } from '../runtime/json.ts'
import { type Held, summaryOf } from '../settlement/books.ts'
import type { SettlementSummary } from '../settlement/events.ts'
import type { Conclusion } from '../settlement/machine.ts'
import { allFailed } from './failure.ts'
import type { Run } from './run.ts'

/** A payment on its way; `held` is absent where it has no key. */
export interface Settling {
  readonly payment: Payment
  readonly held: Held | undefined
}

export function answer(run: Run<'settle'>, settling: Settling, conclusion: Conclusion): SettleResponse {
  const { observer } = run.context
  const attempts = run.reports
  switch (conclusion.kind) {
    case 'settled':
      return writable(conclusion.response)
    case 'rejected':
      return conclusion.response
    case 'failed':
      return run.verdictOnAbilities ?? allFailed(run, conclusion.isProven)
    case 'recovered': {
      const { transaction, payer } = conclusion
      observer.emit(
        'settlement:recovered',
        { ...summarize(settling), transaction, attempts },
        'warn',
        event => `a settlement on ${event.network} was recovered from the chain: ${event.transaction}`,
      )
      return success(settling.payment, transaction, payer)
    }
    case 'indeterminate': {
      const { transaction } = conclusion
      observer.emit(
        'settlement:indeterminate',
        { ...summarize(settling), transaction, attempts },
        'error',
        event => `a settlement on ${event.network} is indeterminate: the buyer may have been charged`,
      )
      throw new SettlementIndeterminateError(attempts, transaction)
    }
  }
}

export function success(
  { requirements: { network } }: Payment,
  transaction: string,
  payer: string | undefined,
): SettleResponse {
  return { success: true, transaction, network, ...(payer && { payer }) }
}

/** A success that upstream's middleware cannot write as JSON would become a 402: what cannot be written is left out. */
function writable(response: SettleResponse): SettleResponse {
  const isPlain = Object.values(response).every(value => Object(value) !== value && typeof value !== 'bigint')
  return isPlain ? response : JSON.parse(writeJson(response))
}

function summarize({ payment: { requirements }, held }: Settling): SettlementSummary {
  if (held) return summaryOf(held)
  const { network, payTo, asset } = requirements
  return { network, payTo, asset, amount: amountOf(requirements) }
}
