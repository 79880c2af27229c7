import { expect, it } from 'vitest'
import {
  aggregatorOf,
  FakeFacilitator,
  kind,
  newPayload,
  refused,
  requirements,
  supporting,
} from '../builders.ts'

it('a client whose chain node refuses a connection after it has charged is not asked to charge again by a scheme that may charge twice', async () => {
  let charges = 0
  const charging = () =>
    new FakeFacilitator({
      supportedAnswer: supporting(kind({ scheme: 'metered' })),
      settleAnswer: () => {
        charges++
        throw refused()
      },
    })
  const aggregator = aggregatorOf({ a: charging(), b: charging() }, {}, { backoffMs: 1 })
  const terms = requirements({ scheme: 'metered' })
  const settling = aggregator.settle(newPayload({ accepted: terms }), terms)
  await expect(settling).rejects.toThrow(/^(?![\s\S]*nothing was charged)/)
  expect(charges).toBe(1)
})
