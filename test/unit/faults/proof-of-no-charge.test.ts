import { expect, it } from 'vitest'
import { MemoryLedger } from '../../../src/index.ts'
import {
  aggregatorOf,
  FakeFacilitator,
  httpError,
  ledgerWith,
  newPayload,
  refused,
  requirements,
} from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('the error of a retry of a payment that may have been charged does not say that nothing was, as the ledger is down', async () => {
  const inner = new MemoryLedger()
  let isDown = false
  const ledger = ledgerWith(inner, {
    claim: request => (isDown ? Promise.reject(new Error('down')) : inner.claim(request)),
  })
  const a = new FakeFacilitator({ settleAnswer: httpError(502) })
  const aggregator = aggregatorOf({ a }, { ledger }, { retries: 0 })
  const payment = newPayload()
  expect(await settleBy(aggregator, payment)).toBe('SETTLEMENT_INDETERMINATE')
  isDown = true
  await expect(aggregator.settle(payment, requirements())).rejects.toThrow(/^(?![\s\S]*nothing was charged)/)
})

it('the error of a verify of a payment whose settle may have charged does not say that nothing was, as no facilitator answers', async () => {
  const a = new FakeFacilitator({ settleAnswer: new Error('Facilitator settle failed (401): no') })
  const aggregator = aggregatorOf({ a }, {}, { retries: 0 })
  const payment = newPayload()
  // It has charged all the same.
  expect(await settleBy(aggregator, payment)).toBe('ALL_FACILITATORS_FAILED')
  a.verifyAnswer = refused()
  await expect(aggregator.verify(payment, requirements())).rejects.toThrow(/^(?![\s\S]*nothing was charged)/)
})
