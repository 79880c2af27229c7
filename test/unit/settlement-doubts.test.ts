/** What is not to be believed: old blocks, wrong clocks, the word of who had trouble, verdicts that a payment explains. */
import { HTTPFacilitatorClient } from '@x402/core/server'
import type { PaymentPayload } from '@x402/core/types'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import {
  type AggregatorOptions,
  type FacilitatorAggregator,
  MemoryLedger,
  type ProbeAnswer,
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
  kind,
  ledgerWith,
  newPayload,
  newSvmPayload,
  nextAnswer,
  outcome,
  paid,
  paidAt,
  permit2Payload,
  probeOf,
  refusal,
  refused,
  requirements,
  settled,
  silent,
  supporting,
  svmTransaction,
  unspent,
  valid,
} from './builders.ts'

const used = 'invalid_exact_evm_nonce_already_used'

let a: FakeFacilitator
let b: FakeFacilitator
let chain: ChainScript
let aggregator: FacilitatorAggregator

const probe = probeOf(() => nextAnswer(chain))

function pool(settlement: SettlementOptions = {}, options: Partial<AggregatorOptions> = {}) {
  aggregator = aggregatorOf({ a, b }, { probes: [probe], ...settlement }, options)
  return aggregator
}

const settle = (payment: PaymentPayload = newPayload(), terms = requirements()) =>
  done(outcome(aggregator.settle(payment, terms)))
const seconds = () => Date.now() / 1000
/** As an unmoving node shows it. */
const longUnspent = (): ProbeAnswer => ({ state: 'unspent', asOf: seconds() - 120 })

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  b = new FakeFacilitator()
  chain = unspent
})
afterEach(() => {
  vi.useRealTimers()
})

describe('a node that is behind', () => {
  const audited = () => {
    const quarantined: string[] = []
    pool({ audit: 'always' }).on('facilitator:quarantined', event => quarantined.push(event.facilitator))
    return quarantined
  }

  it('accuses nobody', async () => {
    const quarantined = audited()
    chain = longUnspent()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(quarantined).toEqual([])
  })

  it('by seconds only is waited for', async () => {
    let paidAtSecond = Number.POSITIVE_INFINITY
    a.settleAnswer = () => {
      paidAtSecond = seconds()
      return settled
    }
    const lagging: SettlementProbe = {
      supports: () => true,
      ask: async () => {
        const asOf = seconds() - 8
        return asOf >= paidAtSecond ? paidAt(paidAtSecond) : { state: 'unspent', asOf }
      },
    }
    const quarantined: string[] = []
    pool({ audit: 'always', probes: [lagging] }).on('facilitator:quarantined', event =>
      quarantined.push(event.facilitator),
    )
    expect(await settle()).toBe('success')
    expect(quarantined).toEqual([])
  })

  it('does not confirm that nothing was broadcast', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refusal('invalid_exact_evm_insufficient_balance')
    pool()
    chain = [longUnspent(), paid]
    expect(await settle()).toBe('success')
    chain = longUnspent()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    chain = unspent
    expect(await settle()).toBe('refused: invalid_exact_evm_insufficient_balance')
  })

  it('and stands still at the very block of a payment does not make its replay a new one', async () => {
    a.settleAnswer = httpError(502)
    pool()
    const minedAt = seconds() - 1_000
    chain = { ...paid, minedAt, asOf: minedAt }
    expect(await settle()).not.toBe('success')
  })
})

it('a chain that dates its blocks back after a halt makes no replay of a new payment', async () => {
  const start = seconds()
  const haltedAt = start - 300
  a.settleAnswer = httpError(502)
  const catchingUp: SettlementProbe = {
    supports: () => true,
    ask: async () => {
      const passed = seconds() - start
      if (passed < 1) return { state: 'unspent', asOf: haltedAt }
      return { ...paid, minedAt: haltedAt + 2, asOf: Math.min(seconds(), haltedAt + 60 * passed) }
    },
  }
  b.settleAnswer = refusal(used)
  pool({ probes: [catchingUp] }, { retries: 0 })
  expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
})

