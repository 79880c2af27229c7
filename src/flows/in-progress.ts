/** A payment that is presented while another request settles it: neither invalid nor a duplicate. */
import type { SettleResponse } from '@x402/core/types'
import { AggregatorError, SettlementInProgressError } from '../errors.ts'
import { within } from '../runtime/clock.ts'
import type { Context } from './context.ts'

/**
 * How the settlement ended that another request has begun. Its success is for that request alone.
 *
 * @throws {SettlementInProgressError} when it succeeded, runs elsewhere, or takes longer than this operation may
 * @throws {AggregatorError} what that settlement threw
 */
export async function endOf(
  key: string,
  { settling, deadlineMs }: Context,
  operation: 'verify' | 'settle',
): Promise<SettleResponse> {
  try {
    const end = await within(deadlineMs[operation], () => settling.get(key))
    if (end?.success === false) return end
  } catch (error) {
    if (error instanceof AggregatorError) throw error
  }
  throw new SettlementInProgressError()
}
