import { expect, it, vi } from 'vitest'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  httpError,
  newPayload,
  outcome,
  requirements,
  silent,
} from '../builders.ts'
import { inFakeTime } from './harness.ts'

inFakeTime()

it('the watch asks the chain of three hundred unresolved settlements in turn, not of all of them at once every ten seconds', async () => {
  let open = 0
  let most = 0
  let isWatching = false
  const probe = {
    supports: () => true,
    ask: async () => {
      most = Math.max(most, isWatching ? ++open : 0)
      await new Promise(resolve => setTimeout(resolve, 100))
      open--
      return silent
    },
  }
  const a = new FakeFacilitator({ settleAnswer: httpError(502) })
  const aggregator = aggregatorOf({ a }, { probes: [probe] }, { retries: 0, deadlineMs: { settle: 100 } })
  const all = Array.from({ length: 300 }, () => outcome(aggregator.settle(newPayload(), requirements())))
  expect(new Set(await done(Promise.all(all)))).toEqual(new Set(['SETTLEMENT_INDETERMINATE']))
  await vi.advanceTimersByTimeAsync(200)
  isWatching = true
  open = 0
  await vi.advanceTimersByTimeAsync(10_050)
  await aggregator.stop()
  expect(most).toBeLessThanOrEqual(50)
})
