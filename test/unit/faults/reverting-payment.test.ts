import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  hash,
  newPayload,
  outcome,
  probeOf,
  refusal,
  requirements,
  unspent,
} from '../builders.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('a payment whose transactions revert, as its buyer has arranged, burns the gas of each facilitator twice at most', async () => {
  const a = new FakeFacilitator({ settleAnswer: refusal('invalid_exact_evm_transaction_failed', hash) })
  const b = new FakeFacilitator({
    settleAnswer: refusal('invalid_exact_evm_transaction_failed', settledHash),
  })
  const aggregator = aggregatorOf({ a, b }, { probes: [probeOf(() => unspent)] }, {})
  await done(outcome(aggregator.settle(newPayload(), requirements())))
  expect(Math.max(a.calls.settle, b.calls.settle)).toBeLessThanOrEqual(2)
})

const settledHash = `0x${'cd'.repeat(32)}`
