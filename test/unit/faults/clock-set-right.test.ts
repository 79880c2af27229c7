import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import type { ProbeAnswer } from '../../../src/index.ts'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  httpError,
  newPayload,
  outcome,
  paidAt,
  probeOf,
  requirements,
  silent,
} from '../builders.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

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
  expect(await done(outcome(aggregator.settle(payment, requirements())))).toBe('SETTLEMENT_INDETERMINATE')
  vi.setSystemTime(Date.now() - 120_000)
  answer = () => paidAt(minedAt)
  const retry = await done(outcome(aggregator.settle(payment, requirements())))
  expect(retry).toMatch(/^(success|SETTLEMENT_INDETERMINATE)$/)
  expect(resolved).not.toContain('spent-otherwise')
})
