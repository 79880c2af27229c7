import { SettleError } from '@x402/core/types'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { FacilitatorRequestError } from '../../src/facilitator/request-error.ts'
import {
  type FacilitatorAggregator as Aggregator,
  type AggregatorOptions,
  AllFacilitatorsFailedError,
  FacilitatorAggregator,
  SettlementIndeterminateError,
} from '../../src/index.ts'
import { untyped } from '../untyped.ts'
import {
  done,
  FakeFacilitator,
  hanging,
  httpError,
  kind,
  newPayload,
  newSvmPayload,
  payload,
  payloadV1,
  refusal,
  refused,
  requirements,
  requirementsV1,
  settled,
  supporting,
  valid,
} from './builders.ts'

const hash = `0x${'ef'.repeat(32)}`
let a: FakeFacilitator
let b: FakeFacilitator
let c: FakeFacilitator

function pool(options: Partial<AggregatorOptions> = {}): Aggregator {
  return new FacilitatorAggregator({
    facilitators: [
      { id: 'a', client: a },
      { id: 'b', client: b },
      { id: 'c', client: c },
    ],
    healthCheck: false,
    ...options,
  })
}
const verify = (aggregator: Aggregator) => aggregator.verify(payload(), requirements())
const settle = (aggregator: Aggregator) => aggregator.settle(newPayload(), requirements())
const verifyCalls = () => [a.calls.verify, b.calls.verify, c.calls.verify]
const settleCalls = () => [a.calls.settle, b.calls.settle, c.calls.settle]

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  b = new FakeFacilitator()
  c = new FakeFacilitator()
})
afterEach(() => {
  vi.useRealTimers()
})

/** What our HTTP client throws for a 429 with `Retry-After: 1`. */
const limited = new FacilitatorRequestError('HTTP 429', {
  kind: 'status',
  status: 429,
  response: undefined,
  retryAfterMs: 1_000,
})

describe('verify', () => {
  it('asks the first facilitator only, while it answers', async () => {
    expect(await verify(pool())).toEqual(valid)
    expect(verifyCalls()).toEqual([1, 0, 0])
  })

  it.each([
    ['refused', refused()],
    ['broken (500)', httpError(500)],
    ['unable to answer sense', untyped('garbage')],
  ])('tries a facilitator that is %s once more, then the next', async (_, answer) => {
    a.verifyAnswer = answer
    expect(await done(verify(pool()))).toEqual(valid)
    expect(verifyCalls()).toEqual([2, 1, 0])
  })

  it.each([
    ['out of quota', httpError(402)],
    ['without our credentials', httpError(401)],
    ['at another address', httpError(404)],
    ['rate-limiting', httpError(429)],
    ['regressed to 400', httpError(400)],
    ['in trouble', { isValid: false, invalidReason: 'unexpected_verify_error' }],
    ['unable', { isValid: false, invalidReason: 'unsupported_scheme' }],
  ])('goes on at once from a facilitator that is %s', async (_, answer) => {
    a.verifyAnswer = answer
    expect(await verify(pool())).toEqual(valid)
    expect(verifyCalls()).toEqual([1, 1, 0])
  })

  it('waits for a facilitator that hangs until its timeout, and not twice', async () => {
    a.verifyAnswer = hanging
    const startedAt = performance.now()
    const answer = verify(pool())
    await vi.advanceTimersByTimeAsync(5_000)
    expect(await answer).toEqual(valid)
    expect(performance.now() - startedAt).toBe(5_000)
    expect(verifyCalls()).toEqual([1, 1, 0])
  })

  it('keeps time for a third facilitator when two hang', async () => {
    a.verifyAnswer = hanging
    b.verifyAnswer = hanging
    expect(await done(verify(pool()))).toEqual(valid)
    expect(verifyCalls()).toEqual([1, 1, 1])
  })

  it('aborts the signal of a client that listens to it', async () => {
    let signal: AbortSignal | undefined
    a.verifyAnswer = options => {
      signal = options?.signal
      return hanging()
    }
    await done(verify(pool()))
    expect(signal?.aborted).toBe(true)
  })

  it.each(['insufficient_funds', 'invalid_exact_evm_nonce_already_used', 'something_new'])(
    'returns the verdict %s of the first facilitator and asks no other',
    async invalidReason => {
      const verdict = { isValid: false, invalidReason }
      a.verifyAnswer = verdict
      expect(await verify(pool())).toEqual(verdict)
      expect(verifyCalls()).toEqual([1, 0, 0])
    },
  )

  it('returns the last answer when every facilitator lacks the ability', async () => {
    a.verifyAnswer = { isValid: false, invalidReason: 'unsupported_scheme' }
    b.verifyAnswer = { isValid: false, invalidReason: 'invalid_network' }
    c.verifyAnswer = { isValid: false, invalidReason: 'network_mismatch' }
    expect(await verify(pool())).toEqual({ isValid: false, invalidReason: 'network_mismatch' })
  })

  it('fails with one line per attempt when nobody answers', async () => {
    a.verifyAnswer = refused()
    b.verifyAnswer = httpError(503)
    c.verifyAnswer = httpError(401)
    const error = await done(verify(pool({ retries: 0 }))).catch((thrown: unknown) => thrown)
    expect(error).toBeInstanceOf(AllFacilitatorsFailedError)
    expect((error as Error).message).toBe(
      'verify: all facilitators failed (3 of 3 asked); nothing was charged.\n' +
        '  a: unreachable, ECONNREFUSED (0 ms)\n' +
        '  b: unknown, HTTP 503 (0 ms)\n' +
        '  c: declined, HTTP 401 (0 ms)',
    )
  })

  it('waits out a short Retry-After at the last facilitator left', async () => {
    const aggregator = new FacilitatorAggregator({
      facilitators: [{ id: 'only', url: 'https://only.example', fetch: limitedOnce() }],
      healthCheck: false,
    })
    const startedAt = performance.now()
    expect(await done(verify(aggregator))).toEqual(valid)
    expect(performance.now() - startedAt).toBeGreaterThanOrEqual(2_000)
  })

  it('serves payments of protocol version 1', async () => {
    expect(await pool().verify(payloadV1(), requirementsV1())).toEqual(valid)
  })
})

