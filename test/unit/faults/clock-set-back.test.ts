/** Faults found by attacking the library with clocks, time and churn. */

import { expect, it, vi } from 'vitest'
import type { ProbeAnswer } from '../../../src/index.ts'
import { aggregatorOf, FakeFacilitator, paid, probeOf } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('a payment is not refused after it was charged because the clock, two minutes ahead, was set right meanwhile', async () => {
  const ahead = 120_000
  vi.setSystemTime(Date.now() + ahead)
  let offset = ahead
  let minedAt: number | undefined
  const probe = probeOf((): ProbeAnswer => {
    const asOf = Math.floor((Date.now() - offset) / 1000)
    return minedAt === undefined ? { state: 'unspent', asOf } : { ...paid, minedAt, asOf }
  })
  const client = new FakeFacilitator({
    settleAnswer: async () => {
      await new Promise(resolve => setTimeout(resolve, 1_500))
      minedAt = Math.floor((Date.now() - offset) / 1000)
      vi.setSystemTime(Date.now() - offset)
      offset = 0
      throw new Error('the connection was closed')
    },
  })
  const aggregator = aggregatorOf({ client }, { probes: [probe], probeAfterMs: 3_000 }, { retries: 0 })
  expect(await settleBy(aggregator)).toBe('SETTLEMENT_INDETERMINATE')
})
