import { type Bed, openBed, type Place } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, equal, thrown } from '../expect.ts'
import { SettlementIndeterminateError } from '../library.js'
import { expectSettled, expectVerified, probes, told, withAggregator } from './serving.ts'

export const failover: Case = {
  name: 'failover',
  async run({ place }) {
    const bed = await openBed(place)
    await bed.facilitator(0).kill()
    const payment = await bed.payment()
    await withAggregator(place, { settlement: { probes: probes(place) } }, async aggregator => {
      const failovers: string[] = []
      aggregator.on('failover', ({ operation, from, to }) => failovers.push(`${operation}: ${from} → ${to}`))
      await expectVerified(aggregator, payment)
      // Another payment: who gave no answer to the verify of one is asked last at its settle.
      await expectSettled(aggregator, bed, await bed.payment())
      equal(failovers, ['verify: first → second', 'settle: first → second'], 'the failovers')
    })
  },
}

/** A refused connection was no settlement, so no probe is needed to go on: where `fetch` says that it was refused. */
export const failoverWithoutProbe: Case = {
  name: 'failover without a probe',
  async run({ place }) {
    const bed = await openBed(place)
    const canTell = await tellsRefusals(bed, place)
    await bed.facilitator(0).kill()
    const payment = await bed.payment()
    await withAggregator(place, {}, async (aggregator, attempts) => {
      if (!canTell) {
        const error = await thrown(
          aggregator.settle(payment.payload, payment.requirements),
          'settle in doubt',
        )
        check(error instanceof SettlementIndeterminateError, `settle in doubt threw ${error}`)
        return
      }
      await expectSettled(aggregator, bed, payment)
      equal(told(attempts), ['first settle unreachable', 'second settle answered'], 'the attempts')
    })
  },
}

/** Whether this runtime's `fetch` fails otherwise for a refused connection than for one that is reset later. */
async function tellsRefusals(bed: Bed, { facilitators }: Place): Promise<boolean> {
  const url = `${facilitators[0]?.url}/verify`
  const failure = async () => {
    const error = await thrown(fetch(url, { method: 'POST', body: '{}' }), 'fetch')
    const { name, message, cause } = error
    return JSON.stringify([name, message, (cause as Error | undefined)?.message])
  }
  await bed.facilitator(0).fault({ verify: { kind: 'reset' } })
  const reset = await failure()
  await bed.facilitator(0).kill()
  return (await failure()) !== reset
}
