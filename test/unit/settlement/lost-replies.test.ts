/** A settled payment whose reply was lost is delivered again: to the same payment, a few times at most, at no charge. */
import { describe, expect, it, vi } from 'vitest'
import { replyReports } from '../../../src/delivery/index.ts'
import {
  type FacilitatorAggregator,
  type LedgerUpdate,
  MemoryLedger,
  type SettlementOptions,
} from '../../../src/index.ts'
import { sharedLedger } from '../../../src/ledger/index.ts'
import {
  done,
  hanging,
  ledgerWith,
  newPayload,
  newSvmPayload,
  outcome,
  payer,
  requirements,
  settled,
  silent,
} from '../builders.ts'
import {
  a,
  aggregator,
  briefly,
  chain,
  charges,
  pool,
  poolWithoutRetries,
  settle,
  settleBy,
} from './harness.ts'

/** One payment that was settled, and an aggregator that can be told of its reply. */
async function settledOnce(settlement: SettlementOptions = {}, payment = newPayload()) {
  const aggregator = poolWithoutRetries(settlement)
  const replies = replyReports(aggregator)
  expect(await settle(payment)).toBe('success')
  return { aggregator, replies, payment }
}

const refusedAsDuplicate = 'refused: duplicate_settlement'

describe('a settled payment whose reply was lost', () => {
  it('is valid, and delivered again without asking anybody: its success names the same transaction', async () => {
    const { aggregator, replies, payment } = await settledOnce()
    await replies.lost(payment)
    expect(await aggregator.verify(payment, requirements())).toEqual({ isValid: true, payer })
    expect(await aggregator.settle(payment, requirements())).toEqual(settled)
    expect([a.calls, chain.questions]).toEqual([{ verify: 0, settle: 1, supported: 0 }, 0])
  })

  it('is a duplicate after its one redelivery, though that reply is lost too', async () => {
    const { replies, payment } = await settledOnce()
    await replies.lost(payment)
    expect(await settle(payment)).toBe('success')
    await replies.lost(payment)
    expect(await settle(payment)).toBe(refusedAsDuplicate)
  })

  it.each([0, 1, 2, 3])('is delivered %i times more where redeliveries says so', async redeliveries => {
    const { replies, payment } = await settledOnce({ redeliveries })
    for (let i = 0; i < redeliveries; i++) {
      await replies.lost(payment)
      expect(await settle(payment)).toBe('success')
    }
    await replies.lost(payment)
    expect(await settle(payment)).toBe(refusedAsDuplicate)
    expect(a.calls.settle).toBe(1)
  })

  it('is a duplicate when ten minutes have passed', async () => {
    const { replies, payment } = await settledOnce()
    await replies.lost(payment)
    vi.setSystemTime(Date.now() + 10 * 60_000)
    expect(await settle(payment)).toBe(refusedAsDuplicate)
  })

  it('is delivered to one of many who present it at the same time', async () => {
    const { aggregator, replies, payment } = await settledOnce()
    await replies.lost(payment)
    const all = Array.from({ length: 20 }, () => outcome(aggregator.settle(payment, requirements())))
    expect((await done(Promise.all(all))).filter(one => one === 'success')).toHaveLength(1)
  })

  it('is a duplicate for another purchase', async () => {
    const { replies, payment } = await settledOnce()
    const cheaper = requirements({ amount: '1' })
    await replies.lost(payment, cheaper)
    expect(await settle(payment)).toBe(refusedAsDuplicate)
    await replies.lost(payment)
    expect(await settle(payment, cheaper)).toBe(refusedAsDuplicate)
  })

  it('is delivered again by another replica with the same ledger', async () => {
    const ledger = new MemoryLedger()
    const { replies, payment } = await settledOnce({ ledger })
    await replies.lost(payment)
    const replica = poolWithoutRetries({ ledger })
    expect(await settleBy(replica, payment)).toBe('success')
    await replies.lost(payment)
    expect(await settleBy(replica, payment)).toBe(refusedAsDuplicate)
    expect(a.calls.settle).toBe(1)
  })

  it('was settled by hash: Solana is no exception', async () => {
    const solana = 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp'
    const payment = newSvmPayload()
    const terms = requirements({ network: solana })
    const aggregator = poolWithoutRetries({ probes: [] })
    const replies = replyReports(aggregator)
    const settleIt = () => done(outcome(aggregator.settle(payment, terms)))
    expect(await settleIt()).toBe('success')
    await done(replies.lost(payment, terms))
    expect(await settleIt()).toBe('success')
    expect(a.calls.settle).toBe(1)
  })
})

