import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, equal, thrown, until } from '../expect.ts'
import { AggregatorStoppedError } from '../library.js'
import { watchTimers } from '../timers.ts'
import { withAggregator } from './serving.ts'

export const stop: Case = {
  name: 'stop',
  async run({ place }) {
    const bed = await openBed(place)
    const { payload, requirements } = await bed.payment()
    const timers = watchTimers()
    try {
      const options = { healthCheck: { intervalMs: 50 } }
      await withAggregator(place, options, async aggregator => {
        aggregator.start()
        const { healthCheck } = aggregator.getConfig()
        // Runtimes without timers between requests check beside requests.
        if (healthCheck && healthCheck.mode === 'interval')
          await until('the health was checked by a timer', async () => {
            return (await bed.facilitator(1).calls()).supported > 2
          })
        await bed.facilitator(0).fault({ verify: { kind: 'hang' } })
        await bed.facilitator(1).fault({ verify: { kind: 'hang' } })
        const verified = thrown(aggregator.verify(payload, requirements), 'a verify in flight')
        await until('the verify hung', async () => (await bed.facilitator(0).calls()).verify > 0)
        await aggregator.stop({ inFlight: 'abort' })
        const error = await verified
        check(error instanceof AggregatorStoppedError, `the verify in flight threw ${error}`)
        const late = await thrown(aggregator.verify(payload, requirements), 'verify after stop()')
        check(late instanceof AggregatorStoppedError, `verify after stop() threw ${late}`)
        await until('no timer was left', () => timers.delays.length === 0)
      })
      equal(timers.delays, [], 'timers that are left')
    } finally {
      timers.stop()
    }
  },
}