describe('a clock that is wrong', () => {
  it('loses no payment when it is fast', async () => {
    const realSeconds = seconds()
    vi.setSystemTime(Date.now() + 120_000)
    a.settleAnswer = httpError(502)
    chain = { ...paid, minedAt: realSeconds + 2, asOf: realSeconds + 4 }
    pool()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('accuses nobody when it is slow by some seconds', async () => {
    const start = seconds()
    const ahead: SettlementProbe = {
      supports: () => true,
      ask: async () => {
        const asOf = seconds() + 2
        return seconds() - start < 0.8 ? { state: 'unspent', asOf } : { ...paid, minedAt: asOf, asOf }
      },
    }
    pool({ audit: 'always', probes: [ahead], failoverAfterMs: 0 })
    expect(await settle()).toBe('success')
    expect(aggregator.getHealthStatus().facilitators[0]?.isQuarantined).toBe(false)
  })

  it('delivers no replay when it is slow', async () => {
    const realSeconds = seconds()
    vi.setSystemTime(Date.now() - 120_000)
    a.settleAnswer = httpError(502)
    chain = { ...paid, minedAt: realSeconds - 100, asOf: realSeconds }
    pool()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  })
})

describe('the word of a facilitator that had trouble', () => {
  beforeEach(() => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
  })

  it.each(['permit2_insufficient_balance', 'permit2_allowance_required', 'insufficient_funds'])(
    'does not make %s a verdict where no chain can tell',
    async reason => {
      b.settleAnswer = refusal(reason)
      pool({ probes: [] })
      expect(await settle(permit2Payload())).toBe('SETTLEMENT_INDETERMINATE')
    },
  )

  it.each(['failed_to_execute_transfer', 'permit2_simulation_failed'])(
    'is not taken for more after %s either',
    async reason => {
      a.settleAnswer = refusal(reason)
      b.settleAnswer = refusal(used)
      pool({ probes: [] })
      expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    },
  )

  it.each([
    ['without a probe', []],
    ['with one whose node does not answer', [probe]],
  ])('leaves no verdict of the next, %s', async (_, probes) => {
    chain = silent
    b.settleAnswer = refusal('invalid_exact_evm_signature')
    pool({ probes })
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  })

  it.each([
    ['does not answer', silent, 'SETTLEMENT_INDETERMINATE'],
    ['has the payment', paid, 'success'],
    ['shows it unspent in a block made since', unspent, 'ALL_FACILITATORS_FAILED'],
  ])('is believed when the chain has confirmed it: it %s', async (_, then, expected) => {
    b.settleAnswer = refusal('batch_send_failed')
    chain = then
    pool()
    expect(await settle()).toBe(expected)
    expect([a.calls.settle, b.calls.settle]).toEqual([1, 1])
  })

  it('that "nonce used" may confirm is asked of a node that is behind until it has caught up', async () => {
    const start = seconds()
    b.settleAnswer = refusal(used)
    const lagging: SettlementProbe = {
      supports: () => true,
      ask: async () => (seconds() - start < 8 ? { state: 'unspent', asOf: seconds() - 8 } : paid),
    }
    pool({ probes: [lagging], failoverAfterMs: 1_000 })
    expect(await settle()).toBe('success')
  })

  it('goes before the want of an ability, at the retry too', async () => {
    a.settleAnswer = httpError(401)
    b.settleAnswer = httpError(404)
    pool({ probes: [] }, { retries: 0 })
    const payment = newPayload()
    expect(await settle(payment)).toBe('ALL_FACILITATORS_FAILED')
    aggregator.setFacilitatorEnabled('a', false)
    const reason = 'invalid_exact_evm_payload_undeployed_smart_wallet'
    b.settleAnswer = refusal(reason)
    b.verifyAnswer = { isValid: false, invalidReason: reason }
    await expect(done(aggregator.verify(payment, requirements()))).rejects.toMatchObject({
      code: 'ALL_FACILITATORS_FAILED',
    })
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
  })

  it.each(['settle_exact_svm_block_height_exceeded', 'payment_expired'])(
    'makes no verdict of %s on Solana, where no chain is asked',
    async reason => {
      const solana = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'
      a.supportedAnswer = supporting(kind({ network: solana }))
      b.supportedAnswer = a.supportedAnswer
      b.settleAnswer = refusal(reason)
      pool({ probes: [] })
      expect(await settle(newSvmPayload(), requirements({ network: solana }))).toBe(
        'SETTLEMENT_INDETERMINATE',
      )
    },
  )

  it("is all there is of upstream's HTTP client that was not let in: it may have followed a redirect", async () => {
    vi.useRealTimers()
    const fetched = vi.spyOn(globalThis, 'fetch').mockRejectedValue(refused())
    onTestFinished(() => fetched.mockRestore())
    const down = new HTTPFacilitatorClient({ url: 'https://down.example' })
    const facilitators = [
      { id: 'down', client: down },
      { id: 'b', client: b },
    ]
    pool({ probes: [] }, { facilitators, retries: 0 })
    for (const reason of ['insufficient_funds', used]) {
      b.settleAnswer = refusal(reason)
      expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('SETTLEMENT_INDETERMINATE')
    }
  })

  it.each(['permit2_insufficient_balance', 'permit2_allowance_required', 'permit2_simulation_failed'])(
    'lets the retry through to its settle, though verify says %s',
    async reason => {
      b.settleAnswer = a.settleAnswer
      pool()
      const payment = permit2Payload()
      expect(await settle(payment)).toBe('ALL_FACILITATORS_FAILED')
      a.verifyAnswer = { isValid: false, invalidReason: reason }
      b.verifyAnswer = a.verifyAnswer
      expect(await done(aggregator.verify(payment, requirements()))).toMatchObject({ isValid: true })
      a.verifyAnswer = { isValid: false, invalidReason: 'invalid_exact_evm_signature' }
      expect(await done(aggregator.verify(payment, requirements()))).toMatchObject({ isValid: false })
      chain = paid
      expect(await settle(payment)).toBe('success')
    },
  )

  it.each([
    ['goes on to the next', () => refusal('unheard_of'), refusal(used), 0],
    ['is retried', () => refusal(used), settled, 1],
  ])(
    'is all there is when a client of its own says that it got no connection, and %s',
    async (_, second, bSays, retries) => {
      let calls = 0
      a.settleAnswer = () => {
        chain = paid
        if (++calls > 1) return second()
        throw refused()
      }
      b.settleAnswer = bSays
      pool({}, { retries })
      expect(await settle()).toBe('success')
      expect(b.calls.settle).toBe(1 - retries)
    },
  )
})

it('a verdict is not shopped by the retry of who was overtaken', async () => {
  a.settleAnswer = async () => {
    await after(5_300)
    throw refused()
  }
  b.settleAnswer = refusal('invalid_exact_evm_payload_authorization_from_address_kyt')
  pool()
  expect(await settle()).toMatch(/kyt$/)
  await vi.advanceTimersByTimeAsync(30_000)
  expect(a.calls.settle).toBe(1)
})

it('a pending settlement is asked for again while no node answers', async () => {
  let calls = 0
  a.settleAnswer = () => (++calls < 3 ? refusal('settlement_pending', hash) : settled)
  chain = silent
  pool()
  expect(await settle()).toBe('success')
})

it('a facilitator that is disabled meanwhile is asked no more', async () => {
  a.settleAnswer = hanging
  pool()
  const settling = settle()
  await vi.advanceTimersByTimeAsync(100)
  aggregator.setFacilitatorEnabled('b', false)
  expect(await settling).toBe('SETTLEMENT_INDETERMINATE')
  expect(b.calls.settle).toBe(0)
})

it('what stop() gave up stays given up, though start() follows at once', async () => {
  a.settleAnswer = hanging
  pool()
  const settling = outcome(aggregator.settle(newPayload(), requirements()))
  await vi.advanceTimersByTimeAsync(100)
  void aggregator.stop({ inFlight: 'abort' })
  aggregator.start()
  await vi.advanceTimersByTimeAsync(10)
  expect(await settling).toBe('SETTLEMENT_INDETERMINATE')
  expect(aggregator.getHealthStatus().facilitators[0]?.consecutiveFailures).toBe(0)
})

describe('onRetry reject', () => {
  it('keeps what it gives back under watch, though a look came in between', async () => {
    const ledger = new MemoryLedger()
    let delayMs = 0
    ledger.update = async (...update) => {
      await after(delayMs)
      return MemoryLedger.prototype.update.apply(ledger, update)
    }
    a.settleAnswer = httpError(502)
    chain = silent
    pool({ ledger, onRetry: 'reject', watchIntervalMs: 1_000 }, { deadlineMs: { settle: 3_000 } })
    const payment = newPayload()
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    delayMs = 5_000
    expect(await settle(payment)).toBe('refused: duplicate_settlement')
    const told: unknown[] = []
    aggregator.on('settlement:resolved', event => told.push(event.result))
    chain = paid
    await vi.advanceTimersByTimeAsync(3_000)
    expect(told).toEqual(['paid'])
  })

  it('holds for a settle that was verified before', async () => {
    a.settleAnswer = httpError(502)
    chain = silent
    pool({ onRetry: 'reject' }, { deadlineMs: { settle: 3_000 } })
    const rejected: unknown[] = []
    aggregator.on('settlement:indeterminate', event => event.isRetryRejected && rejected.push(event))
    const payment = newPayload()
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    chain = paid
    expect(await settle(payment)).toBe('refused: duplicate_settlement')
    expect(rejected).toHaveLength(1)
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    expect(a.calls.settle).toBe(1)
  })
})

describe('the watch', () => {
  it('does not close what was charged at a lesser amount while it asked', async () => {
    a.supportedAnswer = supporting(kind({ scheme: 'upto' }))
    b.supportedAnswer = a.supportedAnswer
    let moved = 0
    let node: 'up' | 'slow' | 'down' = 'down'
    const metered: SettlementProbe = {
      supports: () => true,
      ask: async ({ amount }) => {
        if (node === 'down') return silent
        if (node === 'slow') await after(8_000)
        if (moved === 0) return unspent
        return moved >= Number(amount) ? paid : { state: 'spent-otherwise', transaction: hash }
      },
    }
    pool({ probes: [metered] }, { retries: 0, deadlineMs: { settle: 3_000 } })
    const told: unknown[] = []
    aggregator.on('settlement:resolved', event => told.push(event))
    const payment = permit2Payload()
    const settleAt = (amount: string) => settle(payment, requirements({ scheme: 'upto', amount }))
    a.settleAnswer = httpError(502)
    expect(await settleAt('5000')).toBe('SETTLEMENT_INDETERMINATE')
    node = 'slow'
    await vi.advanceTimersByTimeAsync(10_000)
    node = 'up'
    a.settleAnswer = () => {
      node = 'down'
      moved = 4_000
      throw httpError(502)
    }
    expect(await settleAt('4000')).toBe('SETTLEMENT_INDETERMINATE')
    await vi.advanceTimersByTimeAsync(9_000)
    node = 'up'
    expect(await settleAt('4000')).toBe('success')
    expect(told).toEqual([])
  })

  it('forgets what it told of an entry that is unresolved no more, and tells anew if it is again', async () => {
    const inner = new MemoryLedger()
    let isRetried = false
    const ledger = ledgerWith(inner, { unresolved: async () => (isRetried ? [] : inner.unresolved()) })
    const told: unknown[] = []
    pool({ ledger }, { deadlineMs: { settle: 3_000 } }).on('settlement:resolved', event => told.push(event))
    a.settleAnswer = httpError(502)
    chain = silent
    await settle()
    chain = paid
    await vi.advanceTimersByTimeAsync(130_000)
    expect(told).toHaveLength(1)
    isRetried = true
    await vi.advanceTimersByTimeAsync(70_000)
    isRetried = false
    await vi.advanceTimersByTimeAsync(130_000)
    expect(told).toHaveLength(2)
  })

  it('tells of others though one cannot be stored, and of that one, which was delivered, never', async () => {
    const inner = new MemoryLedger()
    let poisoned: string | undefined
    const ledger = ledgerWith(inner, {
      update: async (key, claim, state) => {
        poisoned ??= key
        if (key === poisoned) throw new Error('value too large')
        return inner.update(key, claim, state)
      },
    })
    const told: unknown[] = []
    pool({ ledger }, { deadlineMs: { settle: 3_000 } }).on('settlement:resolved', event =>
      told.push(event.key),
    )
    expect(await settle()).toBe('success')
    a.settleAnswer = httpError(502)
    chain = silent
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    chain = paid
    await vi.advanceTimersByTimeAsync(600_000)
    const left = await aggregator.getUnresolvedSettlements()
    expect(told).toEqual(left.map(({ key }) => key))
    expect(left).toEqual([expect.objectContaining({ result: 'paid', transaction: paid.transaction })])
    expect(told).not.toContain(poisoned)
  })
})

describe('a ledger', () => {
  it('whose granting of a claim was not heard holds the payment up no longer', async () => {
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

  describe('whose granting of a second claim was not heard', () => {
    let isLost: boolean
    const unresolved = async (settlement: SettlementOptions = {}) => {
      isLost = false
      const inner = new MemoryLedger()
      const ledger = ledgerWith(inner, {
        claim: async request => {
          const claim = await inner.claim(request)
          if (isLost) throw new Error('connection reset')
          return claim
        },
      })
      a.settleAnswer = httpError(502)
      chain = silent
      pool({ ledger, ...settlement }, { deadlineMs: { settle: 3_000 } })
      const payment = newPayload()
      expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
      isLost = true
      expect(await settle(payment)).toBe('LEDGER_FAILED')
      isLost = false
      await vi.advanceTimersByTimeAsync(10)
      return payment
    }

    it('still knows that the payment may have moved', async () => {
      await unresolved()
      expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    })

    it('asks nobody who cannot know, without a probe', async () => {
      const payment = await unresolved({ probes: [] })
      a.settleAnswer = refusal('invalid_exact_evm_payload_authorization_from_address_kyt')
      expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    })

    it('still rejects retries', async () => {
      const payment = await unresolved({ onRetry: 'reject' })
      chain = paid
      expect(await settle(payment)).toBe('refused: duplicate_settlement')
    })

    it('can be closed by hand', async () => {
      const payment = await unresolved()
      const [left] = await aggregator.getUnresolvedSettlements()
      expect(await aggregator.closeSettlement(left?.key ?? '')).toBe(true)
      chain = paid
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
    chain = silent
    pool({ ledger }, { deadlineMs: { settle: 3_000 } })
    const payment = newPayload()
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    delayMs = 6_000
    expect(await settle(payment)).toBe('LEDGER_FAILED')
    await vi.advanceTimersByTimeAsync(2_000)
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })

  it('that answers no claim is told so', async () => {
    pool({ ledger: ledgerWith(new MemoryLedger(), { claim: async () => undefined as never }) })
    await expect(done(aggregator.settle(newPayload(), requirements()))).rejects.toThrow(
      /the ledger failed \(claim\(\) answered neither/,
    )
  })

  it('of a class that extends the one in memory must answer in time like any other', async () => {
    class Durable extends MemoryLedger {
      override async update(): Promise<boolean> {
        return new Promise(() => {})
      }
    }
    pool({ ledger: new Durable() })
    expect(await settle()).toBe('success')
  })

  it('that is full of what was not charged makes room, a tenth at a time, the oldest first', async () => {
    const ledger = new MemoryLedger({ maxEntries: 10 })
    pool({ ledger, probes: [] })
    a.settleAnswer = refusal('invalid_exact_evm_signature')
    const payments = Array.from({ length: 11 }, () => newPayload())
    for (const payment of payments) {
      Object.assign(payment.payload.authorization as object, { validBefore: '99999999999999' })
      expect(await settle(payment)).toMatch(/^refused: /)
    }
    expect(ledger.size).toBe(10)
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
      await settle(forged)
    }
    a.settleAnswer = settled
    const one = newPayload()
    expect([await settle(one), await settle()]).toEqual(['success', 'success'])
    expect(await settle(one)).toBe('refused: duplicate_settlement')
    expect(await settle(closed)).toBe('refused: duplicate_settlement')
    expect(await settle()).toBe('LEDGER_FULL')
  })
})

describe('what has no words', () => {
  const nothing = () => Object.create(null) as Error

  it('from a ledger, after the money has moved', async () => {
    pool({ ledger: ledgerWith(new MemoryLedger(), { update: () => Promise.reject(nothing()) }) })
    expect(await settle()).toBe('success')
  })

  it('from a facilitator, and cannot even be read', async () => {
    a.verifyAnswer = () => {
      throw Object.defineProperty({}, 'message', {
        get() {
          throw new Error('unreadable')
        },
      })
    }
    expect(await done(pool().verify(newPayload(), requirements()))).toEqual(valid)
  })

  it('from a listener', async () => {
    pool().on('attempt', () => {
      throw nothing()
    })
    expect(await settle()).toBe('success')
  })

  it('from a facilitator, whose half-open circuit gets its trial back', async () => {
    a.verifyAnswer = httpError(502)
    pool({}, { retries: 0, healthCheck: { intervalMs: 1_000_000, coolDownMs: 1_000 } })
    const verify = () => done(aggregator.verify(newPayload(), requirements()))
    for (let i = 0; i < 3; i++) await verify()
    await vi.advanceTimersByTimeAsync(1_500)
    a.verifyAnswer = () => {
      throw nothing()
    }
    await verify()
    a.verifyAnswer = valid
    const { verify: before } = a.calls
    await vi.advanceTimersByTimeAsync(2_000)
    await verify()
    expect(a.calls.verify).toBe(before + 1)
    await aggregator.stop()
  })

  it('from a probe, which is asked again', async () => {
    let questions = 0
    const odd: SettlementProbe = {
      supports: () => true,
      ask: () => (++questions === 1 ? Promise.reject(nothing()) : Promise.resolve(paid)),
    }
    a.settleAnswer = httpError(502)
    pool({ probes: [odd] })
    expect(await settle()).toBe('success')
  })
})

it('a transaction of a megabyte is kept short', async () => {
  a.settleAnswer = refusal('invalid_exact_evm_transaction_failed', 'x'.repeat(1_000_000))
  chain = silent
  pool({}, { deadlineMs: { settle: 1_000 } })
  await settle()
  const [left] = await aggregator.getUnresolvedSettlements()
  expect(left?.transaction).toHaveLength(128)
})

it('one Solana transaction has one success, whatever is appended to its bytes', async () => {
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

it('payments that nobody can simulate make no facilitator unhealthy: any buyer can sign them', async () => {
  a.verifyAnswer = { isValid: false, invalidReason: 'invalid_exact_evm_transaction_simulation_failed' }
  b.verifyAnswer = a.verifyAnswer
  pool({}, { whenAllUnhealthy: 'refuse' })
  for (let i = 0; i < 5; i++)
    await done(aggregator.verify(newPayload(), requirements()).catch(() => undefined))
  expect(aggregator.getHealthStatus().summary.healthy).toBe(2)
})
