import { expect, it } from 'vitest'
import {
  aggregatorOf,
  FakeFacilitator,
  hash,
  newPayload,
  outcome,
  refusal,
  requirements,
} from '../builders.ts'

it.each(['insufficient_funds', 'payment_expired', 'permit2_allowance_required'])(
  'a refusal (%s) that names the transaction which its facilitator has broadcast is no verdict: without a chain nobody knows whether it landed',
  async reason => {
    const a = new FakeFacilitator({ settleAnswer: refusal(reason, hash) })
    const aggregator = aggregatorOf({ a }, {}, { retries: 0 })
    expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('SETTLEMENT_INDETERMINATE')
  },
)