describe('a reply that is reported lost', () => {
  it('of a payment that this process has not settled is nothing', async () => {
    const replies = replyReports(pool())
    const payment = newPayload()
    await replies.lost(payment)
    await replies.abandoned(payment)
    expect(await settle(payment)).toBe('success')
    expect(await settle(payment)).toBe(refusedAsDuplicate)
  })

  it('of what is no payment hurts nobody', async () => {
    const replies = replyReports(pool())
    await replies.lost({} as ReturnType<typeof newPayload>)
    expect(aggregator.getRecentLogs()).toMatchObject([{ level: 'error', event: 'background' }])
  })

  it('as abandoned, of what was settled before, is nothing: who replays it may have hung up', async () => {
    const { replies, payment } = await settledOnce()
    await replies.abandoned(payment)
    expect(await settle(payment)).toBe(refusedAsDuplicate)
  })

  it('as abandoned, while the payment is settled, is recorded when that has succeeded', async () => {
    let answer = (_: typeof settled) => {}
    const aggregator = poolWithoutRetries()
    a.settleAnswer = () =>
      new Promise(resolve => {
        answer = resolve
      })
    const replies = replyReports(aggregator)
    const payment = newPayload()
    const first = outcome(aggregator.settle(payment, requirements()))
    await vi.advanceTimersByTimeAsync(1)
    const reported = replies.abandoned(payment)
    answer(settled)
    await reported
    expect(await first).toBe('success')
    expect(await settle(payment)).toBe('success')
    expect(a.calls.settle).toBe(1)
  })

  it('keeps stop waiting until it is recorded', async () => {
    const inner = new MemoryLedger()
    let store = () => {}
    const slow = (update: LedgerUpdate) =>
      update.settlement.state === 'undelivered'
        ? new Promise<boolean>(resolve => {
            store = () => resolve(inner.update(update))
          })
        : inner.update(update)
    const { aggregator, replies, payment } = await settledOnce({
      ledger: ledgerWith(inner, { update: slow }),
    })
    void replies.lost(payment)
    await vi.advanceTimersByTimeAsync(1)
    let isStopped = false
    const stopped = aggregator.stop().then(() => {
      isStopped = true
    })
    await vi.advanceTimersByTimeAsync(10)
    expect(isStopped).toBe(false)
    store()
    await stopped
  })
})

describe('a store that finds no charges by payer', () => {
  it('credits nothing, and says so once', async () => {
    const inner = new MemoryLedger()
    const { aggregator, replies, payment } = await settledOnce({
      ledger: sharedLedger({
        claim: request => inner.claim(request),
        update: one => inner.update(one),
        get: key => inner.get(key),
        list: filter => inner.list(filter),
      }),
    })
    await replies.lost(payment)
    expect(await settle(newPayload())).toBe('success')
    expect(a.calls.settle).toBe(2)
    const said = aggregator.getRecentLogs().filter(({ event }) => event === 'ledger:error')
    expect(said).toEqual([expect.objectContaining({ error: 'the ledger does not find charges by payer' })])
  })
})

describe('a process that dies', () => {
  /** Settles, loses the reply, and dies with the claim of the redelivery. */
  it('as it delivers again leaves no more redeliveries than there were', async () => {
    const inner = new MemoryLedger()
    let isDying = false
    const ledger = ledgerWith(inner, {
      update: update => (isDying ? hanging() : inner.update(update)),
    })
    a.settleAnswer = charges(settled)
    const { aggregator: dying, replies, payment } = await settledOnce({ ledger })
    await replies.lost(payment)
    isDying = true
    dying.settle(payment, requirements()).catch(() => {})
    await vi.advanceTimersByTimeAsync(1)
    vi.setSystemTime(Date.now() + 10 * 60_000)
    const replica: FacilitatorAggregator = poolWithoutRetries({ ledger: inner })
    const others = replyReports(replica)
    expect(await settleBy(replica, payment)).toBe('success')
    await others.lost(payment)
    expect(await settleBy(replica, payment)).toBe(refusedAsDuplicate)
  })
})

describe('a payment that was in doubt before its reply was lost', () => {
  it('is delivered again as often as any other', async () => {
    a.settleAnswer = charges(new Error('the connection was closed'))
    const aggregator = poolWithoutRetries({}, briefly)
    const replies = replyReports(aggregator)
    const payment = newPayload()
    chain.answer = silent
    a.settleAnswer = new Error('the connection was closed')
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    charges(settled)()
    expect(await settle(payment)).toBe('success')
    await replies.lost(payment)
    expect(await settle(payment)).toBe('success')
    await replies.lost(payment)
    expect(await settle(payment)).toBe(refusedAsDuplicate)
    expect(a.calls.settle).toBe(1)
  })
})
