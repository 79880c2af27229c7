import { expect, it, vi } from 'vitest'
import type { ProbeAnswer } from '../../../src/index.ts'
import { aggregatorOf, FakeFacilitator, httpError, newPayload, paidAt, probeOf, silent } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('a clock that was two minutes fast when the settlement began, and has been set right since, makes no replay of its payment', async () => {
  const minedAt = Math.ceil(Date.now() / 1000) + 1
  let answer: () => ProbeAnswer = () => silent
  const a = new FakeFacilitator({ settleAnswer: httpError(502) })
  const resolved: string[] = []
  const aggregator = aggregatorOf({ a }, { probes: [probeOf(() => answer())] }, { retries: 0 }).on(
    'settlement:resolved',
    ({ result }) => resolved.push(result),
  )
  vi.setSystemTime(Date.now() + 120_000)
  const payment = newPayload()
  expect(await settleBy(aggregator, payment)).toBe('SETTLEMENT_INDETERMINATE')
  vi.setSystemTime(Date.now() - 120_000)
  answer = () => paidAt(minedAt)
  const retry = await settleBy(aggregator, payment)
  expect(retry).toBe('SETTLEMENT_INDETERMINATE')
  expect(resolved).toEqual([])
})
