import { expect, it } from 'vitest'
import { aggregatorOf, FakeFacilitator, hash, paidAt, probeOf, refusal, settled } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

/** Blocks every 12 s, the first after `start`, on a chain whose clock is ahead of ours: ours is late. */
function slowChain(start: number, landsInBlock: number, leadMs: number, lagBlocks = 0) {
  return probeOf(() => {
    const newest = Math.floor((Date.now() - start) / 12_000) - lagBlocks
    const asOf = (start + newest * 12_000 + leadMs) / 1000
    return newest < landsInBlock
      ? { state: 'unspent', asOf }
      : { ...paidAt((start + landsInBlock * 12_000 + leadMs) / 1000), transaction: hash, asOf }
  })
}

it('a process whose clock is 15 s late takes a block made before a denial for one made since, and says that nothing was charged', async () => {
  const start = Date.now()
  // It has broadcast; the next block, 12 s later, has the payment.
  const a = new FakeFacilitator({ settleAnswer: refusal('failed_to_execute_transfer') })
  const aggregator = aggregatorOf({ a }, { probes: [slowChain(start, 1, 15_000)] }, { retries: 0 })
  expect(await settleBy(aggregator)).toBe('success')
})

it('a process whose clock is 30 s late accuses an honest facilitator of a false claim, as its node is one block behind', async () => {
  const start = Date.now()
  // In the newest block, which its own node has and ours has not seen yet.
  const a = new FakeFacilitator({ settleAnswer: { ...settled, transaction: hash } })
  const quarantined: string[] = []
  const aggregator = aggregatorOf(
    { a },
    { probes: [slowChain(start, 0, 30_000, 1)], audit: 'always' },
    { retries: 0 },
  ).on('facilitator:quarantined', event => quarantined.push(event.facilitator))
  expect(await settleBy(aggregator)).toBe('success')
  expect(quarantined).toEqual([])
})
