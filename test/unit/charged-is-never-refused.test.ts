/** What facilitators say after they have charged, in the worst order: never a 402, never "nothing was charged". */
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import type { AggregatorOptions, SettlementOptions, SettlementProbe } from '../../src/index.ts'
import {
  after,
  aggregatorOf,
  done,
  FakeFacilitator,
  hanging,
  hash,
  httpError,
  newPayload,
  outcome,
  paid,
  paidAt,
  refusal,
  refused,
  requirements,
  settled,
  silent,
  unspent,
} from './builders.ts'

const used = 'invalid_exact_evm_nonce_already_used'

let a: FakeFacilitator
let b: FakeFacilitator
let isCharged: boolean

const chain: SettlementProbe = { supports: () => true, ask: async () => (isCharged ? paid : unspent) }

/** A facilitator that charges, and then says something else. */
const charges = (answer: object) => () => {
  isCharged = true
  if (answer instanceof Error) throw answer
  return answer as typeof settled
}

const pool = (settlement: SettlementOptions = {}, options: Partial<AggregatorOptions> = {}) =>
  aggregatorOf({ a, b }, { probes: [chain], ...settlement }, { retries: 0, ...options })
const settle = (aggregator = pool(), payment = newPayload()) =>
  done(outcome(aggregator.settle(payment, requirements())))

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  b = new FakeFacilitator()
  isCharged = false
})
afterEach(() => {
  vi.useRealTimers()
})

const denials: readonly (readonly [string, object])[] = [
  ...[303, 400, 401, 402, 403, 404, 405, 409, 410, 413, 415, 422, 429].map(
    status => [`HTTP ${status}`, httpError(status)] as const,
  ),
  ['unsupported_scheme', refusal('unsupported_scheme')],
  ['failed_to_execute_transfer', refusal('failed_to_execute_transfer')],
  ['internal_error', refusal('internal_error')],
]
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

