import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, equal } from '../expect.ts'
import { expectSettled, expectVerified, probes, told, withAggregator } from './serving.ts'

const timeoutMs = { verify: 300, settle: 600 }

export const timeout: Case = {
  name: 'timeout',
  async run({ place }) {
    const bed = await openBed(place)
    await bed.facilitator(0).fault({ verify: { kind: 'hang' }, settle: { kind: 'hang' } })
    const payment = await bed.payment()
    const [first, second] = place.facilitators
    check(first && second, 'the bed has two facilitators')
    const options = { facilitators: [{ ...first, timeoutMs }, second], settlement: { probes: probes(place) } }
    await withAggregator(place, options, async (aggregator, attempts) => {
      await expectVerified(aggregator, payment)
      // Another payment: who gave no answer to the verify of one is asked last at its settle.
      await expectSettled(aggregator, bed, await bed.payment())
      // The chain may tell of the second facilitator's settlement before the facilitator does.
      const givenUp = attempts.filter(({ facilitator }) => facilitator === 'first')
      equal(told(givenUp), ['first verify unknown', 'first settle unknown'], 'attempts that were given up')
      for (const { operation, durationMs } of givenUp) {
        const patience = timeoutMs[operation as keyof typeof timeoutMs]
        // Timers may ring a little early, and late on a busy machine.
        check(
          durationMs > patience - 20 && durationMs < patience + 1_000,
          `${operation}: expected to be given up after ${patience} ms, not after ${durationMs}`,
        )
      }
    })
  },
}
