import { expect, it } from 'vitest'
import { MemoryLedger } from '../../../src/index.ts'
import { aggregatorOf, FakeFacilitator, ledgerWith, refusal, settled } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it.each([
  ['reason', refusal(`${'x'.repeat(1_000_000)}_signature`)],
  ['transaction', { ...settled, transaction: 'x'.repeat(1_000_000) }],
])(
  'the ledger keeps no megabyte of what a facilitator calls a %s for each payment',
  async (_field, answer) => {
    const inner = new MemoryLedger()
    let longest = 0
    const ledger = ledgerWith(inner, {
      update: update => {
        longest = Math.max(longest, JSON.stringify(update.settlement).length)
        return inner.update(update)
      },
    })
    await settleBy(aggregatorOf({ a: new FakeFacilitator({ settleAnswer: answer }) }, { ledger }))
    expect(longest).toBeLessThan(1_000)
  },
)
