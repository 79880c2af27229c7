import { expect, it } from 'vitest'
import { aggregatorOf, FakeFacilitator, hash, probeOf, refusal, unspent } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('a payment whose transactions revert, as its buyer has arranged, burns the gas of each facilitator twice at most', async () => {
  const a = new FakeFacilitator({ settleAnswer: refusal('invalid_exact_evm_transaction_failed', hash) })
  const b = new FakeFacilitator({
    settleAnswer: refusal('invalid_exact_evm_transaction_failed', settledHash),
  })
  const aggregator = aggregatorOf({ a, b }, { probes: [probeOf(() => unspent)] })
  await settleBy(aggregator)
  expect(Math.max(a.calls.settle, b.calls.settle)).toBeLessThanOrEqual(2)
})

const settledHash = `0x${'cd'.repeat(32)}`
