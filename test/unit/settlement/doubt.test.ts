/** Invariants 2 to 4: money that may have moved is never answered with a refusal, and a verdict is not shopped. */
import { HTTPFacilitatorClient } from '@x402/core/server'
import { beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { evmSettlementProbe } from '../../../src/evm/index.ts'
import {
  type ChainReader,
  FacilitatorAggregator,
  MemoryLedger,
  type ProbeAnswer,
  SettlementIndeterminateError,
} from '../../../src/index.ts'
import { untyped } from '../../untyped.ts'
import {
  after,
  done,
  FakeFacilitator,
  hanging,
  hash,
  httpError,
  kind,
  ledgerWith,
  network,
  newPayload,
  newSvmPayload,
  outcome,
  paid,
  paidAt,
  payer,
  payloadV1,
  permit2Payload,
  refusal,
  refused,
  requirements,
  requirementsV1,
  settled,
  silent,
  supporting,
  unspent,
  valid,
} from '../builders.ts'
import {
  a,
  aggregator,
  b,
  chain,
  charges,
  emitted,
  longUnspent,
  pool,
  poolWithoutRetries,
  probe,
  seconds,
  settle,
  settleBy,
  settleCalls,
  used,
} from './harness.ts'

const spentOtherwise: ProbeAnswer = { state: 'spent-otherwise' }

describe('a settlement, with a probe', () => {
  it('does not ask the chain on the fast path', async () => {
    expect(await pool().settle(newPayload(), requirements())).toEqual(settled)
    expect(chain.questions).toBe(0)
  })

  it.each([
    ['502', httpError(502)],
    ['garbage', untyped({ success: true })],
    ['a failed transaction', refusal('invalid_exact_evm_transaction_failed', hash)],
    ['a pending one', refusal('settlement_pending', hash)],
  ])('is a success after %s, when the chain shows it paid', async (_, answer) => {
    a.settleAnswer = answer
    chain.answer = paid
    expect(await done(pool().settle(newPayload(), requirements()))).toEqual({
      success: true,
      transaction: hash,
      network: requirements().network,
      payer,
    })
    expect(settleCalls()).toEqual([1, 0])
    expect(emitted('settlement:recovered')).toEqual([expect.objectContaining({ transaction: hash })])
  })

  it('goes on to the next facilitator when the chain shows it unspent', async () => {
    a.settleAnswer = httpError(502)
    expect(await done(pool().settle(newPayload(), requirements()))).toEqual(settled)
    expect(settleCalls()).toEqual([1, 1])
  })

  it('asks all facilitators again when all have failed and the chain shows that nothing came of it', async () => {
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
    chain.answer = spentOtherwise
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({
      success: false,
      errorReason: 'nonce_already_used',
    })
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is a rejection when the chain knows it from before the settlement began: that is a replay', async () => {
    a.settleAnswer = hanging
    chain.answer = paidAt(Date.now() / 1000 - 61)
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({
      success: false,
      errorReason: 'nonce_already_used',
    })
    chain.answer = paidAt(Date.now() / 1000 - 1)
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: true })
  })

  it('waits for a silent chain, and concludes nothing from its silence', async () => {
    a.settleAnswer = httpError(502)
    chain.answer = [silent, silent, silent, paid]
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: true })
    expect(settleCalls()).toEqual([1, 0])
  })

  it('is indeterminate at the deadline when the chain stays silent, and nobody else is asked', async () => {
    a.settleAnswer = httpError(502)
    chain.answer = silent
    const startedAt = performance.now()
    await expect(done(pool().settle(newPayload(), requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(performance.now() - startedAt).toBeLessThanOrEqual(60_100)
    expect(settleCalls()).toEqual([1, 0])
  })

  it('ends at the deadline even if the probe never answers', async () => {
    a.settleAnswer = httpError(502)
    const deaf: ChainReader = { supports: () => true, ask: () => new Promise(() => {}) }
    const startedAt = performance.now()
    await expect(done(pool({ probes: [deaf] }).settle(newPayload(), requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(performance.now() - startedAt).toBeLessThanOrEqual(60_100)
  })

  it('is indeterminate, not refused, when a probe has a fault', async () => {
    const broken: ChainReader = {
      supports: () => {
        throw new Error('bug')
      },
      ask: async () => unspent,
    }
    await expect(pool({ probes: [broken] }).settle(newPayload(), requirements())).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    const throwing: ChainReader = { supports: () => true, ask: () => Promise.reject(new Error('bug')) }
    a.settleAnswer = httpError(502)
    await expect(
      done(pool({ probes: [throwing] }).settle(newPayload(), requirements())),
    ).rejects.toBeInstanceOf(SettlementIndeterminateError)
  })

  it('is done when the chain shows it paid, though a facilitator hangs', async () => {
    a.settleAnswer = hanging
    chain.answer = [unspent, paid]
    const startedAt = performance.now()
    const ledger = ledgerWith(new MemoryLedger(), {})
    const settlement = pool({ ledger }).settle(newPayload(), requirements())
    expect(await done(settlement)).toMatchObject({ transaction: hash })
    expect(performance.now() - startedAt).toBeLessThan(2_500)
    expect(settleCalls()).toEqual([1, 0])
  })

  it('gives a facilitator failoverAfterMs to account for itself where a replica may have its own ledger', async () => {
    a.settleAnswer = hanging
    chain.answer = [unspent, paid]
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
    chain.answer = [unspent, paid]
    expect(await done(outcome(pool().settle(newPayload(), requirements())))).toBe('SETTLEMENT_INDETERMINATE')
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
    expect(emitted('failover')).toEqual([
      expect.objectContaining({ from: 'a', to: 'b', reason: 'no answer within 5000 ms' }),
    ])
  })

  it('does not believe "nonce used" from the next facilitator: it was our own payment', async () => {
    a.settleAnswer = hanging
    b.settleAnswer = () => {
      chain.answer = paid
      return refusal('invalid_exact_evm_nonce_already_used')
    }
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({
      success: true,
      transaction: hash,
    })
  })

  it.each(['failed_to_execute_transfer', 'batch_send_failed'])(
    'does not believe %s when the chain shows it paid',
    async reason => {
      a.settleAnswer = refusal(reason)
      b.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
      chain.answer = paid
      expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({ success: true })
      a.settleAnswer = refusal(reason)
      b.settleAnswer = refused()
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
    chain.answer = { state: 'unspent', asOf: 4_000_000_000 }
    expect(await done(pool().settle(newPayload(), requirements()))).toMatchObject({
      success: false,
      errorReason: 'payment_expired',
    })
  })
})

describe('a settlement, without a probe', () => {
  it('does not ask the next facilitator after doubt, and overtakes no hanging one', async () => {
    a.settleAnswer = hanging
    await expect(done(pool({ probes: [] }).settle(newPayload(), requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(settleCalls()).toEqual([1, 0])
  })
})

describe('a scheme whose replay protection is not known', () => {
  const exotic = requirements({ scheme: 'exotic' })

  it('has no rescue and no failover after doubt, even with a probe', async () => {
    a.settleAnswer = httpError(502)
    chain.answer = paid
    await expect(done(pool().settle(newPayload(), exotic))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect([chain.questions, ...settleCalls()]).toEqual([0, 1, 0])
  })
})

describe('where no chain can be asked', () => {
  it.each([
    ['refused', refused()],
    ['limited', new Error('Facilitator settle failed (429): <html>')],
  ])('a pending settlement is the last, though its repeat is %s', async (_, second) => {
    let calls = 0
    a.settleAnswer = () => {
      if (++calls === 1) return refusal('settlement_pending', hash)
      throw second
    }
    const settling = pool({}, { retries: 0 }).settle(newPayload(), requirements({ scheme: 'exotic' }))
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
    expect(b.calls.settle).toBe(0)
  })
})

describe('a payment of version 1 that has no key', () => {
  it('is announced with its amount when it is left in doubt', async () => {
    a.settleAnswer = httpError(502)
    const aggregator = pool()
    const amounts: string[] = []
    aggregator.on('settlement:indeterminate', ({ amount }) => amounts.push(amount))
    const settling = aggregator.settle(
      { ...payloadV1(), scheme: 'exotic' },
      requirementsV1({ scheme: 'exotic' }),
    )
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
    expect(amounts).toEqual(['10000'])
  })
})

const denials: readonly (readonly [string, object])[] = [
  ...[303, 400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 429].map(
    status => [`HTTP ${status}`, httpError(status)] as const,
  ),
  ['unsupported_scheme', refusal('unsupported_scheme')],
  ['failed_to_execute_transfer', refusal('failed_to_execute_transfer')],
  ['internal_error', refusal('internal_error')],
]

/** Those that are believed where no chain can be asked, though not that nothing was charged. */
const refusals = [401, 403, 404, 405, 410, 413, 415, 429].map(status => `HTTP ${status}`)
const failures = ['HTTP 401', 'nothing, as it is down']
const nextAnswers: readonly (readonly [string, object])[] = [
  ['"nonce used"', refusal(used)],
  ...[
    'invalid_payload',
    'eip2612_nonce_mismatch',
    'erc20_approval_tx_failed',
    'invalid_exact_evm_signature',
  ].map(reason => [reason, refusal(reason)] as const),
  ['HTTP 401', httpError(401)],
  ['no gas', refusal('failed_to_execute_transfer')],
  ['nothing, as it is down', refused()],
]

describe.each(denials)('a facilitator that charged and answered %s', (name, denial) => {
  beforeEach(() => {
    a.settleAnswer = charges(denial)
  })

  it.each(nextAnswers)('with a probe, is delivered though the next one answers %s', async (_, next) => {
    b.settleAnswer = untyped(next)
    expect(await settleBy(poolWithoutRetries())).toBe('success')
  })

  it.each(nextAnswers)(
    'without a probe, makes no 402 when the next one answers %s',
    async (nextName, next) => {
      b.settleAnswer = untyped(next)
      const aggregator = poolWithoutRetries({ probes: [] })
      await expect(done(aggregator.settle(newPayload(), requirements()))).rejects.toMatchObject({
        code:
          refusals.includes(name) && failures.includes(nextName)
            ? 'ALL_FACILITATORS_FAILED'
            : 'SETTLEMENT_INDETERMINATE',
        message: expect.not.stringMatching(/nothing was charged/),
      })
    },
  )

  it('with a probe whose node is down, is indeterminate', async () => {
    b.settleAnswer = httpError(401)
    expect(
      await settleBy(poolWithoutRetries({ probes: [{ supports: () => true, ask: async () => silent }] })),
    ).toBe('SETTLEMENT_INDETERMINATE')
  })
})

describe('a failure is reported once a block made after the last attempt shows the payment unspent', () => {
  it.each([
    ['a verdict', refusal('insufficient_funds'), 'refused: insufficient_funds'],
    ['"nonce used", though it is not yet', refusal(used), 'SETTLEMENT_INDETERMINATE'],
    ['a denial', refusal('failed_to_execute_transfer'), 'ALL_FACILITATORS_FAILED'],
    ['HTTP 401', httpError(401), 'ALL_FACILITATORS_FAILED'],
    ['the want of an ability', refusal('unsupported_scheme'), 'refused: unsupported_scheme'],
  ])('after %s', async (_, answer, expected) => {
    a.settleAnswer = answer
    b.settleAnswer = answer
    const startedAt = performance.now()
    expect(await settleBy(poolWithoutRetries())).toBe(expected)
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(2_000)
    expect(performance.now() - startedAt).toBeLessThan(6_000)
  })

  it('not before: what lands one block after the answers is delivered', async () => {
    a.settleAnswer = () => {
      setTimeout(() => (chain.answer = paid), 1_900)
      return refusal('internal_error')
    }
    b.settleAnswer = httpError(401)
    expect(await settleBy(poolWithoutRetries())).toBe('success')
  })

  it('and at once where nothing was sent', async () => {
    const fetched = vi.spyOn(globalThis, 'fetch').mockRejectedValue(refused())
    onTestFinished(() => fetched.mockRestore())
    const facilitators = ['a', 'b'].map(id => ({ id, url: `https://${id}.example` }))
    const startedAt = performance.now()
    await expect(
      done(poolWithoutRetries({}, { facilitators }).settle(newPayload(), requirements())),
    ).rejects.toThrow(/nothing was charged/)
    expect(performance.now() - startedAt).toBeLessThan(100)
  })
})

describe('what the chain shows is delivered only where an attempt of this settlement can have made it', () => {
  const other = `0x${'77'.repeat(32)}`

  it.each([
    ['its own transaction, which failed', refusal('invalid_exact_evm_transaction_failed', other)],
    ['that it has been used', refusal(used)],
    ['that it is being settled by another', refusal('duplicate_settlement')],
    ['that it cannot be simulated any more', refusal('invalid_exact_evm_simulation_failed')],
  ])('and not where each facilitator reports %s', async (_, loses) => {
    a.settleAnswer = charges(loses)
    b.settleAnswer = loses
    const aggregator = poolWithoutRetries()
    const payment = newPayload()
    expect(await settleBy(aggregator, payment)).toBe('SETTLEMENT_INDETERMINATE')
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    expect(await settleBy(aggregator, payment)).toBe('SETTLEMENT_INDETERMINATE')
    expect(a.calls.settle).toBe(1)
  })

  it('such as one whose transaction it has named', async () => {
    a.settleAnswer = charges(refusal('invalid_exact_evm_transaction_failed', hash))
    expect(await settleBy(poolWithoutRetries())).toBe('success')
  })

  it('such as one that is unaccounted for', async () => {
    a.settleAnswer = hanging
    b.settleAnswer = charges(refusal('invalid_exact_evm_transaction_failed', other))
    expect(await settleBy(poolWithoutRetries())).toBe('success')
  })

  it('and is announced as unattributed otherwise, not as something to deliver', async () => {
    const results: string[] = []
    a.settleAnswer = charges(refusal(used))
    const aggregator = poolWithoutRetries().on('settlement:resolved', ({ result }) => results.push(result))
    expect(await settleBy(aggregator)).toBe('SETTLEMENT_INDETERMINATE')
    await vi.advanceTimersByTimeAsync(20_000)
    expect(results).toEqual(['unattributed'])
  })
})

describe('a facilitator that failed in passing', () => {
  it.each([
    ['502', httpError(502)],
    ['503', httpError(503)],
    ['a reset', new TypeError('fetch failed', { cause: { code: 'ECONNRESET' } })],
  ])('with %s is asked again while another one hangs', async (_, failure) => {
    a.settleAnswer = hanging
    b.settleAnswer = () => {
      if (b.calls.settle === 1) throw failure
      return settled
    }
    const startedAt = performance.now()
    expect(await settleBy(poolWithoutRetries())).toBe('success')
    expect([a.calls.settle, b.calls.settle]).toEqual([1, 2])
    expect(performance.now() - startedAt).toBeLessThan(12_000)
  })

  it('is not asked again before the chain shows that nothing came of it', async () => {
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    const old: ChainReader = {
      supports: () => true,
      ask: async () => ({ state: 'unspent', asOf: Date.now() / 1000 - 60 }),
    }
    expect(await settleBy(poolWithoutRetries({ probes: [old] }))).toBe('SETTLEMENT_INDETERMINATE')
    expect([a.calls.settle, b.calls.settle]).toEqual([1, 1])
  })
})

describe('money that moved is never answered with a refusal', () => {
  it.each([used, 'insufficient_funds'])(
    'when both facilitators answer while the chain is being asked: %s',
    async bAnswer => {
      const slowProbe: ChainReader = {
        supports: () => true,
        ask: async () => {
          await after(300)
          return chain.ask()
        },
      }
      const block = 5_900
      setTimeout(() => {
        chain.answer = paid
      }, block)
      const beganAt = performance.now()
      a.settleAnswer = async () => {
        await after(block + 150)
        return refusal(used)
      }
      b.settleAnswer = async () => {
        await after(Math.max(0, beganAt + block + 50 - performance.now()))
        return refusal(bAnswer)
      }
      const settling = pool({ probes: [slowProbe] }).settle(newPayload(), requirements())
      // Each reports that another one used it: what the chain shows may be another seller's process.
      expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
    },
  )

  it('when the clock is fast', async () => {
    a.settleAnswer = httpError(502)
    chain.answer = paidAt(Math.floor((Date.now() - 10_000) / 1000) + 2)
    expect(await outcome(done(pool().settle(newPayload(), requirements())))).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('when the connection broke while the answer was read', async () => {
    const cause = Object.assign(new Error('read'), { code: 'EHOSTUNREACH', syscall: 'read' })
    a.settleAnswer = new TypeError('fetch failed', { cause })
    b.settleAnswer = refusal(used)
    chain.answer = paid
    expect(await outcome(done(pool({}, { retries: 0 }).settle(newPayload(), requirements())))).toBe('success')
  })

  it.each([
    ...[400, 402, 403, 404, 429].map(
      status => [status, 'a whole success', { ...settled, transaction: hash }] as const,
    ),
    [402, 'a success without its network', { success: true, transaction: hash }] as const,
  ])('when HTTP %d comes with %s', async (status, _, body) => {
    chain.answer = paid
    b.settleAnswer = refusal(used)
    const aggregator = new FacilitatorAggregator({
      facilitators: [
        { id: 'a', url: 'https://a.example', fetch: async () => Response.json(body, { status }) },
        { id: 'b', client: b },
      ],
      healthCheck: false,
      retries: 0,
      settlement: { probes: [probe] },
    })
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe('success')
  })

  it('when the chain does not answer at once whether a facilitator in trouble has broadcast nothing', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refusal('insufficient_funds')
    chain.answer = [silent, paid]
    expect(await outcome(done(pool().settle(newPayload(), requirements())))).toBe('success')
  })

  it('when a probe throws an error without a message', async () => {
    a.settleAnswer = httpError(502)
    const odd: ChainReader = {
      supports: () => true,
      ask: () => Promise.reject(Object.assign(new Error(), { message: undefined })),
    }
    const settling = pool({ probes: [odd] }, { deadlineMs: 3_000 }).settle(newPayload(), requirements())
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('when a probe does not date the payment', async () => {
    a.settleAnswer = httpError(502)
    chain.answer = { state: 'paid', transaction: hash } as ProbeAnswer
    const settling = pool({}, { deadlineMs: 3_000 }).settle(newPayload(), requirements())
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('when the node that knows the time knows a block more than the one that knows the state', async () => {
    const end = 2_000_000_000
    const client = {
      getBlock: async () => ({ number: 101n, timestamp: BigInt(end + 100) }),
      readContract: async ({ blockNumber }: { blockNumber?: bigint }) => {
        if (blockNumber !== undefined && blockNumber > 100n) throw new Error('header not found')
        return false
      },
    }
    const payment = newPayload()
    Object.assign(payment.payload.authorization as object, { validBefore: `${end}` })
    a.settleAnswer = httpError(502)
    b.settleAnswer = hanging
    const behind = evmSettlementProbe({ [network]: { client: untyped(client) } })
    expect(await outcome(done(pool({ probes: [behind] }).settle(payment, requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
  })

  it('when an authorization has run out only just', async () => {
    const end = 2_000_000_000
    a.settleAnswer = httpError(502)
    b.settleAnswer = hanging
    chain.answer = { state: 'unspent', asOf: end + 59 }
    expect(await outcome(done(pool().settle(permit2Payload('1', `${end}`), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    chain.answer = { state: 'unspent', asOf: end + 60 }
    expect(await outcome(done(pool().settle(permit2Payload('2', `${end}`), requirements())))).toBe(
      'refused: payment_expired',
    )
  })
})

describe('a node that is behind', () => {
  it('does not confirm that nothing was broadcast', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refusal('invalid_exact_evm_insufficient_balance')
    pool({ credit: false })
    chain.answer = [longUnspent(), paid]
    expect(await settle()).toBe('success')
    chain.answer = longUnspent()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    chain.answer = unspent
    expect(await settle()).toBe('refused: invalid_exact_evm_insufficient_balance')
  })

  it('and stands still at the very block of a payment makes no new one of its replay', async () => {
    a.settleAnswer = httpError(502)
    pool()
    const minedAt = seconds() - 1_000
    chain.answer = { ...paid, minedAt, asOf: minedAt }
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  })
})

it('a chain that dates its blocks back after a halt makes no replay of a new payment', async () => {
  const start = seconds()
  const haltedAt = start - 300
  a.settleAnswer = httpError(502)
  const catchingUp: ChainReader = {
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
    chain.answer = { ...paid, minedAt: realSeconds + 2, asOf: realSeconds + 4 }
    pool()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('delivers no replay when it is slow', async () => {
    const realSeconds = seconds()
    vi.setSystemTime(Date.now() - 120_000)
    a.settleAnswer = httpError(502)
    chain.answer = { ...paid, minedAt: realSeconds - 100, asOf: realSeconds }
    pool()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
  })
})

describe('an unconfirmed denial', () => {
  beforeEach(() => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
  })

  it.each(['permit2_insufficient_balance', 'permit2_allowance_required', 'insufficient_funds'])(
    'does not make %s a verdict where no chain can be asked',
    async reason => {
      b.settleAnswer = refusal(reason)
      pool({ probes: [] })
      expect(await settle(permit2Payload())).toBe('SETTLEMENT_INDETERMINATE')
    },
  )

  it.each(['failed_to_execute_transfer', 'permit2_simulation_failed'])(
    'is not believed after %s either',
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
  ])('makes the verdict of the next facilitator doubtful, %s', async (_, probes) => {
    chain.answer = silent
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
    chain.answer = then
    pool()
    expect(await settle()).toBe(expected)
    expect([a.calls.settle, b.calls.settle]).toEqual([1, 1])
  })

  it('that "nonce used" may confirm is asked of a node that is behind until it has caught up', async () => {
    const start = seconds()
    b.settleAnswer = refusal(used)
    const lagging: ChainReader = {
      supports: () => true,
      ask: async () => (seconds() - start < 8 ? { state: 'unspent', asOf: seconds() - 8 } : paid),
    }
    pool({ probes: [lagging], failoverAfterMs: 1_000 })
    expect(await settle()).toBe('success')
  })

  it('counts more than a missing ability, at the retry too', async () => {
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

  it("is suspected where the connection of upstream's HTTP client was refused, which may have followed a redirect", async () => {
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
    'lets the retry through to its settle, though verify answers %s',
    async reason => {
      b.settleAnswer = a.settleAnswer
      pool()
      const payment = permit2Payload()
      expect(await settle(payment)).toBe('ALL_FACILITATORS_FAILED')
      a.verifyAnswer = { isValid: false, invalidReason: reason }
      b.verifyAnswer = a.verifyAnswer
      expect(await done(aggregator.verify(payment, requirements()))).toMatchObject({ isValid: true })
      a.verifyAnswer = { isValid: false, invalidReason: 'invalid_exact_evm_signature' }
      expect(await done(aggregator.verify(payment, requirements()))).toEqual(a.verifyAnswer)
      chain.answer = paid
      expect(await settle(payment)).toBe('success')
    },
  )

  it.each([
    ['goes on to the next', () => refusal('unheard_of'), refusal(used), 0],
    ['is retried', () => refusal(used), settled, 1],
  ])(
    'is suspected when a client of the seller throws that it got no connection, and %s',
    async (_, second, bAnswer, retries) => {
      let calls = 0
      a.settleAnswer = () => {
        chain.answer = paid
        if (++calls > 1) return second()
        throw refused()
      }
      b.settleAnswer = bAnswer
      pool({}, { retries })
      expect(await settle()).toBe('success')
      expect(b.calls.settle).toBe(1 - retries)
    },
  )
})

describe('a verdict', () => {
  it('is not shopped while an overtaken facilitator is still silent', async () => {
    const c = new FakeFacilitator()
    a.settleAnswer = hanging
    b.settleAnswer = refusal('insufficient_funds')
    const aggregator = pool(
      {},
      { facilitators: [a, b, c].map((client, i) => ({ id: 'abc'[i] ?? '', client })), deadlineMs: 30_000 },
    )
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    expect([a, b, c].map(({ calls }) => calls.settle)).toEqual([1, 1, 0])
  })

  it('is not shopped by the retry of a facilitator that was overtaken', async () => {
    a.settleAnswer = async () => {
      await after(5_300)
      throw refused()
    }
    b.settleAnswer = refusal('invalid_exact_evm_payload_authorization_from_address_kyt')
    pool()
    expect(await settle()).toBe('refused: invalid_exact_evm_payload_authorization_from_address_kyt')
    await vi.advanceTimersByTimeAsync(30_000)
    expect(a.calls.settle).toBe(1)
  })
})

it('a pending settlement is asked for again while no node answers', async () => {
  let calls = 0
  a.settleAnswer = () => (++calls < 3 ? refusal('settlement_pending', hash) : settled)
  chain.answer = silent
  pool()
  expect(await settle()).toBe('success')
})

it('a facilitator that is disabled during a settlement is not asked', async () => {
  a.settleAnswer = hanging
  pool()
  const settling = settle()
  await vi.advanceTimersByTimeAsync(100)
  aggregator.setFacilitatorEnabled('b', false)
  expect(await settling).toBe('SETTLEMENT_INDETERMINATE')
  expect(b.calls.settle).toBe(0)
})

describe('a thrown value without a message changes no result', () => {
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
    const odd: ChainReader = {
      supports: () => true,
      ask: () => (++questions === 1 ? Promise.reject(nothing()) : Promise.resolve(paid)),
    }
    a.settleAnswer = httpError(502)
    pool({ probes: [odd] })
    expect(await settle()).toBe('success')
  })
})

it('payments that nobody can simulate make no facilitator unhealthy: any buyer can sign them', async () => {
  a.verifyAnswer = { isValid: false, invalidReason: 'invalid_exact_evm_transaction_simulation_failed' }
  b.verifyAnswer = a.verifyAnswer
  pool({}, { whenAllUnhealthy: 'refuse' })
  for (let i = 0; i < 5; i++)
    await expect(done(aggregator.verify(newPayload(), requirements()))).rejects.toMatchObject({
      code: 'ALL_FACILITATORS_FAILED',
    })
  expect(aggregator.getHealthStatus().summary.healthy).toBe(2)
})
