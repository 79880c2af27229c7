import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  type AggregatorEvents,
  type AggregatorOptions,
  LedgerError,
  MemoryLedger,
  type ProbeAnswer,
  SettlementIndeterminateError,
  type SettlementOptions,
  type SettlementProbe,
} from '../../src/index.ts'
import {
  after,
  aggregatorOf,
  type ChainScript,
  done,
  FakeFacilitator,
  hanging,
  hash,
  httpError,
  ledgerWith,
  newPayload,
  nextAnswer,
  paid,
  paidAt,
  payer,
  payload,
  probeOf,
  refusal,
  refused,
  requirements,
  settled,
  silent,
  unspent,
} from './builders.ts'

const spentOtherwise: ProbeAnswer = { state: 'spent-otherwise' }

let a: FakeFacilitator
let b: FakeFacilitator
let chain: ChainScript
let questions: number
let events: [string, unknown][]

const probe = probeOf(() => {
  questions++
  return nextAnswer(chain)
})

function pool(settlement: SettlementOptions = {}, options: Partial<AggregatorOptions> = {}) {
  const aggregator = aggregatorOf({ a, b }, { probes: [probe], ...settlement }, options)
  for (const name of [
    'settlement:recovered',
    'settlement:indeterminate',
    'settlement:resolved',
    'facilitator:quarantined',
    'failover',
  ] as const)
    aggregator.on(name, (event: AggregatorEvents[typeof name]) => events.push([name, event]))
  return aggregator
}
const told = (name: string) => events.filter(([event]) => event === name).map(([, data]) => data)
const settleCalls = () => [a.calls.settle, b.calls.settle]

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  b = new FakeFacilitator()
  chain = unspent
  questions = 0
  events = []
})
afterEach(() => {
  vi.useRealTimers()
})

