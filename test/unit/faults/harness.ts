/** Fake time, and how an aggregator of the test's own settles in it. */
import { afterEach, beforeEach, vi } from 'vitest'
import type { FacilitatorAggregator } from '../../../src/index.ts'
import { done, newPayload, outcome, requirements } from '../builders.ts'

/** In each test of the file that calls it. */
export function inFakeTime(): void {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })
}

/** How it settles a payment that nobody has seen before, or this one: see `outcome`. */
export function settleBy(
  aggregator: FacilitatorAggregator,
  payment = newPayload(),
  terms = requirements(),
): Promise<string> {
  return done(outcome(aggregator.settle(payment, terms)))
}
