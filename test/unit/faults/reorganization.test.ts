import { expect, it } from 'vitest'
import type { ProbeAnswer } from '../../../src/index.ts'
import { aggregatorOf, FakeFacilitator, paid, probeOf, refusal, unspent } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it.each([
  ['rejects', 'invalid_exact_evm_insufficient_balance'],
  ['denies', 'failed_to_execute_transfer'],
])(
  'a payment that the chain has shown and a reorganization has taken back is no failure, though its facilitator %s it: it lands again',
  async (_what, reason) => {
    const shown: ProbeAnswer = { state: 'cannot-tell', reason: '1 of 3 confirmations', isMined: true }
    const start = Date.now()
    // In a block at first; then for 6 s in the mempool again, as blocks are made without it; then in a block for good.
    const chain = probeOf(() => {
      const passed = Date.now() - start
      return passed < 4_000 ? shown : passed < 10_000 ? unspent : paid
    })
    const a = new FakeFacilitator({ settleAnswer: refusal(reason) })
    const aggregator = aggregatorOf({ a }, { probes: [chain] }, { retries: 0 })
    expect(await settleBy(aggregator)).toMatch(/^(success|SETTLEMENT_INDETERMINATE)$/)
  },
)
