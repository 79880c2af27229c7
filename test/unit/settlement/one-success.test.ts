/** Invariant 1: for one payment `settle` reports success once, whoever sends it, however often (DESIGN.md 3). */
import { describe, expect, it, vi } from 'vitest'
import { MemoryLedger } from '../../../src/index.ts'
import {
  after,
  done,
  hash,
  kind,
  ledgerWith,
  newPayload,
  newSvmPayload,
  outcome,
  paid,
  payer,
  permit2Payload,
  refusal,
  refused,
  requirements,
  settled,
  supporting,
  svmTransaction,
} from '../builders.ts'
import { a, b, chain, pool, settle, settleCalls } from './harness.ts'

describe('one payment has one success', () => {
  it('however often it is sent at the same time, and afterwards', async () => {
    a.settleAnswer = () => new Promise(resolve => setTimeout(() => resolve(settled), 100))
    const aggregator = pool()
    const one = newPayload()
    const answers = await done(Promise.all(Array.from({ length: 50 }, () => settle(one))))
    expect(answers.filter(answer => answer === 'success')).toHaveLength(1)
    expect(answers.filter(answer => answer === 'SETTLEMENT_IN_PROGRESS')).toHaveLength(49)
    expect(await settle(one)).toBe('refused: duplicate_settlement')
    expect(settleCalls()).toEqual([1, 0])
    expect(await aggregator.verify(one, requirements())).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
    expect(a.calls.verify).toBe(0)
  })

  it('and none after a rejection', async () => {
    a.settleAnswer = refusal('insufficient_funds')
    const aggregator = pool()
    const one = newPayload()
    expect(await done(aggregator.settle(one, requirements()))).toEqual(a.settleAnswer)
    a.settleAnswer = settled
    expect(await aggregator.settle(one, requirements())).toMatchObject({
      errorReason: 'duplicate_settlement',
    })
  })

  it('though it may be settled again after trouble, and what was charged all the same is found', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refused()
    const aggregator = pool({}, { retries: 0 })
    const one = newPayload()
    await expect(done(aggregator.settle(one, requirements()))).rejects.toMatchObject({
      code: 'ALL_FACILITATORS_FAILED',
    })
    const used = 'invalid_exact_evm_nonce_already_used'
    a.verifyAnswer = { isValid: false, invalidReason: used }
    a.settleAnswer = refusal(used)
    chain.answer = paid
    expect(await aggregator.verify(one, requirements())).toEqual({ isValid: true, payer })
    expect(await done(aggregator.settle(one, requirements()))).toMatchObject({
      success: true,
      transaction: hash,
    })
    expect(await aggregator.verify(one, requirements())).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
  })

  it('though it may be settled again when no facilitator was reached', async () => {
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    const aggregator = pool()
    const one = newPayload()
    await expect(done(aggregator.settle(one, requirements()))).rejects.toThrow(/nothing was charged/)
    a.settleAnswer = settled
    expect(await aggregator.verify(one, requirements())).toMatchObject({ isValid: true })
    expect(a.calls.verify).toBe(1)
    expect(await done(aggregator.settle(one, requirements()))).toEqual(settled)
  })

  it('and none when its payload has two authorizations: nothing is sent', async () => {
    const { payload: both } = permit2Payload()
    const double = () => ({ ...newPayload(), payload: { ...newPayload().payload, ...both } })
    const aggregator = pool()
    for (let i = 0; i < 2; i++)
      expect(await outcome(aggregator.settle(double(), requirements()))).toBe('INVALID_PAYMENT')
    expect(a.calls.settle).toBe(0)
  })

  it('when the clock jumps past a lease while its settlement runs', async () => {
    const ledger = new MemoryLedger()
    const payment = newPayload()
    a.settleAnswer = async () => {
      await after(1_000)
      return settled
    }
    const first = outcome(pool({ ledger }).settle(payment, requirements()))
    await vi.advanceTimersByTimeAsync(10)
    vi.setSystemTime(Date.now() + 91_000)
    chain.answer = paid
    const second = outcome(done(pool({ ledger }).settle(payment, requirements())))
    expect([await second, await done(first)]).toEqual(['success', 'SETTLEMENT_INDETERMINATE'])
  })

  it('when the ledger takes longer than a lease to store it', async () => {
    const ledger = new MemoryLedger()
    const slow = ledgerWith(ledger, {
      update: async update => {
        await after(95_000)
        return ledger.update(update)
      },
    })
    const payment = newPayload()
    const first = await done(outcome(pool({ ledger: slow }).settle(payment, requirements())))
    expect(first).toBe('success')
    expect(await outcome(pool({ ledger }).settle(payment, requirements()))).toBe('SETTLEMENT_IN_PROGRESS')
  })

  it('when the ledger could not store it at first, as it is stored later', async () => {
    const ledger = new MemoryLedger()
    let isDown = true
    const failing = ledgerWith(ledger, {
      update: update => (isDown ? Promise.reject(new Error('down')) : ledger.update(update)),
    })
    const payment = newPayload()
    expect(await outcome(pool({ ledger: failing }).settle(payment, requirements()))).toBe('success')
    isDown = false
    await vi.advanceTimersByTimeAsync(10_000)
    await vi.advanceTimersByTimeAsync(81_000)
    chain.answer = paid
    expect(await outcome(done(pool({ ledger }).settle(payment, requirements())))).toBe(
      'refused: duplicate_settlement',
    )
  })

  const exotic = requirements({ scheme: 'exotic' })

  it('where its replay protection is not known, unless two phases of one payload are two settlements', async () => {
    const aggregator = pool()
    const one = newPayload()
    const escrow = requirements({ extra: { paymentFlow: 'escrow' } })
    expect(await aggregator.settle(one, escrow)).toEqual(settled)
    expect(await aggregator.settle(one, escrow)).toEqual(settled)
    expect(await aggregator.settle(one, exotic)).toEqual(settled)
    expect(await aggregator.settle(one, exotic)).toMatchObject({ errorReason: 'duplicate_settlement' })
  })

  it('on Solana, whatever is appended to the bytes of its transaction', async () => {
    const solana = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'
    a.supportedAnswer = supporting(kind({ network: solana }))
    b.supportedAnswer = a.supportedAnswer
    pool({ probes: [] })
    const terms = requirements({ network: solana })
    const bytes = svmTransaction(9, 77)
    const spellings = [bytes, [...bytes, 0], bytes].map(spelling => settle(newSvmPayload(spelling), terms))
    expect(await Promise.all(spellings)).toEqual([
      'success',
      'INVALID_PAYMENT',
      'refused: duplicate_settlement',
    ])
  })
})

describe('a payload whose other authorization is null', () => {
  it.each([
    ['EIP-3009', () => ({ ...newPayload().payload, permit2Authorization: null })],
    ['Permit2', () => ({ ...permit2Payload('901').payload, authorization: null })],
  ])('has one authorization: %s', async (_, content) => {
    const payment = { ...newPayload(), payload: content() }
    expect(await outcome(done(pool().settle(payment, requirements())))).toBe('success')
  })
})