describe.each(denials)('a facilitator that charged and answered %s', (_, denial) => {
  beforeEach(() => {
    a.settleAnswer = charges(denial) as never
  })

  it.each(nextAnswers)('with a probe, is found out though the next one says %s', async (_, next) => {
    b.settleAnswer = next as never
    expect(await settle()).toBe('success')
  })

  it.each(nextAnswers)('without a probe, makes no 402 when the next one says %s', async (_, next) => {
    b.settleAnswer = next as never
    const aggregator = pool({ probes: [] })
    const error = await done(aggregator.settle(newPayload(), requirements()).then(fail, error => error))
    expect(error.message).not.toMatch(/nothing was charged/)
    expect(['SETTLEMENT_INDETERMINATE', 'ALL_FACILITATORS_FAILED']).toContain(error.code)
  })

  it('with a probe whose node is down, is not said to have charged nothing', async () => {
    b.settleAnswer = httpError(401)
    expect(await settle(pool({ probes: [{ supports: () => true, ask: async () => silent }] }))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
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
    expect(await settle()).toBe(expected)
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(2_000)
    expect(performance.now() - startedAt).toBeLessThan(6_000)
  })

  it('not before: what lands one block after the answers is delivered', async () => {
    a.settleAnswer = () => {
      setTimeout(() => (isCharged = true), 1_900)
      return refusal('internal_error')
    }
    b.settleAnswer = httpError(401)
    expect(await settle()).toBe('success')
  })

  it('and at once where nothing was sent', async () => {
    const fetched = vi.spyOn(globalThis, 'fetch').mockRejectedValue(refused())
    onTestFinished(() => fetched.mockRestore())
    const facilitators = ['a', 'b'].map(id => ({ id, url: `https://${id}.example` }))
    const startedAt = performance.now()
    await expect(done(pool({}, { facilitators }).settle(newPayload(), requirements()))).rejects.toThrow(
      /nothing was charged/,
    )
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
  ])('not where each says %s', async (_, loses) => {
    a.settleAnswer = charges(loses) as never
    b.settleAnswer = loses
    const aggregator = pool()
    const payment = newPayload()
    expect(await settle(aggregator, payment)).toBe('SETTLEMENT_INDETERMINATE')
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    expect(await settle(aggregator, payment)).toBe('SETTLEMENT_INDETERMINATE')
    expect(a.calls.settle).toBe(1)
  })

  it('whose transaction one of them has named', async () => {
    a.settleAnswer = charges(refusal('invalid_exact_evm_transaction_failed', hash)) as never
    expect(await settle()).toBe('success')
  })

  it('when one attempt is unaccounted for', async () => {
    a.settleAnswer = hanging
    b.settleAnswer = charges(refusal('invalid_exact_evm_transaction_failed', other)) as never
    expect(await settle()).toBe('success')
  })

  it('and what is not is announced as unattributed, not as something to deliver', async () => {
    const results: string[] = []
    a.settleAnswer = charges(refusal(used)) as never
    const aggregator = pool().on('settlement:resolved', ({ result }) => results.push(result))
    expect(await settle(aggregator)).toBe('SETTLEMENT_INDETERMINATE')
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
    expect(await settle()).toBe('success')
    expect([a.calls.settle, b.calls.settle]).toEqual([1, 2])
    expect(performance.now() - startedAt).toBeLessThan(12_000)
  })

  it('is not asked again before the chain shows that nothing came of it', async () => {
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    const old: SettlementProbe = {
      supports: () => true,
      ask: async () => ({ state: 'unspent', asOf: Date.now() / 1000 - 60 }),
    }
    expect(await settle(pool({ probes: [old] }))).toBe('SETTLEMENT_INDETERMINATE')
    expect([a.calls.settle, b.calls.settle]).toEqual([1, 1])
  })
})

describe('an audit', () => {
  const claimed = `0x${'66'.repeat(32)}`
  const claim = { ...settled, transaction: claimed }

  function audited(probe: SettlementProbe = chain) {
    const quarantined: string[] = []
    const aggregator = pool({ audit: 'always', probes: [probe] })
    aggregator.on('facilitator:quarantined', event => quarantined.push(event.facilitator))
    return { aggregator, quarantined }
  }

  it('takes a purchase of nothing, which moves nothing, at its word', async () => {
    a.settleAnswer = { ...settled, transaction: '' }
    const { aggregator, quarantined } = audited()
    const terms = requirements({ amount: '0' })
    expect(await done(outcome(aggregator.settle(newPayload(), terms)))).toBe('success')
    expect(quarantined).toEqual([])
  })

  it('does not take a purchase of something at its word when no transaction is named', async () => {
    a.settleAnswer = { ...settled, transaction: '' }
    b.settleAnswer = charges(settled) as never
    const { aggregator, quarantined } = audited()
    expect(await settle(aggregator)).toBe('success')
    expect(quarantined).toEqual(['a'])
  })

  it('finds a false claim of an overtaken facilitator after the verdict of the next', async () => {
    a.settleAnswer = async () => {
      await after(7_000)
      return claim
    }
    b.settleAnswer = refusal('insufficient_funds')
    const { aggregator, quarantined } = audited()
    expect(await settle(aggregator)).toBe('SETTLEMENT_INDETERMINATE')
    expect(quarantined).toEqual(['a'])
  })

  it('finds both of two false claims', async () => {
    a.settleAnswer = async () => {
      await after(6_000)
      return claim
    }
    b.settleAnswer = async () => {
      await after(1_500)
      return claim
    }
    const { aggregator, quarantined } = audited()
    await settle(aggregator)
    expect(quarantined.sort()).toEqual(['a', 'b'])
  })

  it('finds a false claim though another facilitator has paid meanwhile', async () => {
    a.settleAnswer = async () => {
      await after(5_400)
      return claim
    }
    b.settleAnswer = async () => {
      await after(600)
      isCharged = true
      return { ...settled, transaction: hash }
    }
    const { aggregator, quarantined } = audited()
    expect(await settle(aggregator)).toBe('success')
    expect(quarantined).toEqual(['a'])
  })

  it.each([
    ['cancelled', { state: 'spent-otherwise', transaction: hash } as const],
    ['run out', { state: 'unspent', asOf: 5_000_000_000 } as const],
  ])('finds a false claim about a payment that was %s', async (_, answer) => {
    a.settleAnswer = claim
    const { aggregator, quarantined } = audited({ supports: () => true, ask: async () => answer })
    expect(await settle(aggregator)).toMatch(/^refused/)
    expect(quarantined).toEqual(['a'])
  })

  it('accuses nobody who names the transaction of an earlier purchase', async () => {
    a.settleAnswer = { ...settled, transaction: hash }
    const before = Date.now() / 1000 - 600
    const { aggregator, quarantined } = audited({ supports: () => true, ask: async () => paidAt(before) })
    expect(await settle(aggregator)).toMatch(/^refused/)
    expect(quarantined).toEqual([])
  })

  it('says once of a network that no probe covers', async () => {
    const { aggregator } = audited({ supports: () => false, ask: async () => silent })
    for (let i = 0; i < 3; i++) expect(await settle(aggregator)).toBe('success')
    const warnings = aggregator.getRecentLogs().filter(({ level }) => level === 'warn')
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(/eip155:84532.*not audited/),
    ])
  })
})

function fail(): never {
  throw new Error('it was answered')
}
