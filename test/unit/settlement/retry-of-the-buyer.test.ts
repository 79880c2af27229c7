/** The buyer sends an unresolved payment again: it is delivered once, and he never pays twice. */
import { describe, expect, it } from 'vitest'
import { type ChainReader, SettlementIndeterminateError } from '../../../src/index.ts'
import {
  done,
  hash,
  httpError,
  kind,
  newPayload,
  outcome,
  paid,
  payer,
  permit2Payload,
  refused,
  requirements,
  type SettlementByReaders,
  settled,
  silent,
  supporting,
  unspent,
} from '../builders.ts'
import { a, aggregator, b, briefly, chain, emitted, pool, settle, settleCalls } from './harness.ts'

describe("the buyer's retry of an unresolved payment", () => {
  async function unresolved(settlement: SettlementByReaders = {}) {
    a.settleAnswer = httpError(502)
    chain.answer = silent
    const aggregator = pool(settlement, briefly)
    const one = newPayload()
    await expect(done(aggregator.settle(one, requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    return { aggregator, one }
  }

  it('is valid without asking anybody, and delivers what was paid for, once', async () => {
    const { aggregator, one } = await unresolved()
    chain.answer = paid
    expect(await aggregator.verify(one, requirements())).toEqual({ isValid: true, payer })
    expect(a.calls.verify).toBe(0)
    expect(await done(aggregator.settle(one, requirements()))).toMatchObject({
      success: true,
      transaction: hash,
    })
    expect(await aggregator.verify(one, requirements())).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
    expect(await aggregator.settle(one, requirements())).toMatchObject({
      errorReason: 'duplicate_settlement',
    })
    expect(settleCalls()).toEqual([1, 0])
  })

  it('settles when the chain shows that it was never charged', async () => {
    const { aggregator, one } = await unresolved()
    chain.answer = unspent
    a.settleAnswer = settled
    expect(await done(aggregator.settle(one, requirements()))).toEqual(settled)
  })

  it('stays a 502 while the chain is silent', async () => {
    const { aggregator, one } = await unresolved()
    await expect(done(aggregator.settle(one, requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
  })

  it('is refused for other requirements: it is another purchase', async () => {
    const { aggregator, one } = await unresolved()
    chain.answer = paid
    const cheaper = requirements({ amount: '1' })
    expect(await aggregator.verify(one, cheaper)).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
    expect(await aggregator.settle(one, cheaper)).toMatchObject({ errorReason: 'duplicate_settlement' })
  })

  it('is refused with onRetry reject, which is announced to the seller', async () => {
    const { aggregator, one } = await unresolved({ onRetry: 'reject' })
    expect(await aggregator.verify(one, requirements())).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
    expect(emitted('settlement:indeterminate').at(-1)).toMatchObject({ isRetryRejected: true, payer })
  })

  it('stays a 502 without a probe: never a 402, never a second payment', async () => {
    a.settleAnswer = httpError(502)
    const aggregator = pool({ probes: [] })
    const one = newPayload()
    for (let i = 0; i < 3; i++) {
      if (i > 0) expect(await aggregator.verify(one, requirements())).toMatchObject({ isValid: true })
      await expect(done(aggregator.settle(one, requirements()))).rejects.toBeInstanceOf(
        SettlementIndeterminateError,
      )
    }
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is refused with onRetry reject though it was verified before', async () => {
    a.settleAnswer = httpError(502)
    chain.answer = silent
    pool({ onRetry: 'reject' }, briefly)
    const rejected: unknown[] = []
    aggregator.on('settlement:indeterminate', event => event.isRetryRejected && rejected.push(event))
    const payment = newPayload()
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    chain.answer = paid
    expect(await settle(payment)).toBe('refused: duplicate_settlement')
    expect(rejected).toHaveLength(1)
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    expect(a.calls.settle).toBe(1)
  })
})

describe('with upto, settled at less than was verified', () => {
  const terms = (amount: string) => requirements({ scheme: 'upto', amount })

  it("the buyer's retry is the same purchase, and its first settlement counts", async () => {
    a.supportedAnswer = supporting(kind({ scheme: 'upto' }))
    b.supportedAnswer = a.supportedAnswer
    const payment = permit2Payload()
    const asked: string[] = []
    const watching: ChainReader = {
      supports: () => true,
      ask: async ({ amount }) => {
        asked.push(amount)
        return chain.ask()
      },
    }
    a.settleAnswer = httpError(502)
    chain.answer = silent
    const aggregator = pool({ probes: [watching] }, briefly)
    expect((await aggregator.verify(payment, terms('10000'))).isValid).toBe(true)
    expect(await outcome(done(aggregator.settle(payment, terms('4000'))))).toBe('SETTLEMENT_INDETERMINATE')
    expect((await aggregator.verify(payment, terms('10000'))).isValid).toBe(true)
    chain.answer = paid
    expect(await outcome(done(aggregator.settle(payment, terms('5000'))))).toBe('success')
    expect(new Set(asked)).toEqual(new Set(['4000']))
  })
})

describe('with upto, settled at less the second time', () => {
  it.each([
    ['nothing was sent', refused()],
    ['it was left unresolved', httpError(502)],
  ])('what has moved counts, after %s', async (_, first) => {
    a.supportedAnswer = supporting(kind({ scheme: 'upto' }))
    b.supportedAnswer = a.supportedAnswer
    let moved = 0
    const counting: ChainReader = {
      supports: () => true,
      ask: async ({ amount }) => {
        if (moved === 0) return unspent
        return moved >= Number(amount) ? paid : { state: 'spent-otherwise', transaction: hash }
      },
    }
    const payment = permit2Payload()
    const aggregator = pool({ probes: [counting] }, { retries: 0, ...briefly })
    const settleAt = (amount: string) =>
      outcome(done(aggregator.settle(payment, requirements({ scheme: 'upto', amount }))))
    a.settleAnswer = first
    b.settleAnswer = first
    await settleAt('5000')
    const losesItsAnswer = () => {
      moved = 4_000
      throw httpError(502)
    }
    a.settleAnswer = losesItsAnswer
    b.settleAnswer = losesItsAnswer
    expect(await settleAt('4000')).toBe('success')
  })
})
