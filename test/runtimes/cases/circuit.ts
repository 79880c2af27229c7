import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { equal, until } from '../expect.ts'
import { expectVerified, withAggregator } from './serving.ts'

export const circuit: Case = {
  name: 'circuit',
  async run({ place }) {
    const bed = await openBed(place)
    const first = bed.facilitator(0)
    const payment = await bed.payment()
    const healthCheck = { intervalMs: 3_600_000, maxConsecutiveFailures: 3, coolDownMs: 700 }
    await withAggregator(place, { healthCheck }, async aggregator => {
      await aggregator.checkHealth()
      const changes: string[] = []
      aggregator.on('circuit:change', ({ facilitator, operation, from, to }) => {
        changes.push(`${facilitator} ${operation} ${from} → ${to}`)
      })
      const verifyUntil = (change: string) =>
        until(`the circuit went ${change}`, async () => {
          await expectVerified(aggregator, payment)
          return changes.at(-1) === `first verify ${change}`
        })

      await first.fault({ verify: { kind: 'answer', status: 500 } })
      for (let count = 1; count <= 3; count++) {
        equal(changes, [], `circuits that changed before failure ${count}`)
        await expectVerified(aggregator, payment)
      }
      equal(changes, ['first verify closed → open'], 'circuits that changed with the third failure')
      await expectVerified(aggregator, payment)
      equal((await first.calls()).verify, 3, 'verifies at a facilitator whose circuit is open')

      await verifyUntil('half-open → open')
      equal((await first.calls()).verify, 4, 'verifies after one trial')
      await first.heal()
      await verifyUntil('half-open → closed')
      equal(
        changes,
        [
          'closed → open',
          'open → half-open',
          'half-open → open',
          'open → half-open',
          'half-open → closed',
        ].map(change => `first verify ${change}`),
        'all changes',
      )
    })
  },
}
