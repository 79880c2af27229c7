import { expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../../src/index.ts'
import { after, done, FakeFacilitator, newPayload, requirements, settled, valid } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

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
  expect(await settleBy(crowd())).toBe('success')
})

it('a pool of twelve healthy facilitators verifies a payment at the first of them', async () => {
  const aggregator = crowd()
  await done(aggregator.verify(newPayload(), requirements()))
  expect(
    aggregator.getStatistics().facilitators.filter(({ operations }) => operations.verify > 0),
  ).toHaveLength(1)
})
