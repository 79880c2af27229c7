import { expect, it } from 'vitest'
import { aggregatorOf, FakeFacilitator, paid, probeOf, refusal, unspent } from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('an authorization that its facilitator calls used, and the chain unspent, may be on its way: that is no rejection', async () => {
  const start = Date.now()
  // A proxy of the facilitator has sent the request to two of its instances: the second sees the first one's
  // transaction in the mempool, where it waits for two slots of 12 s.
  const a = new FakeFacilitator({ settleAnswer: refusal('invalid_exact_evm_nonce_already_used') })
  const chain = probeOf(() => (Date.now() - start < 24_000 ? unspent : paid))
  const aggregator = aggregatorOf({ a }, { probes: [chain] }, { retries: 0 })
  expect(await settleBy(aggregator)).toMatch(/^(success|SETTLEMENT_INDETERMINATE)$/)
})