describe('a settlement, with a probe', () => {
  it('does not ask the chain on the fast path', async () => {
    expect(await pool().settle(newPayload(), requirements())).toEqual(settled)
    expect(questions).toBe(0)
  })

  it.each([
    ['502', httpError(502)],
    ['garbage', { success: true } as never],
    ['a failed transaction', refusal('invalid_exact_evm_transaction_failed', hash)],
    ['a pending one', refusal('settlement_pending', hash)],
  ])('is a success after %s, when the chain says that it was paid', async (_, answer) => {
    a.settleAnswer = answer
    chain = paid
    expect(await done(pool().settle(newPayload(), requirements()))).toEqual({
      success: true,
      transaction: hash,
      network: requirements().network,
      payer,
    })
    expect(settleCalls()).toEqual([1, 0])
    expect(told('settlement:recovered')).toHaveLength(1)
  })

  it('goes on to the next facilitator when the chain says that it was not', async () => {
    a.settleAnswer = httpError(502)
    expect(await done(pool().settle(newPayload(), requirements()))).toEqual(settled)
    expect(settleCalls()).toEqual([1, 1])
  })

  it('asks them all again when all have failed and the chain says that nothing came of it', async () => {
    a.settleAnswer = httpError(502)
    let calls = 0
    b.settleAnswer = () => {
      if (++calls === 1) throw httpError(502)
      return settled
    }
    expect(await done(pool().settle(newPayload(), requirements()))).toEqual(settled)
    expect(settleCalls()).toEqual([2, 2])
  })

  it('is a rejection when the authorization was used otherwise', async () => {
    a.settleAnswer = httpError(502)
    chain = spentOtherwise
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: false })
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is a rejection when the chain knows it from before the settlement began: that is a replay', async () => {
    a.settleAnswer = hanging
    chain = paidAt(Date.now() / 1000 - 61)
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: false })
    chain = paidAt(Date.now() / 1000 - 1)
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: true })
  })

  it('waits for the chain to answer, and takes silence for nothing', async () => {
    a.settleAnswer = httpError(502)
    chain = [silent, silent, silent, paid]
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: true })
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is indeterminate at the deadline when the chain stays silent, and nobody else is asked', async () => {
    a.settleAnswer = httpError(502)
    chain = silent
    const startedAt = performance.now()
    await expect(done(pool().settle(newPayload(), requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(performance.now() - startedAt).toBeLessThanOrEqual(60_100)
    expect(settleCalls()).toEqual([1, 0])
  })

  it('ends at the deadline even if the probe never answers', async () => {
    a.settleAnswer = httpError(502)
    const deaf: SettlementProbe = { supports: () => true, ask: () => new Promise(() => {}) }
    const startedAt = performance.now()
    await expect(done(pool({ probes: [deaf] }).settle(newPayload(), requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(performance.now() - startedAt).toBeLessThanOrEqual(60_100)
  })

  it('that meets a fault of a probe is indeterminate, not refused', async () => {
    const broken: SettlementProbe = {
      supports: () => {
        throw new Error('bug')
      },
      ask: async () => unspent,
    }
    await expect(pool({ probes: [broken] }).settle(newPayload(), requirements())).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    const throwing: SettlementProbe = { supports: () => true, ask: () => Promise.reject(new Error('bug')) }
    a.settleAnswer = httpError(502)
    await expect(
      done(pool({ probes: [throwing] }).settle(newPayload(), requirements())),
    ).rejects.toBeInstanceOf(SettlementIndeterminateError)
  })

  it('is done when the chain says so, not when a hanging facilitator gets round to answering', async () => {
    a.settleAnswer = hanging
    chain = [unspent, paid]
    const startedAt = performance.now()
    const ledger = ledgerWith(new MemoryLedger(), {})
    const settlement = pool({ ledger }).settle(newPayload(), requirements())
    expect(await done(settlement)).toMatchObject({ transaction: hash })
    expect(performance.now() - startedAt).toBeLessThan(2_500)
    expect(settleCalls()).toEqual([1, 0])
  })

  it('gives a facilitator failoverAfterMs to account for itself where a replica may have its own ledger', async () => {
    a.settleAnswer = hanging
    chain = [unspent, paid]
    const startedAt = performance.now()
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ transaction: hash })
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(5_000)
    expect(performance.now() - startedAt).toBeLessThan(5_200)
    expect(settleCalls()).toEqual([1, 0])
  })

  it('delivers nothing that a replica has paid while the facilitator was still at work', async () => {
    const own = `0x${'77'.repeat(32)}`
    a.settleAnswer = async () => {
      await after(4_000)
      return refusal('invalid_exact_evm_transaction_failed', own)
    }
    chain = [unspent, paid]
    await expect(done(pool().settle(newPayload(), requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(settleCalls()).toEqual([1, 0])
  })

  it('overtakes a facilitator that hangs after failoverAfterMs, which stays open', async () => {
    let answer = (_: typeof settled) => {}
    a.settleAnswer = () => new Promise(resolve => (answer = resolve))
    b.settleAnswer = hanging
    const startedAt = performance.now()
    const settlement = pool().settle(newPayload(), requirements())
    await vi.advanceTimersByTimeAsync(7_500)
    expect(settleCalls()).toEqual([1, 1])
    answer(settled)
    expect(await done(settlement)).toEqual(settled)
    expect(performance.now() - startedAt).toBeLessThan(8_000)
    expect(told('failover')).toEqual([
      expect.objectContaining({ from: 'a', to: 'b', reason: 'no answer within 5000 ms' }),
    ])
  })

  it('does not believe "nonce used" from the next: it was our own payment', async () => {
    a.settleAnswer = hanging
    b.settleAnswer = () => {
      chain = paid
      return refusal('invalid_exact_evm_nonce_already_used')
    }
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({
      success: true,
      transaction: hash,
    })
  })

  it.each(['failed_to_execute_transfer', 'batch_send_failed'])(
    'does not believe %s when the chain says otherwise',
    async reason => {
      a.settleAnswer = refusal(reason)
      b.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
      chain = paid
      expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: true })
      a = new FakeFacilitator({ settleAnswer: refusal(reason) })
      b = new FakeFacilitator({ settleAnswer: refused() })
      expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: true })
    },
  )

  it('is not rejected by a verdict while an attempt is open that may still charge', async () => {
    let answer = (_: typeof settled) => {}
    a.settleAnswer = () => new Promise(resolve => (answer = resolve))
    b.settleAnswer = refusal('insufficient_funds')
    const settlement = pool().settle(newPayload(), requirements())
    await vi.advanceTimersByTimeAsync(10_000)
    expect(settleCalls()).toEqual([1, 1])
    answer(settled)
    expect(await done(settlement)).toEqual(settled)
  })

  it('is rejected by that verdict once the open attempt has ended without acting', async () => {
    a.settleAnswer = () => new Promise((_, reject) => setTimeout(() => reject(refused()), 9_000))
    b.settleAnswer = refusal('insufficient_funds')
    expect(await done(pool({}, { retries: 0 }).settle(newPayload(), requirements()))).toEqual(b.settleAnswer)
  })

  it('is rejected for good once the authorization has run out unused', async () => {
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    chain = { state: 'unspent', asOf: 4_000_000_000 }
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({
      success: false,
      errorReason: 'payment_expired',
    })
  })
})

