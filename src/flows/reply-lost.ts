/** Replies that did not reach their buyers. */
import type { Payment } from '../payment/payment.ts'
import { identify } from '../payment/payment-key.ts'
import type { Context } from './context.ts'

/**
 * Records that the reply to a payment was lost. `abandoned`: all who presented it have left before their replies, and
 * if it is being settled here, that success will be lost; `lost`: a success that was reported is.
 */
export async function replyLost(
  { books, settling }: Context,
  payment: Payment,
  how: 'lost' | 'abandoned',
): Promise<void> {
  const keyed = await identify(payment)
  const running = keyed && how === 'abandoned' ? settling.get(keyed.key) : undefined
  if (keyed && (running || how === 'lost')) await books.replyLost(keyed, running)
}