describe('settle', () => {
  it('asks the first facilitator only, while it answers', async () => {
    expect(await settle(pool())).toEqual(settled)
    expect(settleCalls()).toEqual([1, 0, 0])
  })

  it('tries again where the request did not arrive, then goes on', async () => {
    a.settleAnswer = refused()
    expect(await done(settle(pool()))).toEqual(settled)
    expect(settleCalls()).toEqual([2, 1, 0])
  })

  it.each([
    ['without our credentials', httpError(403)],
    ['rate-limiting', httpError(429)],
    ['without gas, and says so', refusal('failed_to_execute_transfer')],
    ['unable', refusal('unsupported_scheme')],
  ])('goes on from a facilitator that is %s', async (_, answer) => {
    a.settleAnswer = answer
    expect(await settle(pool())).toEqual(settled)
    expect(settleCalls()).toEqual([1, 1, 0])
  })

  it.each([
    ['a 502', httpError(502)],
    ['a 402', httpError(402)],
    ['a 400', httpError(400)],
    ['a reset', new TypeError('fetch failed', { cause: { code: 'ECONNRESET' } })],
    ['silence', hanging],
    ['garbage', untyped({ success: true })],
    ['a failed transaction', refusal('invalid_exact_evm_transaction_failed', hash)],
    ['a thrown SettleError with a hash', new SettleError(500, refusal('gremlins', hash))],
  ])('after %s asks nobody else: the money may have moved', async (_, answer) => {
    a.settleAnswer = answer
    const events: unknown[] = []
    const aggregator = pool().on('settlement:indeterminate', event => events.push(event))
    await expect(done(settle(aggregator))).rejects.toBeInstanceOf(SettlementIndeterminateError)
    expect(settleCalls()).toEqual([1, 0, 0])
    expect(events).toHaveLength(1)
  })

  it('asks a facilitator that has broadcast again how that went, and nobody else', async () => {
    let calls = 0
    a.settleAnswer = () => (++calls < 4 ? refusal('settlement_pending', hash) : settled)
    expect(await done(settle(pool()))).toEqual(settled)
    expect(settleCalls()).toEqual([4, 0, 0])
  })

  it('takes an answer whose fields make no sense for unknown, and does not crash', async () => {
    a.settleAnswer = untyped({ success: false, errorReason: { code: 7 }, transaction: '', network: 'x' })
    a.verifyAnswer = untyped({ isValid: false, invalidReason: 42 })
    await expect(done(settle(pool()))).rejects.toBeInstanceOf(SettlementIndeterminateError)
    expect(await done(verify(pool()))).toEqual(valid)
  })

  it('names the transaction that a facilitator has named', async () => {
    a.settleAnswer = refusal('settlement_pending', hash)
    await expect(done(settle(pool()))).rejects.toMatchObject({
      transaction: hash,
      code: 'SETTLEMENT_INDETERMINATE',
    })
  })

  it('returns a rejection and asks no other', async () => {
    a.settleAnswer = refusal('insufficient_funds')
    expect(await settle(pool())).toEqual(refusal('insufficient_funds'))
    expect(settleCalls()).toEqual([1, 0, 0])
  })

  it('returns "nonce used" as a rejection when no earlier attempt can have used it', async () => {
    a.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
    expect(await done(settle(pool()))).toEqual(a.settleAnswer)
  })

  it('does not believe "nonce used" after another one refused the request, by its word', async () => {
    a.settleAnswer = httpError(429)
    b.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
    await expect(done(settle(pool()))).rejects.toBeInstanceOf(SettlementIndeterminateError)
  })

  it('does not believe "nonce used" after a facilitator had trouble: that may be our own payment', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
    await expect(settle(pool())).rejects.toBeInstanceOf(SettlementIndeterminateError)
  })

  it.each([
    ['could not be reached, it says', refused()],
    ['limited the rate', limited],
  ])('does not believe "nonce used" of the second try where the first %s', async (_, first) => {
    let calls = 0
    const settleAnswer = () => {
      if (calls++ === 0) throw first
      return refusal('invalid_exact_evm_nonce_already_used')
    }
    const only = { id: 'only', client: new FakeFacilitator({ settleAnswer }) }
    await expect(done(settle(pool({ facilitators: [only] })))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    expect(calls).toBe(2)
  })

  it('fails when nobody was reached, and says that nothing was charged', async () => {
    const fetched = vi.spyOn(globalThis, 'fetch').mockRejectedValue(refused())
    onTestFinished(() => fetched.mockRestore())
    const facilitators = ['a', 'b', 'c'].map(id => ({ id, url: `https://${id}.example` }))
    await expect(done(settle(pool({ facilitators })))).rejects.toThrow(/nothing was charged/)
  })

  it('does not say that nothing was charged where only the word of their own clients says so', async () => {
    for (const facilitator of [a, b, c]) facilitator.settleAnswer = refused()
    await expect(done(settle(pool()))).rejects.toThrow(/all facilitators failed \(3 of 3 asked\)\./)
  })
})

