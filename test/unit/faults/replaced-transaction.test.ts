import { expect, it } from 'vitest'
import {
  aggregatorOf,
  FakeFacilitator,
  hash,
  newPayload,
  paid,
  probeOf,
  refusal,
  settled,
  unspent,
} from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

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
  const first = await settleBy(aggregator, payment)
  const retry = first === 'success' ? first : await settleBy(aggregator, payment)
  expect(retry).toBe('success')
})
