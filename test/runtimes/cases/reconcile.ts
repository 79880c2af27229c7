import type { Fault } from '../../bed/facilitator.ts'
import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, equal } from '../expect.ts'
import {
  expectPaidOnce,
  expectReplayRefused,
  expectVerified,
  probes,
  told,
  withAggregator,
} from './serving.ts'

export const reconcileReset = reconcile('reconcile: settle, reset', { kind: 'reset' })
export const reconcileHang = reconcile('reconcile: settle, hang', { kind: 'hang' })

/** The facilitator moves the money and its answer is lost: the chain has to tell. */
function reconcile(name: string, next: Fault): Case {
  return {
    name,
    async run({ place }) {
      const bed = await openBed(place)
      await bed.facilitator(0).faultOnce({ settle: { kind: 'act-then', next } })
      const payment = await bed.payment()
      const settlement = { probes: probes(place), probeAfterMs: 300, failoverAfterMs: 10_000 }
      await withAggregator(place, { settlement }, async (aggregator, attempts) => {
        const recovered: (string | undefined)[] = []
        aggregator.on('settlement:recovered', ({ transaction }) => recovered.push(transaction))
        await expectVerified(aggregator, payment)
        await expectPaidOnce(bed, payment, async () => {
          const { payload, requirements } = payment
          const answers = await Promise.allSettled(
            [1, 2, 3].map(() => aggregator.settle(payload, requirements)),
          )
          const successes = answers.flatMap(answer => (answer.status === 'fulfilled' ? answer.value : []))
          const codes = answers.flatMap(answer => (answer.status === 'rejected' ? answer.reason.code : []))
          equal(successes[0]?.success, true, 'the one answer to three settles of one payment')
          equal(codes, ['SETTLEMENT_IN_PROGRESS', 'SETTLEMENT_IN_PROGRESS'], 'what the others are told')
          equal(recovered, [successes[0]?.transaction], 'transactions of settlement:recovered')
          await expectReplayRefused(aggregator, payment)
        })
        equal((await bed.facilitator(1).calls()).settle, 0, 'settles at the second facilitator')
        equal(recovered.length, 1, 'events of settlement:recovered')
        const asked = attempts.filter(({ operation }) => operation === 'settle')
        check(asked.length <= 1, `one settle was to be sent, and there were ${told(asked)}`)
      })
    },
  }
}
