/** Ledgers that fail, hang, forget, lose answers, or hold what the clock of a replica has dated. */
import { describe, expect, it, vi } from 'vitest'
import {
  type AggregatorOptions,
  type Claim,
  type ClaimRequest,
  LedgerError,
  MemoryLedger,
  type SettlementLedger,
} from '../../../src/index.ts'
import { sharedLedger } from '../../../src/ledger/index.ts'
import { untyped } from '../../untyped.ts'
import {
  after,
  done,
  httpError,
  ledgerWith,
  newPayload,
  outcome,
  paid,
  paidAt,
  payload,
  refusal,
  requirements,
  type SettlementByReaders,
  settled,
  silent,
} from '../builders.ts'
import { a, aggregator, briefly, chain, pool, probe, settle, settleCalls, used } from './harness.ts'

/** A ledger whose entries are there no more after `lose()`. */
function forgetful() {
  let inner = new MemoryLedger()
  const ledger = sharedLedger({
    claim: request => inner.claim(request),
    update: update => inner.update(update),
    get: key => inner.get(key),
    list: filter => inner.list(filter),
  })
  const lose = () => {
    inner = new MemoryLedger()
  }
  return { ledger, lose, entries: () => inner.size }
}

describe('a ledger that fails', () => {
  const broken = (method: 'claim' | 'update' | 'get') => {
    const fail = () => Promise.reject(new Error('no route to database'))
    return ledgerWith(new MemoryLedger(), { [method]: fail })
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
    chain.answer = paid
    expect(await aggregator.verify(one, requirements())).toMatchObject({
      isValid: false,
      invalidReason: 'duplicate_settlement',
    })
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

describe('a ledger that hangs', () => {
  const never = () => new Promise<never>(() => {})

  it('at the claim: nothing is sent', async () => {
    const ledger = ledgerWith(new MemoryLedger(), { claim: never })
    expect(await outcome(done(pool({ ledger }).settle(newPayload(), requirements())))).toBe('LEDGER_FAILED')
    expect(a.calls.settle).toBe(0)
  })

  it('afterwards: the success is reported', async () => {
    const ledger = ledgerWith(new MemoryLedger(), { update: never })
    expect(await outcome(done(pool({ ledger }).settle(newPayload(), requirements())))).toBe('success')
  })

  it('at verify: the facilitators are asked', async () => {
    const ledger = ledgerWith(new MemoryLedger(), { get: never })
    expect(await done(pool({ ledger }).verify(newPayload(), requirements()))).toMatchObject({ isValid: true })
  })
})

describe('a ledger over an unsteady network', () => {
  it.each([
    ['at once', [probe], 2_000],
    ['later, without a probe', [], 100_000],
  ])('that grants a claim too late allows the payment to be settled %s', async (_, probes, waitMs) => {
    const inner = new MemoryLedger()
    let claims = 0
    const ledger = ledgerWith(inner, {
      claim: async request => {
        if (++claims === 1) await after(6_000)
        return inner.claim(request)
      },
    })
    const aggregator = pool({ ledger, probes })
    const payment = newPayload()
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('LEDGER_FAILED')
    await vi.advanceTimersByTimeAsync(waitMs)
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('success')
  })

  it('that is sent an update twice has stored it', async () => {
    const inner = new MemoryLedger()
    const ledger = ledgerWith(inner, {
      update: async update => {
        await inner.update(update)
        return inner.update(update)
      },
    })
    expect(await outcome(done(pool({ ledger }).settle(newPayload(), requirements())))).toBe('success')
  })

  it.each(['with a slow watch', 'stopped', 'without timers'])(
    'that fails once stores a success before another process may deliver it: %s',
    async how => {
      const inner = new MemoryLedger()
      let updates = 0
      const ledger = ledgerWith(inner, {
        update: async update => {
          if (++updates <= 2) throw new Error('down')
          return inner.update(update)
        },
      })
      const payment = newPayload()
      const first = pool(
        { ledger, watchIntervalMs: 120_000 },
        how === 'without timers' ? { healthCheck: { mode: 'lazy' } } : {},
      )
      expect(await outcome(done(first.settle(payment, requirements())))).toBe('success')
      if (how === 'stopped') await done(first.stop())
      await vi.advanceTimersByTimeAsync(91_000)
      chain.answer = paid
      expect(await outcome(done(pool({ ledger }).settle(payment, requirements())))).toBe(
        'refused: duplicate_settlement',
      )
    },
  )

  it('that is down at stop() is tried once more', async () => {
    const inner = new MemoryLedger()
    let isDown = true
    const ledger = ledgerWith(inner, {
      update: update => (isDown ? Promise.reject(new Error('down')) : inner.update(update)),
    })
    const payment = newPayload()
    const first = pool({ ledger })
    expect(await outcome(done(first.settle(payment, requirements())))).toBe('success')
    isDown = false
    await done(first.stop())
    await vi.advanceTimersByTimeAsync(91_000)
    chain.answer = paid
    expect(await outcome(done(pool({ ledger }).settle(payment, requirements())))).toBe(
      'refused: duplicate_settlement',
    )
  })

  it('that is down does not let a settlement be closed', async () => {
    const inner = new MemoryLedger()
    let isDown = false
    const ledger = ledgerWith(inner, {
      update: update => (isDown ? Promise.reject(new Error('down')) : inner.update(update)),
    })
    const aggregator = pool({ ledger }, briefly)
    a.settleAnswer = httpError(502)
    chain.answer = silent
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    const [left] = await aggregator.getUnresolvedSettlements()
    isDown = true
    await expect(aggregator.closeSettlement(left?.key ?? '')).rejects.toThrow('down')
  })

  it('may answer without promises', async () => {
    const store = {
      claim: ({ query }: ClaimRequest) => ({ kind: 'claimed', before: undefined, since: Date.now(), query }),
      update: () => true,
      get: () => undefined,
      list: () => ({ entries: [] }),
    }
    const ledger = sharedLedger(untyped(store))
    expect(await outcome(done(pool({ ledger }).settle(newPayload(), requirements())))).toBe('success')
  })
})

describe('a store that fails when a doubt is recorded, and loses the payment then', () => {
  it('does not make the process forget it', async () => {
    let inner = new MemoryLedger()
    const ledger = sharedLedger({
      claim: request => inner.claim(request),
      update: () => Promise.reject(new Error('down')),
      get: key => inner.get(key),
      list: filter => inner.list(filter),
    })
    a.settleAnswer = httpError(502)
    chain.answer = silent
    pool({ ledger }, briefly)
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    inner = new MemoryLedger()
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })
})

describe('a full ledger', () => {
  it('drops the oldest unresolved settlements once their authorizations are over', async () => {
    const aggregator = pool({ probes: [], credit: false, ledger: new MemoryLedger({ maxEntries: 2 }) })
    a.settleAnswer = httpError(502)
    for (let i = 0; i < 2; i++) await outcome(done(aggregator.settle(newPayload(), requirements())))
    a.settleAnswer = settled
    expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('LEDGER_FULL')
    vi.setSystemTime(Date.now() + 3_600_000)
    expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('success')
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })
})

describe('a ledger', () => {
  it('whose grant of a claim was lost does not keep the payment from being settled', async () => {
    const inner = new MemoryLedger()
    let claims = 0
    const ledger = ledgerWith(inner, {
      claim: async request => {
        const claim = await inner.claim(request)
        if (++claims === 1) throw new Error('connection reset')
        return claim
      },
    })
    pool({ ledger, probes: [] })
    const payment = newPayload()
    expect(await settle(payment)).toBe('LEDGER_FAILED')
    expect(aggregator.getRecentLogs(1)[0]).toMatchObject({ event: 'ledger:error', error: 'connection reset' })
    expect(await settle(payment)).toBe('success')
  })

  describe('whose grant of a second claim was lost', () => {
    let isLost: boolean
    const unresolved = async (settlement: SettlementByReaders = {}) => {
      isLost = false
      const inner = new MemoryLedger()
      const ledger = ledgerWith(inner, {
        claim: async request => {
          const claim = await inner.claim(request)
          if (isLost) {
            isLost = false
            throw new Error('connection reset')
          }
          return claim
        },
      })
      a.settleAnswer = httpError(502)
      chain.answer = silent
      pool({ ledger, ...settlement }, briefly)
      const payment = newPayload()
      expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
      isLost = true
      expect(await settle(payment)).toBe('LEDGER_FAILED')
      await vi.advanceTimersByTimeAsync(10)
      return payment
    }

    it('still knows that the payment may have moved', async () => {
      await unresolved()
      expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    })

    it('asks no facilitator, without a probe', async () => {
      const payment = await unresolved({ probes: [] })
      a.settleAnswer = refusal('invalid_exact_evm_payload_authorization_from_address_kyt')
      expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    })

    it('still rejects retries', async () => {
      const payment = await unresolved({ onRetry: 'reject' })
      chain.answer = paid
      expect(await settle(payment)).toBe('refused: duplicate_settlement')
    })

    it('can be closed by hand', async () => {
      const payment = await unresolved()
      const [left] = await aggregator.getUnresolvedSettlements()
      expect(await aggregator.closeSettlement(left?.key ?? '')).toBe(true)
      chain.answer = paid
      expect(await settle(payment)).toBe('refused: duplicate_settlement')
      expect(await aggregator.closeSettlement(left?.key ?? '')).toBe(false)
    })
  })

  it('that grants a second claim too late keeps what was there before', async () => {
    let delayMs = 0
    const inner = new MemoryLedger()
    const ledger = ledgerWith(inner, {
      claim: async request => {
        await after(delayMs)
        return inner.claim(request)
      },
    })
    a.settleAnswer = httpError(502)
    chain.answer = silent
    pool({ ledger }, briefly)
    const payment = newPayload()
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    delayMs = 6_000
    expect(await settle(payment)).toBe('LEDGER_FAILED')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })

  it('that does not answer with a claim fails with an error that names the fault', async () => {
    pool({ ledger: ledgerWith(new MemoryLedger(), { claim: async () => untyped(undefined) }) })
    await expect(done(aggregator.settle(newPayload(), requirements()))).rejects.toThrow(
      /the ledger failed \(claim\(\) answered neither/,
    )
  })

  it('that is full of what was not charged makes room, the oldest first', async () => {
    const ledger = new MemoryLedger({ maxEntries: 10 })
    pool({ ledger, probes: [] })
    a.settleAnswer = refusal('invalid_exact_evm_signature')
    const payments = Array.from({ length: 11 }, () => newPayload())
    for (const payment of payments) {
      Object.assign(payment.payload.authorization as object, { validBefore: '99999999999999' })
      expect(await settle(payment)).toBe('refused: invalid_exact_evm_signature')
    }
    expect(ledger.size).toBe(10)
    const [oldest, ...kept] = payments
    for (const payment of kept) expect(await settle(payment)).toBe('refused: duplicate_settlement')
    expect(await settle(oldest)).toBe('refused: invalid_exact_evm_signature')
  })

  it('that is full of rejections takes honest payments, and forgets nothing else', async () => {
    const ledger = new MemoryLedger({ maxEntries: 3 })
    pool({ ledger, probes: [] })
    const closed = newPayload()
    a.settleAnswer = httpError(502)
    expect(await settle(closed)).toBe('SETTLEMENT_INDETERMINATE')
    const [left] = await aggregator.getUnresolvedSettlements()
    expect(await aggregator.closeSettlement(left?.key ?? '')).toBe(true)
    a.settleAnswer = refusal('invalid_exact_evm_signature')
    for (let i = 0; i < 4; i++) {
      const forged = newPayload()
      Object.assign(forged.payload.authorization as object, { validBefore: '99999999999999' })
      expect(await settle(forged)).toBe('refused: invalid_exact_evm_signature')
    }
    a.settleAnswer = settled
    const one = newPayload()
    expect([await settle(one), await settle()]).toEqual(['success', 'success'])
    expect(await settle(one)).toBe('refused: duplicate_settlement')
    expect(await settle(closed)).toBe('refused: duplicate_settlement')
    expect(await settle()).toBe('LEDGER_FULL')
  })
})

it('a ledger keeps the name of a transaction short', async () => {
  a.settleAnswer = refusal('invalid_exact_evm_transaction_failed', 'x'.repeat(1_000_000))
  chain.answer = silent
  pool({}, { deadlineMs: { settle: 1_000 } })
  expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  const [left] = await aggregator.getUnresolvedSettlements()
  expect(left?.transaction).toBe('unreadable')
})

/** An aggregator over `a` alone. */
const poolOfOne = (
  ledger: SettlementLedger,
  settlement: SettlementByReaders = {},
  options: Partial<AggregatorOptions> = {},
) => pool({ ledger, ...settlement }, { facilitators: [{ id: 'a', client: a }], ...options })

describe('a ledger that loses an entry', () => {
  it('which was left unresolved: the retry is delivered once', async () => {
    const { ledger, lose } = forgetful()
    const aggregator = poolOfOne(ledger)
    const payment = newPayload()
    const settle = () => done(outcome(aggregator.settle(payment, requirements())))
    a.settleAnswer = httpError(502)
    a.verifyAnswer = { isValid: false, invalidReason: used }
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    lose()
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    expect(await done(aggregator.verify(payment, requirements()))).toMatchObject({ isValid: true })
    a.settleAnswer = refusal(used)
    chain.answer = paidAt(Date.now() / 1000)
    expect(await settle()).toBe('success')
    expect(await settle()).toBe('refused: duplicate_settlement')
    expect(await aggregator.getUnresolvedSettlements()).toEqual([])
  })

  it('while it is being settled: the success is delivered, and recorded anew', async () => {
    const { ledger, lose, entries } = forgetful()
    const aggregator = poolOfOne(ledger)
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
    const aggregator = poolOfOne(ledger)
    a.settleAnswer = httpError(502)
    expect(await done(outcome(aggregator.settle(payload(), requirements())))).toBe('SETTLEMENT_INDETERMINATE')
    lose()
    const other = requirements({ amount: '1' })
    expect(await done(outcome(aggregator.settle(payload(), other)))).toBe('refused: duplicate_settlement')
  })
})

describe('a ledger that does not answer', () => {
  it('when a success is recorded costs it two seconds, and no second success', async () => {
    const inner = new MemoryLedger()
    const aggregator = poolOfOne(ledgerWith(inner, { update: () => new Promise(() => {}) }))
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
  /** As claimed 100 s ago, in a ledger whose clock is off by so much. */
  async function claimedBefore(clockOffMs: number) {
    const inner = new MemoryLedger()
    const off = (answer: Claim): Claim =>
      answer.kind === 'claimed' ? { ...answer, since: answer.since + clockOffMs } : answer
    const ledger = ledgerWith(inner, { claim: request => inner.claim(request).then(off) })
    const replica = poolOfOne(
      ledgerWith(inner, {
        claim: request => inner.claim({ ...request, leaseMs: 90_000 }),
        update: () => new Promise(() => {}),
      }),
    )
    const payment = newPayload()
    a.settleAnswer = () => new Promise(() => {})
    void replica.settle(payment, requirements()).catch(() => {})
    await vi.advanceTimersByTimeAsync(2_000)
    const minedAt = Date.now() / 1000
    await vi.advanceTimersByTimeAsync(98_000)
    chain.answer = paidAt(minedAt)
    a.settleAnswer = refusal(used)
    return done(outcome(poolOfOne(ledger).settle(payment, requirements())))
  }

  it.each([
    ['ahead by 90 s', 90_000, 'SETTLEMENT_INDETERMINATE'],
    ['ahead by 10 min', 600_000, 'SETTLEMENT_INDETERMINATE'],
    ['right', 0, 'success'],
    ['behind by 90 s', -90_000, 'success'],
  ])('and whose clock is %s makes no 402 of what was charged', async (_, offMs, expected) => {
    expect(await claimedBefore(offMs)).toBe(expected)
  })

  it('is looked up on the chain without a time from which to search', async () => {
    const searched: unknown[] = []
    const asked = {
      supports: () => true,
      ask: async (_: unknown, { since }: { since?: number | undefined }) => {
        searched.push(since)
        return silent
      },
    }
    const ledger = ledgerWith(new MemoryLedger(), {})
    const aggregator = poolOfOne(ledger, { probes: [asked] }, { deadlineMs: { settle: 1_000 } })
    a.settleAnswer = httpError(502)
    const payment = newPayload()
    expect(await done(outcome(aggregator.settle(payment, requirements())))).toBe('SETTLEMENT_INDETERMINATE')
    expect(searched).toContainEqual(expect.any(Number))
    searched.length = 0
    expect(await done(outcome(aggregator.settle(payment, requirements())))).toBe('SETTLEMENT_INDETERMINATE')
    expect(new Set(searched)).toEqual(new Set([undefined]))
  })
})