describe('the route', () => {
  const shared = (options: Partial<AggregatorOptions> = {}) =>
    pool({
      facilitators: [
        { id: 'a', client: a, priority: 1 },
        { id: 'b', client: b, priority: 1 },
        { id: 'c', client: c, priority: 2 },
      ],
      ...options,
    })

  it('follows the priorities, not the order of the list', async () => {
    await verify(
      pool({
        facilitators: [
          { id: 'a', client: a, priority: 9 },
          { id: 'b', client: b, priority: 5 },
        ],
      }),
    )
    expect(verifyCalls()).toEqual([0, 1, 0])
  })

  it('lets equal priorities take turns', async () => {
    const aggregator = shared()
    for (let i = 0; i < 4; i++) await verify(aggregator)
    expect(verifyCalls()).toEqual([2, 2, 0])
  })

  it('settles at the facilitator that verified, among equals', async () => {
    const aggregator = shared()
    await verify(aggregator)
    const payment = payload()
    await aggregator.verify(payment, requirements())
    await aggregator.settle(payment, requirements())
    expect(settleCalls()).toEqual([0, 1, 0])
  })

  it.each([
    ['let the verify time out', hanging],
    ['could not be reached', refused()],
    ['broke', httpError(502)],
  ])('asks a facilitator that %s last for the settle of that payment', async (_, answer) => {
    a.verifyAnswer = answer
    b.settleAnswer = refusal('unsupported_scheme')
    const aggregator = pool()
    const payment = newPayload()
    expect(await done(aggregator.verify(payment, requirements()))).toEqual(valid)
    expect(await done(aggregator.settle(payment, requirements()))).toEqual(settled)
    expect(settleCalls()).toEqual([0, 1, 1])
    expect(await done(settle(aggregator))).toEqual(settled)
    expect(settleCalls()).toEqual([1, 1, 1])
  })

  it('asks a facilitator that a hedge has passed over last for the settle of that payment', async () => {
    a.verifyAnswer = hanging
    const aggregator = pool({ hedge: { afterMs: 100 } })
    const payment = newPayload()
    expect(await done(aggregator.verify(payment, requirements()))).toEqual(valid)
    expect(await done(aggregator.settle(payment, requirements()))).toEqual(settled)
    expect(settleCalls()).toEqual([0, 1, 0])
  })

  it('settles first at a facilitator that verified when it was asked again', async () => {
    let calls = 0
    a.verifyAnswer = () => {
      if (calls++ === 0) throw refused()
      return valid
    }
    const aggregator = pool()
    const payment = newPayload()
    expect(await done(aggregator.verify(payment, requirements()))).toEqual(valid)
    expect(await done(aggregator.settle(payment, requirements()))).toEqual(settled)
    expect(settleCalls()).toEqual([1, 0, 0])
  })

  it('asks the fastest first with strategy latency', async () => {
    a.verifyAnswer = () => new Promise(resolve => setTimeout(() => resolve(valid), 300))
    b.verifyAnswer = () => new Promise(resolve => setTimeout(() => resolve(valid), 200))
    c.verifyAnswer = () => new Promise(resolve => setTimeout(() => resolve(valid), 100))
    const aggregator = pool({ strategy: 'latency' })
    for (let i = 0; i < 5; i++) await done(verify(aggregator))
    expect(verifyCalls()).toEqual([1, 1, 3])
  })

  it('shares by weight with strategy weighted', async () => {
    const aggregator = pool({
      strategy: 'weighted',
      facilitators: [
        { id: 'a', client: a, weight: 9 },
        { id: 'b', client: b, weight: 1 },
      ],
    })
    for (let i = 0; i < 1_000; i++) await verify(aggregator)
    expect(a.calls.verify).toBeGreaterThan(850)
    expect(b.calls.verify).toBeGreaterThan(50)
  })

  it('follows a strategy of your own, and survives one that throws', async () => {
    await verify(pool({ strategy: candidates => candidates.map(candidate => candidate.id).reverse() }))
    expect(verifyCalls()).toEqual([0, 0, 1])
    const broken = pool({
      strategy: () => {
        throw new Error('no idea')
      },
    })
    expect(await verify(broken)).toEqual(valid)
    await verify(broken)
    const faults = broken.getRecentLogs(100).filter(({ event }) => event === 'strategy')
    expect(faults).toEqual([expect.objectContaining({ level: 'error', error: 'no idea' })])
  })

  it('asks nobody twice because a strategy of your own names it twice', async () => {
    a.verifyAnswer = { isValid: false, invalidReason: 'unexpected_verify_error' }
    await verify(pool({ strategy: () => ['a', 'a', 'b'] }))
    expect(verifyCalls()).toEqual([1, 1, 0])
  })

  it('leaves out a facilitator that is disabled, until it is enabled', async () => {
    const aggregator = pool()
    aggregator.setFacilitatorEnabled('a', false)
    await verify(aggregator)
    aggregator.setFacilitatorEnabled('a', true)
    await verify(aggregator)
    expect(verifyCalls()).toEqual([1, 1, 0])
    expect(() => aggregator.setFacilitatorEnabled('some', true)).toThrow(
      'FacilitatorAggregator: no such facilitator\n  - some is not a facilitator; there are a, b, c',
    )
  })

  it('says that all are disabled, where they are', async () => {
    const aggregator = pool()
    for (const id of ['a', 'b', 'c']) aggregator.setFacilitatorEnabled(id, false)
    await expect(verify(aggregator)).rejects.toThrow(
      'each is disabled or quarantined. See getHealthStatus().',
    )
  })

  it('leaves out a facilitator that does not support the kind', async () => {
    a.supportedAnswer = supporting(kind({ network: 'eip155:1' }))
    b.supportedAnswer = supporting(kind({ network: 'eip155:*' }))
    const aggregator = pool()
    await aggregator.getSupported()
    await verify(aggregator)
    expect(verifyCalls()).toEqual([0, 1, 0])
  })

  it('asks a facilitator whose abilities are not known yet after those that are', async () => {
    a.supportedAnswer = refused()
    const aggregator = pool()
    await done(aggregator.getSupported())
    await verify(aggregator)
    expect(verifyCalls()).toEqual([0, 1, 0])
  })

  it('says so when no facilitator can take the payment', async () => {
    const aggregator = pool()
    await aggregator.getSupported()
    await expect(aggregator.verify(payload(), requirements({ network: 'eip155:1' }))).rejects.toMatchObject({
      code: 'NO_ELIGIBLE_FACILITATOR',
      message: expect.stringContaining('eip155:1'),
    })
  })
})

