/** Ledgers that forget, hang, or hold what a replica's clock has dated. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { MemoryLedger, type ProbeAnswer, type SettlementLedger } from '../../src/index.ts'
import {
  aggregatorOf,
  done,
  FakeFacilitator,
  httpError,
  ledgerWith,
  newPayload,
  outcome,
  paidAt,
  payload,
  probeOf,
  refusal,
  requirements,
  settled,
  silent,
} from './builders.ts'

const used = 'invalid_exact_evm_nonce_already_used'

let a: FakeFacilitator
let chain: ProbeAnswer

const pool = (ledger: SettlementLedger) => aggregatorOf({ a }, { probes: [probeOf(() => chain)], ledger }, {})

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  chain = silent
})
afterEach(() => {
  vi.useRealTimers()
})

/** A ledger whose entries are there no more after `lose()`. */
function forgetful() {
  let inner = new MemoryLedger()
  const ledger: SettlementLedger = {
    claim: request => inner.claim(request),
    update: (...update) => inner.update(...update),
    get: key => inner.get(key),
    unresolved: () => inner.unresolved(),
  }
  const lose = () => {
    inner = new MemoryLedger()
  }
  return { ledger, lose, entries: () => inner.size }
}

describe('a ledger that loses an entry', () => {
  it('which was left unresolved: the retry is delivered once', async () => {
    const { ledger, lose } = forgetful()
    const aggregator = pool(ledger)
    const payment = newPayload()
    const settle = () => done(outcome(aggregator.settle(payment, requirements())))
    a.settleAnswer = httpError(502)
    a.verifyAnswer = { isValid: false, invalidReason: used }
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    lose()
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    expect(await done(aggregator.verify(payment, requirements()))).toMatchObject({ isValid: true })
    a.settleAnswer = refusal(used)
    chain = paidAt(Date.now() / 1000)
    expect(await settle()).toBe('success')
    expect(await settle()).toBe('refused: duplicate_settlement')
    expect(await aggregator.getUnresolvedSettlements()).toEqual([])
  })

  it('while it is being settled: the success is delivered, and recorded anew', async () => {
    const { ledger, lose, entries } = forgetful()
    const aggregator = pool(ledger)
    const payment = newPayload()
    const settle = () => done(outcome(aggregator.settle(payment, requirements())))
    a.settleAnswer = () => {
      lose()
      return settled
    }
    expect(await settle()).toBe('success')
    expect(entries()).toBe(1)
    expect(await settle()).toBe('refused: duplicate_settlement')
  })

  it('is not asked for a purchase of something else with the same authorization', async () => {
    const { ledger, lose } = forgetful()
    const aggregator = pool(ledger)
    a.settleAnswer = httpError(502)
    await done(outcome(aggregator.settle(payload(), requirements())))
    lose()
    const other = requirements({ amount: '1' })
    expect(await done(outcome(aggregator.settle(payload(), other)))).toBe('refused: duplicate_settlement')
  })
})

describe('a ledger that does not answer', () => {
  it('to the record of a success costs it two seconds, and no second success', async () => {
    const inner = new MemoryLedger()
    const aggregator = pool(ledgerWith(inner, { update: () => new Promise(() => {}) }))
    const payment = newPayload()
    const settle = () => done(outcome(aggregator.settle(payment, requirements())))
    const startedAt = performance.now()
    expect(await settle()).toBe('success')
    expect(performance.now() - startedAt).toBeLessThanOrEqual(2_100)
    await vi.advanceTimersByTimeAsync(200_000)
    expect(await settle()).toBe('refused: duplicate_settlement')
  })
})

describe('a claim of a replica that died', () => {
  /** As claimed by a replica whose clock is off by so much, 100 s ago. */
  async function claimedBefore(clockOffMs: number) {
    const ledger = ledgerWith(new MemoryLedger(), {})
    const since = Date.now() + clockOffMs
    const replica = pool({
      ...ledger,
      claim: request => ledger.claim({ ...request, since, leaseUntil: Date.now() + 90_000 }),
      update: () => new Promise(() => {}),
    })
    const payment = newPayload()
    a.settleAnswer = () => new Promise(() => {})
    void replica.settle(payment, requirements()).catch(() => {})
    await vi.advanceTimersByTimeAsync(2_000)
    const minedAt = Date.now() / 1000
    await vi.advanceTimersByTimeAsync(98_000)
    chain = paidAt(minedAt)
    a.settleAnswer = refusal(used)
    return done(outcome(pool(ledger).settle(payment, requirements())))
  }

  it.each([
    ['ahead by 90 s', 90_000, 'SETTLEMENT_INDETERMINATE'],
    ['ahead by 10 min', 600_000, 'SETTLEMENT_INDETERMINATE'],
    ['right', 0, 'success'],
    ['behind by 90 s', -90_000, 'success'],
  ])('and whose clock is %s makes no 402 of what was charged', async (_, offMs, expected) => {
    expect(await claimedBefore(offMs)).toBe(expected)
  })

  it('is asked of the chain without a time before which to search', async () => {
    const searched: unknown[] = []
    const asked = {
      supports: () => true,
      ask: async (_: unknown, { since }: { since?: number | undefined }) => {
        searched.push(since)
        return silent
      },
    }
    const ledger = ledgerWith(new MemoryLedger(), {})
    const aggregator = aggregatorOf({ a }, { probes: [asked], ledger }, { deadlineMs: { settle: 1_000 } })
    a.settleAnswer = httpError(502)
    const payment = newPayload()
    await done(outcome(aggregator.settle(payment, requirements())))
    expect(searched).toContainEqual(expect.any(Number))
    searched.length = 0
    await done(outcome(aggregator.settle(payment, requirements())))
    expect(new Set(searched)).toEqual(new Set([undefined]))
  })
})
