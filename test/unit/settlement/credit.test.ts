/** A charge that was not delivered is its payer's credit: his next purchase of the same thing uses it, once. */
import type { PaymentPayload } from '@x402/core/types'
import { describe, expect, it, vi } from 'vitest'
import { replyReports } from '../../../src/delivery/index.ts'
import { type FacilitatorAggregator, MemoryLedger, type SettlementOptions } from '../../../src/index.ts'
import {
  after,
  done,
  hash,
  httpError,
  ledgerWith,
  newPayload,
  outcome,
  paid,
  payer,
  refused,
  requirements,
  settled,
  silent,
  unspent,
} from '../builders.ts'
import {
  a,
  aggregator,
  b,
  briefly,
  chain,
  emitted,
  poolWithoutRetries,
  seconds,
  settle,
  settleBy,
  settleCalls,
} from './harness.ts'

const duplicate = 'refused: duplicate_settlement'

/** A payment that was settled, and whose reply was lost. */
async function undelivered(settlement: SettlementOptions = {}, payment = newPayload()) {
  const by = poolWithoutRetries(settlement)
  const replies = replyReports(by)
  expect(await settle(payment)).toBe('success')
  await replies.lost(payment)
  return { replies, payment }
}

/** A payment that may have been charged: its answers were lost, and the chain showed nothing. */
async function inDoubt(settlement: SettlementOptions = {}, payment = newPayload()) {
  a.settleAnswer = httpError(502)
  chain.answer = silent
  poolWithoutRetries(settlement, briefly)
  expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
  a.settleAnswer = settled
  return payment
}

function by(from: string, overrides: Partial<PaymentPayload> = {}): PaymentPayload {
  const payment = newPayload(overrides)
  const authorization = { ...(payment.payload.authorization as object), from }
  return { ...payment, payload: { ...payment.payload, authorization } }
}

const of = (url: string) => newPayload({ resource: { url } } as Partial<PaymentPayload>)

