import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { equal } from '../expect.ts'
import type { EventName } from '../library.js'
import { expectSettled, expectVerified, probes, withAggregator } from './serving.ts'

const names = ['attempt', 'failover', 'circuit:change', 'health:change', 'settlement:recovered'] as const

export const events: Case = {
  name: 'events',
  async run({ place }) {
    const bed = await openBed(place)
    await bed.facilitator(0).fault({
      verify: { kind: 'answer', status: 500 },
      settle: { kind: 'act-then', next: { kind: 'reset' } },
    })
    const payment = await bed.payment()
    const options = {
      healthCheck: { intervalMs: 3_600_000, maxConsecutiveFailures: 1 },
      settlement: { probes: probes(place) },
    }
    await withAggregator(place, options, async aggregator => {
      await aggregator.checkHealth()
      const heard = new Map<EventName, number>()
      for (const name of names) {
        aggregator.on(name, () => {
          heard.set(name, (heard.get(name) ?? 0) + 1)
          throw new Error('a listener that throws')
        })
        aggregator.on(name, async () => {
          throw new Error('a listener that rejects')
        })
      }
      await expectVerified(aggregator, payment)
      // Another payment: who gave no answer to the verify of one is asked last at its settle.
      await expectSettled(aggregator, bed, await bed.payment())
      equal(
        Object.fromEntries(names.map(name => [name, heard.get(name)])),
        // The settle's failure opens a second circuit of a facilitator that is unhealthy already.
        { attempt: 3, failover: 1, 'circuit:change': 2, 'health:change': 1, 'settlement:recovered': 1 },
        'events',
      )
      const complaints = aggregator.getRecentLogs().filter(({ event }) => event === 'listener:error')
      equal(complaints.length, 16, 'logged complaints about listeners')
    })
  },
}
