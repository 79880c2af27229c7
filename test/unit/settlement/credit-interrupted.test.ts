/** Credit whose process dies, whose buyer leaves, whose ledger forgets, or that many earlier payments are asked for. */
import type { PaymentPayload } from '@x402/core/types'
import { describe, expect, it, vi } from 'vitest'
import { replyReports } from '../../../src/delivery/index.ts'
import { MemoryLedger, type ProbeAnswer, type SettlementOptions } from '../../../src/index.ts'
import {
  done,
  hanging,
  httpError,
  ledgerWith,
  newPayload,
  outcome,
  paid,
  permit2Payload,
  requirements,
  settled,
  silent,
  unspent,
} from '../builders.ts'
import { a, aggregator, briefly, chain, poolWithoutRetries, settle, settleCalls } from './harness.ts'

const insufficient: typeof settled = {
  ...settled,
  success: false,
  errorReason: 'insufficient_funds',
  transaction: '',
}
const duplicate = 'refused: duplicate_settlement'

/** What the chain has charged, by nonce; a settle charges unless a test says otherwise. */
function chargingChain() {
  const charged = new Set<string>()
  const probe = {
    supports: () => true,
    ask: async ({ nonce }: { nonce: string }): Promise<ProbeAnswer> => (charged.has(nonce) ? paid : unspent),
  }
  return { charged, probe }
}

function nonceOf(payment: PaymentPayload): string {
  return (payment.payload.authorization as { nonce: string }).nonce
}

/** A payment that may have been charged: the answer to it was lost. */
async function inDoubt(settlement: SettlementOptions = {}, payment = newPayload()) {
  a.settleAnswer = httpError(502)
  chain.answer = silent
  poolWithoutRetries(settlement, briefly)
  expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
  a.settleAnswer = settled
  return payment
}

/** A payment that is being settled, whose buyer leaves at once; `answer` ends it. */
async function abandonedWhileSettled(settlement: SettlementOptions = {}, options = {}) {
  const by = poolWithoutRetries(settlement, options)
  const replies = replyReports(by)
  let answer = (_: typeof settled | Error) => {}
  a.settleAnswer = () =>
    new Promise((resolve, reject) => {
      answer = ended => (ended instanceof Error ? reject(ended) : resolve(ended))
    })
  const payment = newPayload()
  const first = outcome(by.settle(payment, requirements()))
  await vi.advanceTimersByTimeAsync(1)
  void replies.abandoned(payment)
  a.settleAnswer = settled
  return { by, replies, first, answer: (ended: typeof settled | Error) => answer(ended) }
}

describe('a process that dies while it delivers for an earlier charge', () => {
  it.each([1, 2])('leaves the charge to the next purchase, after %i of its records', async recordsLeft => {
    const { charged, probe } = chargingChain()
    const inner = new MemoryLedger()
    let left = Number.POSITIVE_INFINITY
    const dying = poolWithoutRetries({
      probes: [probe],
      ledger: ledgerWith(inner, {
        update: update => (left-- > 0 ? inner.update(update) : hanging()),
      }),
    })
    const replies = replyReports(dying)
    const old = newPayload()
    expect(await settle(old)).toBe('success')
    charged.add(nonceOf(old))
    await replies.lost(old)
    left = recordsLeft - 1
    dying.settle(newPayload(), requirements()).catch(() => {})
    await vi.advanceTimersByTimeAsync(1)
    vi.setSystemTime(Date.now() + 120_000)
    poolWithoutRetries({ probes: [probe], ledger: inner })
    for (let i = 0; i < 12 && (await settle()) !== 'success'; i++) vi.setSystemTime(Date.now() + 120_000)
    expect(settleCalls()).toEqual([1, 0])
  })

  it('leaves nothing to the payment that was to use it, should its buyer have left', async () => {
    const inner = new MemoryLedger()
    let isLapsed = false
    const by = poolWithoutRetries({
      ledger: ledgerWith(inner, {
        // Another replica has taken the old payment over, when the new one is recorded.
        update: update =>
          isLapsed && update.settlement.state === 'settled' && update.key.includes(nonceOf(old))
            ? Promise.resolve(false)
            : inner.update(update),
      }),
    })
    const replies = replyReports(by)
    const old = newPayload()
    expect(await settle(old)).toBe('success')
    await replies.lost(old)
    isLapsed = true
    const fresh = newPayload()
    let judge = (_: { isValid: boolean }) => {}
    a.verifyAnswer = () => new Promise(resolve => (judge = resolve))
    const settling = outcome(by.settle(fresh, requirements()))
    await vi.advanceTimersByTimeAsync(1)
    const reported = replies.abandoned(fresh)
    judge({ isValid: true })
    expect(await done(settling)).toBe('SETTLEMENT_INDETERMINATE')
    await done(reported)
    expect(await settle(fresh)).toBe(duplicate)
  })
})