describe('a new payment of a payer whose reply was lost', () => {
  it('is not sent: the old charge is delivered, and its transaction named', async () => {
    const { payment: old } = await undelivered()
    expect(await aggregator.settle(newPayload(), requirements())).toEqual(settled)
    expect(settleCalls()).toEqual([1, 0])
    expect(emitted('settlement:credited')).toMatchObject([
      { payer, transaction: settled.transaction, chargedKey: expect.stringContaining(nonceOf(old)) },
    ])
  })

  it('is a duplicate from then on, as the old one is', async () => {
    const { payment: old } = await undelivered()
    const fresh = newPayload()
    expect(await settle(fresh)).toBe('success')
    expect(await settle(fresh)).toBe(duplicate)
    expect(await settle(old)).toBe(duplicate)
  })

  it('uses the old charge once: the next one is charged', async () => {
    await undelivered()
    expect(await settle()).toBe('success')
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
  })

  it('uses no charge whose redeliveries are used up, when its reply is lost too', async () => {
    const { replies, payment: old } = await undelivered()
    const fresh = newPayload()
    expect(await settle(fresh)).toBe('success')
    await replies.lost(fresh)
    await replies.lost(old)
    expect(await settle(fresh)).toBe(duplicate)
    expect(await settle(old)).toBe(duplicate)
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
  })

  it('leaves nothing to the old payment, whose reply is reported lost once more', async () => {
    const { replies, payment: old } = await undelivered({ redeliveries: 2 })
    expect(await settle()).toBe('success')
    await replies.lost(old)
    expect(await settle(old)).toBe(duplicate)
  })

  it('uses it once more where two redeliveries are allowed', async () => {
    const { replies } = await undelivered({ redeliveries: 2 })
    for (let i = 0; i < 2; i++) {
      const fresh = newPayload()
      expect(await settle(fresh)).toBe('success')
      await replies.lost(fresh)
    }
    expect(settleCalls()).toEqual([1, 0])
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
  })

  it('is one of many at the same time: one uses the charge, the others are charged', async () => {
    await undelivered()
    const all = [1, 2, 3, 4].map(() => outcome(aggregator.settle(newPayload(), requirements())))
    expect(await done(Promise.all(all))).toEqual(Array(4).fill('success'))
    expect(settleCalls()).toEqual([4, 0])
    expect(emitted('settlement:credited')).toHaveLength(1)
  })

  it('waits for an old one that is being settled, and abandoned', async () => {
    let answer = (_: typeof settled) => {}
    const by = poolWithoutRetries()
    const replies = replyReports(by)
    a.settleAnswer = () =>
      new Promise(resolve => {
        answer = resolve
      })
    const old = newPayload()
    const first = outcome(by.settle(old, requirements()))
    await vi.advanceTimersByTimeAsync(1)
    void replies.abandoned(old)
    const second = outcome(by.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(1)
    answer(settled)
    expect(await done(Promise.all([first, second]))).toEqual(['success', 'success'])
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is a 502 when the old one, abandoned while it was settled, ends in doubt', async () => {
    chain.answer = silent
    a.settleAnswer = () => after(100).then(() => Promise.reject(httpError(502)))
    const by = poolWithoutRetries({}, briefly)
    const replies = replyReports(by)
    const old = newPayload()
    const first = outcome(by.settle(old, requirements()))
    await vi.advanceTimersByTimeAsync(1)
    void replies.abandoned(old)
    expect(await done(first)).toBe('SETTLEMENT_INDETERMINATE')
    for (let i = 0; i < 2; i++) expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is charged while the old one is settled and nobody has left: two purchases are two purchases', async () => {
    replyReports(poolWithoutRetries())
    const both = [1, 2].map(() => outcome(aggregator.settle(newPayload(), requirements())))
    expect(await done(Promise.all(both))).toEqual(['success', 'success'])
    expect(settleCalls()).toEqual([2, 0])
  })

  it.each<[string, PaymentPayload, Parameters<typeof requirements>[0]]>([
    ['another payer', by(`0x${'33'.repeat(20)}`), {}],
    ['another amount', newPayload(), { amount: '10001' }],
    ['another payee', newPayload(), { payTo: `0x${'44'.repeat(20)}` }],
    ['another token', newPayload(), { asset: `0x${'55'.repeat(20)}` }],
    ['another resource', of('https://shop.example/other'), {}],
  ])('of %s is another purchase: it is charged', async (_, payment, terms) => {
    await undelivered({}, of('https://shop.example/goods'))
    expect(await settle(payment, requirements(terms))).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
  })

  it('uses the charge however its addresses are spelled', async () => {
    await undelivered()
    const { payTo, asset } = requirements()
    const terms = requirements({ payTo: payTo.toUpperCase().replace('X', 'x'), asset: asset.toLowerCase() })
    expect(await settle(newPayload(), terms)).toBe('success')
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is settled as any other when no facilitator finds its signature valid', async () => {
    await undelivered()
    a.verifyAnswer = { isValid: false, invalidReason: 'invalid_exact_evm_signature' }
    a.settleAnswer = {
      ...settled,
      success: false,
      errorReason: 'invalid_exact_evm_signature',
      transaction: '',
    }
    expect(await settle()).toBe('refused: invalid_exact_evm_signature')
    expect(emitted('settlement:credited')).toEqual([])
  })

  it('is a 502, and may come again, when no facilitator judges its signature', async () => {
    await undelivered()
    a.verifyAnswer = refused()
    b.verifyAnswer = refused()
    const fresh = newPayload()
    expect(await settle(fresh)).toBe('ALL_FACILITATORS_FAILED')
    a.verifyAnswer = { isValid: true, payer }
    expect(await settle(fresh)).toBe('success')
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is charged after ten minutes', async () => {
    await undelivered()
    vi.setSystemTime(Date.now() + 10 * 60_000)
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
  })

  it.each([{ credit: false }, { redeliveries: 0 }, { onRetry: 'reject' as const }])(
    'is charged with %o',
    async settlement => {
      await undelivered(settlement)
      expect(await settle()).toBe('success')
      expect(settleCalls()).toEqual([2, 0])
    },
  )

  it('asks neither facilitator nor ledger for more in the healthy case', async () => {
    const inner = new MemoryLedger()
    let reads = 0
    const get = (key: string) => {
      reads++
      return inner.get(key)
    }
    replyReports(poolWithoutRetries({ ledger: ledgerWith(inner, { get }) }))
    expect(await settle()).toBe('success')
    expect([a.calls, reads]).toEqual([{ verify: 0, settle: 1, supported: 0 }, 0])
  })
})

describe('a new payment of a payer who may have been charged', () => {
  it('is not sent when the chain shows that he was', async () => {
    await inDoubt()
    chain.answer = paid
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([1, 0])
    expect(emitted('settlement:credited')).toMatchObject([{ transaction: hash }])
    expect(await aggregator.getUnresolvedSettlements()).toEqual([])
  })

  it.each([
    ['shows the old one unspent: it may be charged yet', unspent],
    ['shows nothing', silent],
  ])('is a 502 while the chain %s; nothing is sent', async (_, answer) => {
    await inDoubt()
    chain.answer = answer
    const fresh = newPayload()
    expect(await settle(fresh)).toBe('SETTLEMENT_INDETERMINATE')
    expect(settleCalls()).toEqual([1, 0])
    chain.answer = paid
    expect(await settle(fresh)).toBe('success')
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is charged when the old one was spent otherwise', async () => {
    await inDoubt()
    chain.answer = { state: 'spent-otherwise' }
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
    expect(await aggregator.getUnresolvedSettlements()).toEqual([])
  })

  it('is charged when the old one has expired', async () => {
    await inDoubt()
    vi.setSystemTime(Date.now() + 3_600_000)
    chain.answer = { state: 'unspent', asOf: seconds() }
    expect(await settle(withoutEnd())).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
  })

  it('without a probe is a 502 for ten minutes, and charged after that', async () => {
    await inDoubt({ probes: [] })
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(settleCalls()).toEqual([1, 0])
    vi.setSystemTime(Date.now() + 10 * 60_000 + 1)
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
  })

  it('uses another charge of his that is known, though one is in doubt', async () => {
    chain.answer = silent
    const by = poolWithoutRetries({}, briefly)
    const replies = replyReports(by)
    a.settleAnswer = () => {
      a.settleAnswer = settled
      throw httpError(502)
    }
    const known = newPayload()
    const both = [newPayload(), known].map(one => outcome(by.settle(one, requirements())))
    expect(await done(Promise.all(both))).toEqual(['SETTLEMENT_INDETERMINATE', 'success'])
    await replies.lost(known)
    expect(await settle()).toBe('success')
    expect(settleCalls()).toEqual([2, 0])
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  })
})

describe('replicas that share a ledger', () => {
  it('use what another one has left undelivered, once', async () => {
    const shared = new MemoryLedger()
    await undelivered({ ledger: ledgerWith(shared, {}) })
    const replicas: FacilitatorAggregator[] = [1, 2, 3].map(() =>
      poolWithoutRetries({ ledger: ledgerWith(shared, {}) }),
    )
    const all = replicas.map(replica => settleBy(replica))
    expect(await Promise.all(all)).toEqual(Array(3).fill('success'))
    expect(settleCalls()).toEqual([3, 0])
  })

  it('take over what one that died was settling, when the chain shows that it was paid', async () => {
    const shared = new MemoryLedger()
    poolWithoutRetries({ ledger: ledgerWith(shared, {}) })
    a.settleAnswer = () => new Promise(() => {})
    aggregator.settle(newPayload(), requirements()).catch(() => {})
    await vi.advanceTimersByTimeAsync(1)
    a.settleAnswer = settled
    vi.setSystemTime(Date.now() + 120_000)
    chain.answer = paid
    const replica = poolWithoutRetries({ ledger: ledgerWith(shared, {}) })
    expect(await settleBy(replica)).toBe('success')
    expect(settleCalls()).toEqual([1, 0])
  })

  it('refuse to settle while the ledger does not say what is undelivered', async () => {
    const ledger = ledgerWith(new MemoryLedger(), {
      undelivered: async () => {
        throw new Error('connection lost')
      },
    })
    poolWithoutRetries({ ledger })
    expect(await settle()).toBe('LEDGER_FAILED')
    expect(settleCalls()).toEqual([0, 0])
  })
})

function nonceOf(payment: PaymentPayload): string {
  return (payment.payload.authorization as { nonce: string }).nonce
}

/** A payment whose authorization is valid for as long as need be. */
function withoutEnd(): PaymentPayload {
  const payment = newPayload()
  const authorization = { ...(payment.payload.authorization as object), validBefore: '4000000000' }
  return { ...payment, payload: { ...payment.payload, authorization } }
}
