import { expect, it } from 'vitest'
import { aggregatorOf, FakeFacilitator, hash, refusal } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it.each(['insufficient_funds', 'payment_expired', 'permit2_allowance_required'])(
  'a refusal (%s) that names the transaction which its facilitator has broadcast is no verdict: without a chain nobody knows whether it landed',
  async reason => {
    const a = new FakeFacilitator({ settleAnswer: refusal(reason, hash) })
    const aggregator = aggregatorOf({ a }, {}, { retries: 0 })
    expect(await settleBy(aggregator)).toBe('SETTLEMENT_INDETERMINATE')
  },
)
