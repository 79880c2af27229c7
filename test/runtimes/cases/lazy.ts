import { openBed } from '../bed.ts'
import type { Case, Env } from '../case.ts'
import { check, equal, thrown, until } from '../expect.ts'
import { type FacilitatorAggregator, SettlementIndeterminateError, type SettlementProbe } from '../library.js'
import { watchTimers } from '../timers.ts'
import { expectVerified, probes, withAggregator } from './serving.ts'

export const lazy: Case = {
  name: 'lazy health check',
  async run(env) {
    const bed = await openBed(env.place)
    const [first, second] = [bed.facilitator(0), bed.facilitator(1)]
    const payment = await bed.payment()
    const { works, ...lazy } = lazily(env)
    const timers = watchTimers()

    async function verify(aggregator: FacilitatorAggregator): Promise<void> {
      await expectVerified(aggregator, payment)
      await Promise.all(works)
      equal(timers.delays, [], 'timers that are left when the request has ended')
    }

    try {
      await withAggregator(env.place, lazy, async (aggregator, attempts) => {
        await verify(aggregator)
        check(works.length > 0, 'nothing was handed to waitUntil with the first request')
        equal((await second.calls()).supported, 1, 'checks of a facilitator')
        await until('a later request checked again', async () => {
          await verify(aggregator)
          return (await second.calls()).supported > 1
        })

        await first.kill()
        await until('the first facilitator was asked in vain', async () => {
          await verify(aggregator)
          return attempts.some(({ operation, outcome }) => operation === 'verify' && outcome !== 'answered')
        })
        await first.revive()
        await until('the first facilitator served again, let in by a check', async () => {
          await verify(aggregator)
          return attempts.findLast(({ operation }) => operation === 'verify')?.facilitator === 'first'
        })
      })
    } finally {
      timers.stop()
    }
  },
}

/** A settlement that is left unresolved is watched beside later requests. */
export const lazyWatch: Case = {
  name: 'lazy watch',
  async run(env) {
    const bed = await openBed(env.place)
    await bed.facilitator(0).faultOnce({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    const [payment, later] = [await bed.payment(), await bed.payment()]
    const { works, ...lazy } = lazily(env)
    const { probe, heal } = silentProbe(...probes(env.place))
    const options = {
      ...lazy,
      deadlineMs: { settle: 1_500 },
      settlement: { probes: [probe], watchIntervalMs: 100 },
    }
    const timers = watchTimers()
    try {
      await withAggregator(env.place, options, async aggregator => {
        const results: string[] = []
        aggregator.on('settlement:resolved', ({ result }) => results.push(result))
        const settled = aggregator.settle(payment.payload, payment.requirements)
        const error = await thrown(settled, 'settle in doubt')
        check(error instanceof SettlementIndeterminateError, `settle in doubt threw ${error}`)
        await Promise.all(works)
        equal(timers.delays, [], 'timers that are left when the request has ended')

        heal()
        await until('the settlement was resolved', async () => {
          await expectVerified(aggregator, later)
          await Promise.all(works)
          return results.length > 0
        })
        equal(results, ['paid'], 'results of settlement:resolved')
        equal(timers.delays, [], 'timers that are left after the watch')
      })
    } finally {
      timers.stop()
    }
  },
}

function lazily({ waitUntil }: Env) {
  const works: Promise<unknown>[] = []
  return {
    /** What was handed to `waitUntil`. */
    works,
    healthCheck: {
      mode: 'lazy',
      intervalMs: 100,
      maxConsecutiveFailures: 1,
      // Longer than any case: only a check can open the door to a trial.
      coolDownMs: 3_600_000,
    } as const,
    waitUntil(work: Promise<unknown>) {
      works.push(work)
      waitUntil(work)
    },
  }
}

/** A probe that can tell nothing until it is healed. */
function silentProbe(healthy?: SettlementProbe) {
  if (healthy === undefined) throw new Error('there is no probe')
  let isSilent = true
  const probe: SettlementProbe = {
    ...healthy,
    async ask(query, options) {
      return isSilent ? { state: 'cannot-tell', reason: 'the node is silent' } : healthy.ask(query, options)
    },
  }
  return {
    probe,
    heal() {
      isSilent = false
    },
  }
}
