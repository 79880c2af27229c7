import { expect, it } from 'vitest'
import { aggregatorOf, FakeFacilitator, hash, paid, probeOf, settled } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('a payload settled an hour ago and presented again quarantines no facilitator that answers it again with the transaction that paid it, or a healthy pool sells no more', async () => {
  // What the probe says of a use before the settlement began by more than it searches (src/evm/payment-search.ts).
  let chain = probeOf(() => ({ state: 'spent-otherwise' }))
  const again = { ...settled, transaction: hash }
  const a = new FakeFacilitator({ settleAnswer: again })
  const b = new FakeFacilitator({ settleAnswer: again })
  const aggregator = aggregatorOf(
    { a, b },
    {
      probes: [{ supports: () => true, ask: (query, options) => chain.ask(query, options) }],
      audit: 'always',
    },
    {},
  )
  for (let i = 0; i < 2; i++) await settleBy(aggregator)
  chain = probeOf(() => paid)
  expect(await settleBy(aggregator)).toBe('success')
})
