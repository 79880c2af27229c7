import { expect, it, vi } from 'vitest'
import { MemoryLedger } from '../../../src/index.ts'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  hanging,
  ledgerWith,
  newPayload,
  outcome,
  requirements,
} from '../builders.ts'
import { inFakeTime } from './harness.ts'

inFakeTime()

it('stop() ends within a minute, though a ledger that hangs has not stored a hundred successes', async () => {
  const inner = new MemoryLedger()
  const ledger = ledgerWith(inner, { update: hanging, get: hanging, list: hanging })
  const aggregator = aggregatorOf({ a: new FakeFacilitator() }, { ledger })
  const all = Array.from({ length: 100 }, () => outcome(aggregator.settle(newPayload(), requirements())))
  expect(new Set(await done(Promise.all(all)))).toEqual(new Set(['success']))
  let isStopped = false
  void aggregator.stop().then(() => {
    isStopped = true
  })
  await vi.advanceTimersByTimeAsync(60_000)
  expect(isStopped).toBe(true)
})
