import { expect, it } from 'vitest'
import { MemoryLedger } from '../../../src/index.ts'
import {
  aggregatorOf,
  FakeFacilitator,
  httpError,
  ledgerWith,
  newPayload,
  requirements,
} from '../builders.ts'
import { inFakeTime, settleBy } from './harness.ts'

inFakeTime()

it('the retry of a buyer who was charged is valid at another replica, though the ledger is down', async () => {
  const shared = new MemoryLedger()
  const down = () => Promise.reject(new Error('down'))
  const payment = newPayload()
  const first = aggregatorOf(
    { a: new FakeFacilitator({ settleAnswer: httpError(502) }) },
    { ledger: ledgerWith(shared, {}) },
    { retries: 0 },
  )
  expect(await settleBy(first, payment)).toBe('SETTLEMENT_INDETERMINATE')
  const used = { isValid: false, invalidReason: 'invalid_exact_evm_nonce_already_used' }
  const second = aggregatorOf(
    { a: new FakeFacilitator({ verifyAnswer: used }) },
    { ledger: ledgerWith(shared, { get: down, claim: down }) },
    { retries: 0 },
  )
  const verified = await second.verify(payment, requirements()).then(
    ({ isValid }) => isValid,
    () => 'an error: 502',
  )
  expect(verified).toBe(true)
})