describe('audit', () => {
  it('quarantines a facilitator whose success the chain does not know, and goes on', async () => {
    a.settleAnswer = settled
    const aggregator = pool({ audit: 'always' })
    b.settleAnswer = () => {
      chain = paid
      return { ...settled, transaction: hash }
    }
    expect(await done(aggregator.settle(newPayload(), requirements()))).toMatchObject({ transaction: hash })
    expect(told('facilitator:quarantined')).toEqual([
      { facilitator: 'a', network: requirements().network, transaction: settled.transaction },
    ])
    await done(aggregator.settle(newPayload(), requirements()))
    expect(settleCalls()).toEqual([1, 2])
    aggregator.setFacilitatorEnabled('a', true)
    await done(aggregator.settle(newPayload(), requirements()))
    expect(settleCalls()).toEqual([2, 2])
  })

  it('believes the chain, and gives it time to see the transaction', async () => {
    chain = [unspent, unspent, paid]
    expect(await done(pool({ audit: 'always' }).settle(newPayload(), requirements()))).toEqual({
      ...settled,
      transaction: hash,
    })
    expect(told('facilitator:quarantined')).toEqual([])
  })

  it('does not take for a lie what a reorganization took back', async () => {
    chain = [{ state: 'cannot-tell', reason: '1 of 3 confirmations', isMined: true }, unspent]
    b.settleAnswer = () => {
      chain = paid
      return settled
    }
    expect(await done(pool({ audit: 'always' }).settle(newPayload(), requirements()))).toMatchObject({
      success: true,
    })
    expect(settleCalls()).toEqual([1, 1])
    expect(told('facilitator:quarantined')).toEqual([])
  })

  it('looks up about a tenth with sample', async () => {
    chain = paid
    const aggregator = pool({ audit: 'sample' })
    for (let i = 0; i < 500; i++) await done(aggregator.settle(newPayload(), requirements()))
    expect(questions).toBeGreaterThan(15)
    expect(questions).toBeLessThan(120)
  })
})

describe('a payment delivers once', () => {
  it('however often it is sent at the same time, and afterwards', async () => {
    a.settleAnswer = () => new Promise(resolve => setTimeout(() => resolve(settled), 100))
    const aggregator = pool()
    const one = newPayload()
    const answers = await done(
      Promise.all(Array.from({ length: 50 }, () => aggregator.settle(one, requirements()))),
    )
    answers.push(await aggregator.settle(one, requirements()))
    expect(answers.filter(answer => answer.success)).toHaveLength(1)
    expect(answers.filter(answer => answer.errorReason === 'duplicate_settlement')).toHaveLength(50)
    expect(settleCalls()).toEqual([1, 0])
    expect(await aggregator.verify(one, requirements())).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
    expect(a.calls.verify).toBe(0)
  })

  it('after a rejection not at all', async () => {
    a.settleAnswer = refusal('insufficient_funds')
    const aggregator = pool()
    const one = newPayload()
    await done(aggregator.settle(one, requirements()))
    a.settleAnswer = settled
    expect(await aggregator.settle(one, requirements())).toMatchObject({
      errorReason: 'duplicate_settlement',
    })
  })

  it('may be tried again after trouble, and what was charged all the same is found', async () => {
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
    chain = paid
    expect(await aggregator.verify(one, requirements())).toEqual({ isValid: true, payer })
    expect(await done(aggregator.settle(one, requirements()))).toMatchObject({
      success: true,
      transaction: hash,
    })
    expect(await aggregator.verify(one, requirements())).toMatchObject({ isValid: false })
  })

  it('may be tried again when nobody was reached', async () => {
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    const aggregator = pool()
    const one = newPayload()
    await done(aggregator.settle(one, requirements())).catch(() => undefined)
    a.settleAnswer = settled
    expect(await aggregator.verify(one, requirements())).toMatchObject({ isValid: true })
    expect(a.calls.verify).toBe(1)
    expect(await done(aggregator.settle(one, requirements()))).toEqual(settled)
  })
})

