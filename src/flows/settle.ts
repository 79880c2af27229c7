import type { SettleResponse } from '@x402/core/types'
import type { Payment } from '../payment/payment.ts'
import { identify } from '../payment/payment-key.ts'
import { now } from '../runtime/clock.ts'
import { duplicate, isSettling, isUnresolved, type LedgerEntry } from '../settlement/ledger.ts'
import { conclude, inDoubt, record, stateAfter } from './conclude.ts'
import type { Context } from './context.ts'
import { useCredit } from './credit.ts'
import { endOf } from './in-progress.ts'
import { Run } from './run.ts'
import { answer, type Settling } from './settle-answer.ts'

/**
 * Settles a payment once: claims it in the ledger, asks one facilitator after the other, and the chain where a
 * facilitator leaves doubt. A payment whose replay protection is not known is not tried elsewhere after an attempt that
 * may have moved the money, or a denial in the protocol's words.
 *
 * @throws {SettlementIndeterminateError} when the money may have moved
 * @throws {AllFacilitatorsFailedError} when nobody settled, and nobody seems to have charged
 * @throws {SettlementInProgressError} when another request settles it
 * @throws {LedgerError} when the settlement could not be recorded; nothing was sent
 */
export async function settle(context: Context, payment: Payment): Promise<SettleResponse> {
  const keyed = await identify(payment)
  if (!keyed) return perform(context, { payment, held: undefined })
  const held = await context.books.claim(keyed, context.deadlineMs.settle)
  if (held.kind === 'refused')
    return isSettling(held.entry, keyed.fingerprint)
      ? endOf(keyed.key, context, 'settle')
      : refused(context, payment, held.entry)

  const { settling } = context
  const running = perform(context, { payment, held })
  settling.set(held.key, running)
  try {
    return await running
  } finally {
    settling.delete(held.key)
  }
}

async function perform(context: Context, settling: Settling): Promise<SettleResponse> {
  const { payment, held } = settling
  const deadline = now() + context.deadlineMs.settle
  const credited = held && (await useCredit(context, payment, held))
  if (credited) return credited
  // While an earlier settlement of it is in doubt, the chain is asked about that alone.
  const examinable = held?.before?.state === 'unresolved' ? undefined : held?.query
  const run = new Run(context, 'settle', { payment, examinable, deadline })
  const conclusion = await conclude(run, settling)
  run.end()
  const isHeld = !held || (await record(context, held, stateAfter(conclusion, held.redeliveries)))
  // A claim that lapsed may be another one's by now, who delivers: one success, not two.
  return answer(run, settling, isHeld ? conclusion : inDoubt(conclusion))
}

function refused(
  { chains }: Context,
  { requirements: { network } }: Payment,
  entry: LedgerEntry,
): SettleResponse {
  // A look at what is unresolved may have missed it while it was claimed.
  if (isUnresolved(entry)) chains?.watcher.resume()
  const { reason: errorReason, message: errorMessage } = duplicate
  return { success: false, errorReason, errorMessage, transaction: '', network }
}
