import { expect, it } from 'vitest'
import {
  aggregatorOf,
  FakeFacilitator,
  httpError,
  newPayload,
  outcome,
  probeOf,
  requirements,
} from '../builders.ts'

it('a node whose error holds a long word does not stop the whole process while it is logged', async () => {
  const chain = probeOf(() => {
    throw new Error(`execution reverted: 0x${'ab'.repeat(50_000)}`)
  })
  const a = new FakeFacilitator({ settleAnswer: httpError(502) })
  const aggregator = aggregatorOf({ a }, { probes: [chain] }, { retries: 0, deadlineMs: { settle: 100 } })
  const start = performance.now()
  expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('SETTLEMENT_INDETERMINATE')
  expect(performance.now() - start).toBeLessThan(1_000)
})
