/** Faults found by attacking the library with clocks, time and churn. */

import { afterEach, expect, it, vi } from 'vitest'
import type { ProbeAnswer } from '../../../src/index.ts'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  newPayload,
  outcome,
  paid,
  probeOf,
  requirements,
} from '../builders.ts'

afterEach(() => {
  vi.useRealTimers()
})

it('a payment is not refused after it was charged because the clock, two minutes ahead, was set right meanwhile', async () => {
  vi.useFakeTimers()
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
  expect(await done(outcome(aggregator.settle(newPayload(), requirements())))).not.toContain('refused')
})