describe('a payer whose earlier payments are in doubt', () => {
  it('is answered while the claim of his new payment holds, however many they are', async () => {
    a.settleAnswer = httpError(502)
    chain.answer = silent
    poolWithoutRetries({}, briefly)
    const all = Array.from({ length: 30 }, () => outcome(aggregator.settle(newPayload(), requirements())))
    expect(await done(Promise.all(all))).toEqual(Array(30).fill('SETTLEMENT_INDETERMINATE'))
    chain.answer = unspent
    const beganAt = Date.now()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(Date.now() - beganAt).toBeLessThan(10_000)
  })

  it('gets what is known to be his before the chain is asked about the others', async () => {
    chain.answer = silent
    a.settleAnswer = httpError(502)
    const by = poolWithoutRetries({}, briefly)
    const known = newPayload()
    const first = outcome(by.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(100)
    a.settleAnswer = settled
    expect(await done(outcome(by.settle(known, requirements())))).toBe('success')
    expect(await done(first)).toBe('SETTLEMENT_INDETERMINATE')
    await replyReports(by).lost(known)
    const asked = chain.questions
    expect(await settle()).toBe('success')
    expect([settleCalls(), chain.questions]).toEqual([[2, 0], asked])
  })

  it('is charged again when the old authorization has ended, though the chain never tells whose charge it was', async () => {
    const inner = new MemoryLedger()
    await inDoubt({ ledger: ledgerWith(inner, {}) })
    chain.answer = { state: 'cannot-tell', reason: 'paid at about the time of its claim', undatable: '0x1' }
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(settleCalls()).toEqual([1, 0])
    vi.setSystemTime(Date.now() + 3_600_000)
    const unending = newPayload()
    Object.assign(unending.payload.authorization as object, { validBefore: '4000000000' })
    expect(await settle(unending)).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })

  it('is not charged again with upto, whose facilitators verify the maximum that was signed', async () => {
    const terms = (amount: string) => requirements({ scheme: 'upto', amount })
    const signed = () => {
      const payment = permit2Payload(`${++nonces}`)
      return { ...payment, accepted: terms('10000') }
    }
    let nonces = 0
    poolWithoutRetries({}, briefly)
    a.settleAnswer = httpError(502)
    chain.answer = silent
    a.verifyAnswer = { isValid: false, invalidReason: 'invalid_permit2_amount' }
    const verify = a.verify.bind(a)
    a.verify = async (payment, asked) => {
      const { amount } = asked as { amount: string }
      a.verifyAnswer = { isValid: amount === '10000' }
      return verify(payment, asked)
    }
    expect(await settle(signed(), terms('400'))).toBe('SETTLEMENT_INDETERMINATE')
    expect(await settle(signed(), terms('400'))).toBe('SETTLEMENT_INDETERMINATE')
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is not charged again when the store has lost the earlier payment, which this process remembers', async () => {
    let inner = new MemoryLedger()
    const forgetful = ledgerWith(inner, {
      claim: request => inner.claim(request),
      update: update => inner.update(update),
      get: key => inner.get(key),
      list: filter => inner.list(filter),
      undelivered: query => inner.undelivered(query),
    })
    await inDoubt({ ledger: forgetful })
    inner = new MemoryLedger()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(settleCalls()).toEqual([1, 0])
    chain.answer = paid
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([1, 0])
  })
})

describe('a buyer who leaves while his new payment waits for the old one', () => {
  it('leaves the charge to the payment that he waits for', async () => {
    const { by, replies, first, answer } = await abandonedWhileSettled()
    const left = newPayload()
    const second = outcome(by.settle(left, requirements()))
    await vi.advanceTimersByTimeAsync(1)
    void replies.abandoned(left)
    const third = outcome(by.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(1)
    answer(settled)
    expect(await done(Promise.all([first, second, third]))).toEqual([
      'success',
      'ALL_FACILITATORS_FAILED',
      'success',
    ])
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is not charged: nothing is sent for nobody', async () => {
    const { by, replies, first, answer } = await abandonedWhileSettled()
    const left = newPayload()
    const second = outcome(by.settle(left, requirements()))
    await vi.advanceTimersByTimeAsync(1)
    void replies.abandoned(left)
    answer(insufficient)
    await done(Promise.all([first, second]))
    expect(settleCalls()).toEqual([1, 0])
  })
})

describe('a payment that waits for an earlier one', () => {
  it('ends by its own deadline', async () => {
    const options = { timeoutMs: { settle: 60_000 }, deadlineMs: { settle: 60_000 } }
    const { by, first, answer } = await abandonedWhileSettled({ probes: [] }, options)
    const beganAt = Date.now()
    const second = outcome(by.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(50_000)
    a.settleAnswer = hanging
    answer(insufficient)
    expect(await first).toBe('refused: insufficient_funds')
    expect(await done(second)).toBe('SETTLEMENT_INDETERMINATE')
    expect(Date.now() - beganAt).toBeLessThan(61_000)
  })
})
