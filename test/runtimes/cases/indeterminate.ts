import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, equal, thrown } from '../expect.ts'
import { FacilitatorResponseError, SettlementIndeterminateError } from '../library.js'
import { expectPaidOnce, expectVerified, withAggregator } from './serving.ts'

/**
 * Without a probe nobody can tell, and upstream's middleware must answer 502. The facilitator fails once only: what it
 * says to a request that the runtime sends a second time must not be taken for the answer to the first.
 */
export const indeterminate: Case = {
  name: 'indeterminate',
  async run({ place }) {
    const bed = await openBed(place)
    await bed.facilitator(0).faultOnce({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    const payment = await bed.payment()
    await withAggregator(place, {}, async aggregator => {
      await expectVerified(aggregator, payment)
      await expectPaidOnce(bed, payment, async () => {
        const error = await thrown(
          aggregator.settle(payment.payload, payment.requirements),
          'settle in doubt',
        )
        check(error instanceof SettlementIndeterminateError, `settle in doubt threw ${error}`)
        check(
          error instanceof FacilitatorResponseError,
          "the error is not upstream's FacilitatorResponseError",
        )
      })
      equal((await bed.facilitator(1).calls()).settle, 0, 'settles at the second facilitator')
      const unresolved = await aggregator.getUnresolvedSettlements()
      equal(
        unresolved.map(({ payer }) => payer?.toLowerCase()),
        [payment.payer.toLowerCase()],
        'unresolved payers',
      )
    })
  },
}