describe('a payment that is bound to one facilitator', () => {
  const solana = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'
  const bySolana = (feePayer: string, ...signers: string[]) => ({
    kinds: [kind({ network: solana, extra: { feePayer } })],
    extensions: [],
    signers: { 'solana:*': signers },
  })
  const bound = (extra: Record<string, unknown>) =>
    [newSvmPayload(), requirements({ network: solana, extra })] as const

  beforeEach(() => {
    a.supportedAnswer = bySolana('KeyOfA1', 'KeyOfA1', 'KeyOfA2')
    b.supportedAnswer = bySolana('KeyOfB', 'KeyOfB')
    c.supportedAnswer = bySolana('KeyOfC', 'KeyOfC')
  })

  it.each([
    ['KeyOfA1', [1, 0, 0]],
    ['KeyOfA2', [1, 0, 0]],
    ['KeyOfB', [0, 1, 0]],
    ['NobodysKey', [1, 0, 0]],
  ])('%s goes where it belongs', async (feePayer, calls) => {
    const aggregator = pool()
    await aggregator.getSupported()
    await aggregator.verify(...bound({ feePayer, name: 'USDC' }))
    expect(verifyCalls()).toEqual(calls)
  })

  it('is not sent to another one when its own is down', async () => {
    b.settleAnswer = refused()
    const aggregator = pool()
    await aggregator.getSupported()
    await expect(done(aggregator.settle(...bound({ feePayer: 'KeyOfB' })))).rejects.toBeInstanceOf(
      AllFacilitatorsFailedError,
    )
    expect(settleCalls()).toEqual([0, 2, 0])
  })

  it('is not sent to another one when its own is disabled', async () => {
    const aggregator = pool()
    await aggregator.getSupported()
    aggregator.setFacilitatorEnabled('b', false)
    await expect(aggregator.verify(...bound({ feePayer: 'KeyOfB' }))).rejects.toMatchObject({
      code: 'NO_ELIGIBLE_FACILITATOR',
    })
    expect(verifyCalls()).toEqual([0, 0, 0])
  })

  it('is recognised whatever the case of an EVM address', async () => {
    const address = '0xAbCdEf0000000000000000000000000000000001'
    b.supportedAnswer = {
      kinds: [kind({ scheme: 'upto' })],
      extensions: [],
      signers: { 'eip155:*': [address] },
    }
    a.supportedAnswer = supporting(kind({ scheme: 'upto' }))
    const aggregator = pool()
    await aggregator.getSupported()
    for (const facilitatorAddress of [address, address.toLowerCase()])
      await aggregator.verify(payload(), requirements({ scheme: 'upto', extra: { facilitatorAddress } }))
    expect(verifyCalls()).toEqual([0, 2, 0])
  })

  it('by an extension goes to those that support it; a descriptive one binds to nobody', async () => {
    a.supportedAnswer = supporting()
    b.supportedAnswer = { ...supporting(), extensions: ['eip2612GasSponsoring', 'bazaar'] }
    const aggregator = pool()
    await aggregator.getSupported()
    await aggregator.verify(payload({ extensions: { eip2612GasSponsoring: {} } }), requirements())
    expect(verifyCalls()).toEqual([0, 1, 0])
    await aggregator.verify(payload({ extensions: { bazaar: {}, unheardOf: {} } }), requirements())
    expect(verifyCalls()).toEqual([1, 1, 0])
  })
})

