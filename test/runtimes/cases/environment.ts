import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, equal } from '../expect.ts'
import { aggregatorFromEnv } from '../library.js'
import { expectReplayRefused, expectSettled, expectVerified } from './serving.ts'

/** The pool and its probe from variables; the probe's code is loaded with the first payment. */
export const environment: Case = {
  name: 'environment',
  async run({ place }) {
    const bed = await openBed(place)
    await bed.facilitator(0).fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    const payment = await bed.payment()
    const [first, second] = place.facilitators
    check(first && second, 'the bed has two facilitators')
    const aggregator = aggregatorFromEnv({
      ENABLE_FACILITATOR_AGGREGATOR: 'true',
      FACILITATOR_1_URL: first.url,
      FACILITATOR_2_URL: second.url,
      FACILITATOR_HEALTH_CHECK: 'false',
      [`RPC_URL_${place.chainId}`]: place.rpcUrl,
      A_BINDING: {},
    })
    try {
      let recovered = 0
      aggregator.on('settlement:recovered', () => recovered++)
      await expectVerified(aggregator, payment)
      await expectSettled(aggregator, bed, payment)
      equal(recovered, 1, 'events of settlement:recovered')
      await expectReplayRefused(aggregator, payment)
    } finally {
      await aggregator.stop({ inFlight: 'abort' })
    }
  },
}
