import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  hash,
  newPayload,
  outcome,
  paid,
  probeOf,
  refusal,
  requirements,
  settled,
  unspent,
} from '../builders.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

it('a payment whose facilitator answers "pending", replaces its transaction by one with more gas and says so when asked, is delivered', async () => {
  const start = Date.now()
  const replaced = `0x${'aa'.repeat(32)}`
  const isMined = () => Date.now() - start > 4_000
  const a = new FakeFacilitator({
    settleAnswer: () =>
      isMined() ? { ...settled, transaction: hash } : refusal('settlement_pending', replaced),
  })
  const chain = probeOf(() => (isMined() ? { ...paid, transaction: hash } : unspent))
  const aggregator = aggregatorOf({ a }, { probes: [chain] }, { retries: 0 })
  const payment = newPayload()
  const first = await done(outcome(aggregator.settle(payment, requirements())))
  const retry = first === 'success' ? first : await done(outcome(aggregator.settle(payment, requirements())))
  expect(retry).toBe('success')
})
