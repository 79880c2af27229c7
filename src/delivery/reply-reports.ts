/** Replies that did not reach their buyers, reported to the aggregator that settled their payments. */
import type { PaymentPayload, SettleResponse } from '@x402/core/types'
import type { FacilitatorAggregator } from '../aggregator.ts'
import type { Context } from '../flows/context.ts'
import {
  type AnyPaymentPayload,
  type AnyPaymentRequirements,
  type Payment,
  readPayment,
} from '../payment/payment.ts'
import { identify, type KeyedPayment, purchaseOf } from '../payment/payment-key.ts'
import { redeliveryMs } from '../settlement/books.ts'

/** Reports replies that did not reach their buyers. What cannot be recorded is logged. */
export interface ReplyReports {
  /**
   * A request was told of its payment's success, and its own reply was lost: the buyer's retry with the same payment is
   * delivered without another charge. Only the request whose settle succeeded may report it, or anybody who replays
   * what is public on chain could have it delivered again.
   *
   * @param requirements by default those that the payload names; version 1 names none
   */
  lost(payload: AnyPaymentPayload, requirements?: AnyPaymentRequirements): Promise<void>
  /** Every request that presented this payment has ended without a reply. If it is being settled, its reply is lost. */
  abandoned(payload: AnyPaymentPayload, requirements?: AnyPaymentRequirements): Promise<void>
}

/** An aggregator, of this copy of the library or of another one. */
export type Attended = Pick<FacilitatorAggregator, 'attend'>

/** For a server of your own; `trackDelivery` reports by itself. */
export function replyReports(aggregator: Attended): ReplyReports {
  const report =
    (how: keyof ReplyReports): ReplyReports['lost'] =>
    (payload, requirements = (payload as PaymentPayload).accepted) =>
      aggregator.attend(context => replyLost(context, readPayment(payload, requirements), how))
  return { lost: report('lost'), abandoned: report('abandoned') }
}

/** `abandoned`: if the payment is being settled here, that success will be lost; `lost`: a success that was reported is. */
async function replyLost(context: Context, payment: Payment, how: keyof ReplyReports): Promise<void> {
  const keyed = await identify(payment)
  const running = keyed && how === 'abandoned' ? context.settling.get(keyed.key) : undefined
  if (!keyed || !(running || how === 'lost')) return
  const { losses } = context.books
  const purchase = purchaseOf(keyed.query)
  const all = Promise.all([losses.get(purchase), recordLost(context, keyed, running)])
  for (const id of [keyed.key, purchase]) losses.set(id, all)
  await all
  for (const id of [keyed.key, purchase]) if (losses.get(id) === all) losses.delete(id)
}

/**
 * The buyer's retry may be delivered.
 *
 * @param settling ends before there is anything to be delivered again: nothing, if it is no success
 */
async function recordLost(
  { books }: Context,
  { key, fingerprint }: KeyedPayment,
  settling: Promise<SettleResponse> | undefined,
): Promise<void> {
  try {
    const isDelivered = ({ success }: SettleResponse) => success
    if ((await settling?.then(isDelivered, () => false)) === false) return
    const entry = await books.ledger.get(key)
    if (entry?.settlement.state !== 'settled' || entry.fingerprint !== fingerprint) return
    const { transaction, redeliveries = 0 } = entry.settlement
    const settlement = {
      state: 'undelivered',
      transaction,
      redeliveries: redeliveries - 1,
      windowMs: redeliveryMs,
    } as const
    if (redeliveries > 0) await books.ledger.update({ key, claim: entry.claim, settlement })
  } catch (error) {
    books.failed(error)
  }
}
