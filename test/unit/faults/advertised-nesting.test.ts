/** A facilitator that advertises lists in lists, and one that puts something else where a transaction's hash belongs. */
import { describe, expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../../src/index.ts'
import { FakeFacilitator, kind, payload, refusal, requirements, signature, supporting } from '../builders.ts'

function over(client: FakeFacilitator): FacilitatorAggregator {
  return new FacilitatorAggregator({
    facilitators: [{ id: 'a', client }],
    healthCheck: false,
    retries: 0,
    logger: false,
  })
}

describe('lists in lists that a facilitator advertises', () => {
  it('are compared in a time that does not double with each of them', async () => {
    const deep = JSON.parse('['.repeat(200) + ']'.repeat(200))
    const aggregator = over(new FakeFacilitator({ supportedAnswer: supporting(kind({ extra: { deep } })) }))
    expect((await aggregator.getSupported()).kinds).toHaveLength(1)
  })
})

describe('what a facilitator calls a transaction', () => {
  it.each([
    ['the signature', signature],
    ['credentials', 'Bearer t0ken-of-the-seller'],
  ])('is not shown when it is %s', async (_, transaction) => {
    const settleAnswer = refusal('x', transaction)
    const aggregator = over(new FakeFacilitator({ settleAnswer }))
    const error: Error = await aggregator.settle(payload(), requirements()).then(
      () => expect.unreachable(),
      thrown => thrown,
    )
    const shown = JSON.stringify([{ ...error }, error.message, await aggregator.getUnresolvedSettlements()])
    expect(shown).toContain('"transaction":"unreadable"')
    expect(shown).not.toContain(transaction)
  })
})
