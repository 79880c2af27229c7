import { expect, it, vi } from 'vitest'
import { MemoryLedger } from '../../../src/index.ts'
import {
  after,
  aggregatorOf,
  done,
  FakeFacilitator,
  ledgerWith,
  newPayload,
  outcome,
  requirements,
  settled,
} from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('a process that slept past its lease, and whose connection to the ledger did not survive that, does not deliver what a replica has delivered', async () => {
  const shared = new MemoryLedger()
  let isConnected = true
  const remote = <T>(call: () => Promise<T>) =>
    isConnected ? call() : Promise.reject(new Error('ECONNRESET'))
  const sleeper = aggregatorOf(
    { a: new FakeFacilitator({ settleAnswer: () => after(1_000).then(() => settled) }) },
    {
      ledger: ledgerWith(shared, {
        update: update => remote(() => shared.update(update)),
        get: key => remote(() => shared.get(key)),
      }),
    },
    {},
  )
  // Facilitators that know the payload answer it again as they did.
  const replica = aggregatorOf(
    { a: new FakeFacilitator() },
    {
      ledger: ledgerWith(shared, {}),
      probes: [
        {
          supports: () => true,
          ask: async () => ({
            state: 'paid',
            transaction: settled.transaction,
            minedAt: 4_000_000_000,
            asOf: 4_000_000_000,
          }),
        },
      ],
    },
    {},
  )
  const payment = newPayload()
  const sleeping = outcome(sleeper.settle(payment, requirements()))
  await vi.advanceTimersByTimeAsync(500)
  // The machine is suspended: the time goes by, the process and its monotonic clock do not.
  vi.setSystemTime(Date.now() + 120_000)
  isConnected = false
  expect(await settleBy(replica, payment)).toBe('success')
  expect(await done(sleeping)).toBe('SETTLEMENT_INDETERMINATE')
})
