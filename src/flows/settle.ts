import type { SettleResponse } from '@x402/core/types'
import { SettlementIndeterminateError } from '../errors.ts'
import type { Payment } from '../payment.ts'
import { allFailed, onlyAbilitiesLacked } from './failure.ts'
import { type Context, Run } from './run.ts'

/**
 * Asks one facilitator after the other to settle the payment, as long as it is certain that none has. After an
 * attempt that may have moved the money nobody else is asked.
 *
 * @throws {SettlementIndeterminateError} when the money may have moved
 * @throws {AllFacilitatorsFailedError} when it did not, and nobody settled
 */
export async function settle(context: Context, payment: Payment): Promise<SettleResponse> {
  const run = new Run(context, 'settle', { payment })
  const lacking: SettleResponse[] = []
  /** A facilitator that had trouble says that it broadcast nothing; that is only its word. */
  let isWordOnly = false
  for (let member = run.next(); member !== undefined; member = run.next()) {
    const outcome = await run.ask(member)
    switch (outcome.kind) {
      case 'answered':
        return outcome.response
      case 'spent':
        if (isWordOnly) return indeterminate(context, run, payment)
        return outcome.response
      case 'declined':
        if (outcome.cause === 'trouble') isWordOnly = true
        if (outcome.cause === 'ability' && outcome.response !== undefined) lacking.push(outcome.response)
        break
      case 'unreachable':
        break
      case 'unknown':
      case 'pending':
        return indeterminate(context, run, payment, outcome.transaction)
    }
  }
  return onlyAbilitiesLacked(run, lacking) ?? allFailed(context, run, 'settle', payment)
}

function indeterminate(
  { observer }: Context,
  { reports }: Run<'settle'>,
  { network }: Payment,
  transaction?: string,
): never {
  observer.tell(
    'settlement:indeterminate',
    { network, attempts: reports, transaction },
    'error',
    event => `a settlement on ${event.network} is indeterminate: the buyer may have been charged`,
  )
  throw new SettlementIndeterminateError(reports, transaction)
}