describe("the buyer's retry of an unresolved payment", () => {
  async function unresolved(settlement: SettlementOptions = {}) {
    a.settleAnswer = httpError(502)
    chain = silent
    const aggregator = pool(settlement, { deadlineMs: { settle: 3_000 } })
    const one = newPayload()
    await expect(done(aggregator.settle(one, requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    return { aggregator, one }
  }

  it('is valid without asking anybody, and delivers what was paid for, once', async () => {
    const { aggregator, one } = await unresolved()
    chain = paid
    expect(await aggregator.verify(one, requirements())).toEqual({ isValid: true, payer })
    expect(a.calls.verify).toBe(0)
    expect(await done(aggregator.settle(one, requirements()))).toMatchObject({
      success: true,
      transaction: hash,
    })
    expect(await aggregator.verify(one, requirements())).toMatchObject({ isValid: false })
    expect(await aggregator.settle(one, requirements())).toMatchObject({
      errorReason: 'duplicate_settlement',
    })
    expect(settleCalls()).toEqual([1, 0])
  })

  it('settles when the chain says that it was never charged', async () => {
    const { aggregator, one } = await unresolved()
    chain = unspent
    a.settleAnswer = settled
    expect(await done(aggregator.settle(one, requirements()))).toEqual(settled)
  })

  it('stays a 502 while nobody can tell', async () => {
    const { aggregator, one } = await unresolved()
    await expect(done(aggregator.settle(one, requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
  })

  it('is refused for other requirements: it is another purchase', async () => {
    const { aggregator, one } = await unresolved()
    chain = paid
    const cheaper = requirements({ amount: '1' })
    expect(await aggregator.verify(one, cheaper)).toMatchObject({ isValid: false })
    expect(await aggregator.settle(one, cheaper)).toMatchObject({ errorReason: 'duplicate_settlement' })
  })

  it('is refused with onRetry reject, and the seller is told', async () => {
    const { aggregator, one } = await unresolved({ onRetry: 'reject' })
    expect(await aggregator.verify(one, requirements())).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
    expect(told('settlement:indeterminate').at(-1)).toMatchObject({ isRetryRejected: true, payer })
  })

  it('is listed for the seller until then, and at stop', async () => {
    const { aggregator } = await unresolved()
    const left = { network: requirements().network, payer, amount: '10000', payTo: requirements().payTo }
    expect(await aggregator.getUnresolvedSettlements()).toEqual([expect.objectContaining(left)])
    expect(vi.getTimerCount()).toBe(1)
    await aggregator.stop()
    expect(vi.getTimerCount()).toBe(0)
    expect(told('settlement:indeterminate').at(-1)).toMatchObject({ ...left, isLeftAtStop: true })
    expect(aggregator.getRecentLogs(1)[0]).toMatchObject({ level: 'error', isLeftAtStop: true })
  })

  it.each([
    [paid, 'paid', 1],
    [spentOtherwise, 'spent-otherwise', 0],
    [{ state: 'unspent', asOf: 4_000_000_000 } as const, 'expired', 0],
  ])('is watched in the background until the chain says %j', async (answer, result, left) => {
    const { aggregator } = await unresolved()
    await vi.advanceTimersByTimeAsync(30_000)
    expect(told('settlement:resolved')).toEqual([])
    chain = answer
    await vi.advanceTimersByTimeAsync(11_000)
    expect(told('settlement:resolved')).toEqual([expect.objectContaining({ result, payer })])
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(left)
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('without a probe', () => {
  it('the next facilitator is not asked after doubt, and a hanging one is not overtaken', async () => {
    a.settleAnswer = hanging
    await expect(done(pool({ probes: [] }).settle(newPayload(), requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(settleCalls()).toEqual([1, 0])
  })

  it('a retry of what is unresolved stays a 502: never a 402, never a second payment', async () => {
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
})

describe('a scheme whose replay protection is not known', () => {
  const exotic = requirements({ scheme: 'exotic' })

  it('has no rescue and no failover after doubt, even with a probe', async () => {
    a.settleAnswer = httpError(502)
    chain = paid
    await expect(done(pool().settle(newPayload(), exotic))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect([questions, ...settleCalls()]).toEqual([0, 1, 0])
  })

  it('is delivered once, unless two phases of one payload are two settlements', async () => {
    const aggregator = pool()
    const one = newPayload()
    const escrow = requirements({ extra: { paymentFlow: 'escrow' } })
    expect(await aggregator.settle(one, escrow)).toEqual(settled)
    expect(await aggregator.settle(one, escrow)).toEqual(settled)
    expect(await aggregator.settle(one, exotic)).toEqual(settled)
    expect(await aggregator.settle(one, exotic)).toMatchObject({ errorReason: 'duplicate_settlement' })
  })
})

describe('a ledger that fails', () => {
  const broken = (method: 'claim' | 'update' | 'get') => {
    const fail = () => Promise.reject(new Error('no route to database'))
    return Object.assign(new MemoryLedger(), { [method]: fail })
  }

  it('before anything was sent stops the settlement with a clear error', async () => {
    const error = await pool({ ledger: broken('claim') })
      .settle(newPayload(), requirements())
      .catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(LedgerError)
    expect((error as Error).message).toContain('no route to database')
    expect(settleCalls()).toEqual([0, 0])
  })

  it('afterwards is reported, and the success stands, once', async () => {
    const aggregator = pool({ ledger: broken('update') })
    const one = newPayload()
    expect(await aggregator.settle(one, requirements())).toEqual(settled)
    expect(aggregator.getRecentLogs()).toContainEqual(expect.objectContaining({ event: 'ledger:error' }))
    await vi.advanceTimersByTimeAsync(1_000_000)
    chain = paid
    expect(await aggregator.verify(one, requirements())).toMatchObject({ isValid: false })
    expect(await aggregator.settle(one, requirements())).toMatchObject({
      errorReason: 'duplicate_settlement',
    })
  })

  it('on reading does not stop a verification', async () => {
    expect(await pool({ ledger: broken('get') }).verify(payload(), requirements())).toMatchObject({
      isValid: true,
    })
  })

  it('by being full of live entries refuses, and forgets nothing', async () => {
    const aggregator = pool({ ledger: new MemoryLedger({ maxEntries: 2 }) })
    const payments = [newPayload(), newPayload(), newPayload()]
    for (const payment of payments.slice(0, 2)) await aggregator.settle(payment, requirements())
    await expect(aggregator.settle(payments[2] ?? payload(), requirements())).rejects.toMatchObject({
      code: 'LEDGER_FULL',
      message: expect.stringContaining('maxEntries'),
    })
    for (const payment of payments.slice(0, 2))
      expect(await aggregator.settle(payment, requirements())).toMatchObject({
        errorReason: 'duplicate_settlement',
      })
  })

  it('makes room once authorizations have run out', async () => {
    const aggregator = pool({ ledger: new MemoryLedger({ maxEntries: 2 }) })
    for (let i = 0; i < 2; i++) await aggregator.settle(newPayload(), requirements())
    vi.setSystemTime(Date.now() + 700_000)
    expect(await aggregator.settle(newPayload(), requirements())).toEqual(settled)
  })
})
