/** A payment that another request settles is in progress: neither invalid nor a duplicate, and never a 402. */
import { FacilitatorResponseError } from '@x402/core/server'
import { describe, expect, it, vi } from 'vitest'
import { MemoryLedger, SettlementInProgressError } from '../../../src/index.ts'
import {
  after,
  done,
  httpError,
  newPayload,
  outcome,
  refusal,
  requirements,
  settled,
  silent,
} from '../builders.ts'
import { a, briefly, chain, pool, settle, settleCalls } from './harness.ts'

/** A facilitator that takes `ms` to answer. */
function slowly(answer: object, ms = 2_000) {
  return () =>
    after(ms).then(() => {
      if (answer instanceof Error) throw answer
      return answer as typeof settled
    })
}

/** Until the facilitator has been asked. */
const begun = () => vi.advanceTimersByTimeAsync(1)

describe('a payment that is presented again while it is settled', () => {
  async function presentedTwice(answer: object, operation: 'verify' | 'settle', options = {}) {
    a.settleAnswer = slowly(answer)
    const aggregator = pool({}, options)
    const payment = newPayload()
    const first = outcome(aggregator.settle(payment, requirements()))
    await begun()
    const second = aggregator[operation](payment, requirements()).then(
      response => ('success' in response ? `refused: ${response.errorReason}` : response),
      (error: { code: string }) => error.code,
    )
    return done(Promise.all([first, second]))
  }

  for (const operation of ['verify', 'settle'] as const) {
    it(`waits for its end with ${operation}, and is told that the success was another request's`, async () => {
      expect(await presentedTwice(settled, operation)).toEqual(['success', 'SETTLEMENT_IN_PROGRESS'])
      expect(settleCalls()).toEqual([1, 0])
    })

    it(`is indeterminate with ${operation} too, when that is how it ends`, async () => {
      chain.answer = silent
      expect(await presentedTwice(httpError(502), operation, briefly)).toEqual([
        'SETTLEMENT_INDETERMINATE',
        'SETTLEMENT_INDETERMINATE',
      ])
    })
  }

  it('is invalid for the reason for which it was rejected', async () => {
    const [first, second] = await presentedTwice(refusal('insufficient_funds'), 'verify')
    expect(first).toBe('refused: insufficient_funds')
    expect(second).toEqual({ isValid: false, invalidReason: 'insufficient_funds', invalidMessage: '' })
    expect(await presentedTwice(refusal('insufficient_funds'), 'settle')).toEqual([
      'refused: insufficient_funds',
      'refused: insufficient_funds',
    ])
  })

  it('is in progress, after the time that a verify has, when its settlement takes longer', async () => {
    a.settleAnswer = slowly(settled, 20_000)
    const aggregator = pool({ probes: [] }, { deadlineMs: { verify: 500, settle: 30_000 } })
    const payment = newPayload()
    const first = settle(payment)
    await begun()
    const startedAt = Date.now()
    await expect(done(aggregator.verify(payment, requirements()))).rejects.toMatchObject({
      code: 'SETTLEMENT_IN_PROGRESS',
    })
    expect(Date.now() - startedAt).toBeLessThan(1_000)
    expect(await done(first)).toBe('success')
  })

  it('is in progress when another replica settles it', async () => {
    const ledger = new MemoryLedger()
    a.settleAnswer = slowly(settled)
    const payment = newPayload()
    const one = pool({ ledger })
    const other = pool({ ledger })
    const first = outcome(one.settle(payment, requirements()))
    await begun()
    expect(await outcome(other.settle(payment, requirements()))).toBe('SETTLEMENT_IN_PROGRESS')
    await expect(other.verify(payment, requirements())).rejects.toBeInstanceOf(SettlementInProgressError)
    expect(await done(first)).toBe('success')
    expect(await outcome(other.settle(payment, requirements()))).toBe('refused: duplicate_settlement')
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is a failure of the facilitators for upstream, whose middleware answers 502', () => {
    expect(new SettlementInProgressError()).toBeInstanceOf(FacilitatorResponseError)
  })

  it('is a duplicate when it was made for another purchase', async () => {
    a.settleAnswer = slowly(settled)
    const aggregator = pool()
    const payment = newPayload()
    const first = settle(payment)
    await begun()
    const cheaper = requirements({ amount: '1' })
    expect(await aggregator.settle(payment, cheaper)).toMatchObject({ errorReason: 'duplicate_settlement' })
    expect(await done(first)).toBe('success')
  })
})
