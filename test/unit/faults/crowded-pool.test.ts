import { expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../../src/index.ts'
import { after, FakeFacilitator, newPayload, outcome, requirements, settled, valid } from '../builders.ts'

const names = Array.from({ length: 12 }, (_, index) => `f${index}`)

/** Healthy facilitators that take the time that a network takes. */
function crowd(): FacilitatorAggregator {
  return new FacilitatorAggregator({
    facilitators: names.map(id => ({
      id,
      client: new FakeFacilitator({
        verifyAnswer: () => after(30).then(() => valid),
        settleAnswer: () => after(30).then(() => settled),
      }),
    })),
    healthCheck: false,
  })
}

it('a pool of twelve healthy facilitators charges a buyer and delivers, rather than give each of them a millisecond', async () => {
  expect(await outcome(crowd().settle(newPayload(), requirements()))).toBe('success')
})

it('a pool of twelve healthy facilitators verifies a payment at the first of them', async () => {
  const aggregator = crowd()
  await aggregator.verify(newPayload(), requirements())
  expect(
    aggregator.getStatistics().facilitators.filter(({ operations }) => operations.verify > 0),
  ).toHaveLength(1)
})
