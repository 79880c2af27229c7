/** A seller's till for payments that upstream's middleware does not make: verify, then settle. */
import { FacilitatorResponseError } from '@x402/core/server'
import type { AnyPaymentPayload, AnyPaymentRequirements, FacilitatorAggregator } from '../../src/index.ts'
import type { Purchase } from '../bed/buyer.ts'

/**
 * Answers as upstream's middleware does: 502 to a `FacilitatorResponseError`, 402 to any other failure.
 *
 * @param settled what is settled, where it differs from what was verified
 */
export async function checkout(
  aggregator: FacilitatorAggregator,
  payload: AnyPaymentPayload,
  requirements: AnyPaymentRequirements,
  settled = requirements,
): Promise<Purchase> {
  const startedAt = performance.now()
  const ending = (status: number, body: unknown): Purchase => ({
    status,
    body,
    settlement: undefined,
    durationMs: performance.now() - startedAt,
  })
  try {
    const verdict = await aggregator.verify(payload, requirements)
    if (!verdict.isValid) return ending(402, verdict)
    const settlement = await aggregator.settle(payload, settled)
    return ending(settlement.success ? 200 : 402, settlement)
  } catch (error) {
    return ending(error instanceof FacilitatorResponseError ? 502 : 402, { error: String(error) })
  }
}