/** Answers 429 with `Retry-After: 2`, then as it should. */
function limitedOnce(): typeof fetch {
  let calls = 0
  return async () =>
    calls++ === 0
      ? new Response('slow down', { status: 429, headers: { 'retry-after': '2' } })
      : Response.json(valid)
}

describe('a hedged verify', () => {
  const slow =
    (ms: number, answer = valid) =>
    () =>
      new Promise<typeof valid>(resolve => setTimeout(resolve, ms, answer))
  let failovers: string[]

  function hedging(...answers: FakeFacilitator['verifyAnswer'][]) {
    vi.useFakeTimers()
    const members = answers.map(verifyAnswer => new FakeFacilitator({ verifyAnswer }))
    const aggregator = new FacilitatorAggregator({
      facilitators: members.map((client, i) => ({ id: 'abc'[i] ?? '', client })),
      healthCheck: false,
      retries: 0,
      hedge: { afterMs: 100 },
    })
    failovers = []
    aggregator.on('failover', ({ from, to }) => failovers.push(`${from}→${to}`))
    return { aggregator, calls: () => members.map(({ calls }) => calls.verify) }
  }
  afterEach(() => {
    vi.useRealTimers()
  })

  it('takes the first verdict, whoever gives it', async () => {
    const { aggregator, calls } = hedging(hanging, slow(50))
    const verified = aggregator.verify(payload(), requirements())
    await vi.advanceTimersByTimeAsync(99)
    expect(calls()).toEqual([1, 0])
    await vi.advanceTimersByTimeAsync(51)
    expect(await verified).toEqual(valid)
    expect(calls()).toEqual([1, 1])
    expect(failovers).toEqual(['a→b'])
    await aggregator.stop()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('asks nobody else when the first is quick', async () => {
    const { aggregator, calls } = hedging(slow(50), slow(50))
    const verified = aggregator.verify(payload(), requirements())
    await vi.advanceTimersByTimeAsync(50)
    expect(await verified).toEqual(valid)
    await vi.advanceTimersByTimeAsync(1_000)
    expect(calls()).toEqual([1, 0])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('goes on at once when one fails, and waits for the slow one when nobody else is left', async () => {
    const { aggregator, calls } = hedging(slow(400), httpError(500), httpError(500))
    const verified = aggregator.verify(payload(), requirements())
    await vi.advanceTimersByTimeAsync(100)
    expect(calls()).toEqual([1, 1, 1])
    await vi.advanceTimersByTimeAsync(300)
    expect(await verified).toEqual(valid)
  })

  it('does not shop for a verdict: the first counts, though it is a refusal', async () => {
    const { aggregator } = hedging(
      slow(1_000),
      slow(10, { isValid: false, invalidReason: 'insufficient_funds' }),
    )
    const verified = aggregator.verify(payload(), requirements())
    await vi.advanceTimersByTimeAsync(110)
    expect(await verified).toMatchObject({ isValid: false })
  })

  it('fails when all have', async () => {
    const { aggregator } = hedging(httpError(500), refused())
    await expect(aggregator.verify(payload(), requirements())).rejects.toMatchObject({
      code: 'ALL_FACILITATORS_FAILED',
      attempts: [{ facilitator: 'a' }, { facilitator: 'b' }],
    })
  })

  it('refuses a delay that is no time', () => {
    expect(
      () => new FacilitatorAggregator({ facilitators: [{ id: 'a', client: a }], hedge: { afterMs: 0 } }),
    ).toThrow('hedge.afterMs: expected milliseconds')
  })
})
