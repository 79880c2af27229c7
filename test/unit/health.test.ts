import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import {
  type AggregatorEvents,
  type AggregatorOptions,
  FacilitatorAggregator,
  type HealthCheckOptions,
} from '../../src/index.ts'
import { Circuit, type Trial } from '../../src/pool/circuit.ts'
import { untyped } from '../untyped.ts'
import {
  done,
  FakeFacilitator,
  hanging,
  hash,
  httpError,
  kind,
  network,
  newPayload,
  newSvmPayload,
  paid,
  payload,
  probeOf,
  refusal,
  refused,
  requirements,
  settled,
  supporting,
  unspent,
  valid,
} from './builders.ts'

let a: FakeFacilitator
let b: FakeFacilitator
let aggregator: FacilitatorAggregator

function pool(healthCheck: HealthCheckOptions | false = false, options: Partial<AggregatorOptions> = {}) {
  aggregator = new FacilitatorAggregator({
    facilitators: [
      { id: 'a', client: a },
      { id: 'b', client: b },
    ],
    retries: 0,
    healthCheck,
    ...options,
  })
  return aggregator
}
const verify = () => aggregator.verify(payload(), requirements())
const settle = () => aggregator.settle(newPayload(), requirements()).catch(() => undefined)
async function times(count: number, work: () => Promise<unknown>) {
  for (let i = 0; i < count; i++) await work()
}
const lane = (operation: string) =>
  aggregator.getHealthStatus().facilitators[0]?.lanes.find(({ operation: name }) => name === operation)

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  b = new FakeFacilitator()
})
afterEach(async () => {
  await aggregator?.stop()
  vi.useRealTimers()
})

describe("a lane's circuit", () => {
  it('opens after three failures in a row, and the facilitator goes to the back', async () => {
    a.verifyAnswer = refused()
    pool()
    await times(5, verify)
    expect(a.calls.verify).toBe(3)
    expect(lane('verify')).toMatchObject({ circuit: 'open', consecutiveFailures: 3 })
  })

  it('opens after as many failures as maxConsecutiveFailures says', async () => {
    a.verifyAnswer = refused()
    pool({ maxConsecutiveFailures: 1 }, { autoStart: false })
    await times(5, verify)
    expect(a.calls.verify).toBe(1)
  })

  it('counts failures in a row only', async () => {
    pool()
    for (let i = 0; i < 4; i++) {
      a.verifyAnswer = refused()
      await times(2, verify)
      a.verifyAnswer = valid
      await verify()
    }
    expect(a.calls.verify).toBe(12)
  })

  it.each([
    ['verdicts about payments', { isValid: false, invalidReason: 'insufficient_funds' }],
    ['used authorizations', { isValid: false, invalidReason: 'invalid_exact_evm_nonce_already_used' }],
    ['missing abilities', { isValid: false, invalidReason: 'unsupported_scheme' }],
    ['requests that it cannot read', httpError(400)],
    ['rate limits', httpError(429)],
  ])('stays closed whatever the number of %s', async (_, answer) => {
    a.verifyAnswer = answer
    pool()
    for (let i = 0; i < 10; i++) {
      await verify()
      await vi.advanceTimersByTimeAsync(2_000)
    }
    expect(a.calls.verify).toBe(10)
    expect(lane('verify')).toMatchObject({ circuit: 'closed', consecutiveFailures: 0 })
  })

  it.each([
    ['trouble', { isValid: false, invalidReason: 'unexpected_verify_error' }],
    ['wrong credentials', httpError(401)],
    ['an empty quota', httpError(402)],
    ['a wrong address', httpError(404)],
    ['a server error', httpError(500)],
  ])('opens on %s', async (_, answer) => {
    a.verifyAnswer = answer
    pool()
    await times(3, verify)
    expect(lane('verify')).toMatchObject({ circuit: 'open' })
  })

  it("stays closed whatever the number of a buyer's transactions that the chain reverted", async () => {
    a.settleAnswer = refusal('invalid_exact_evm_transaction_failed', hash)
    pool()
    await times(5, settle)
    expect(lane('settle')).toMatchObject({ circuit: 'closed', consecutiveFailures: 0 })
  })

  it.each([
    ['names no transaction', refusal('invalid_exact_evm_transaction_failed')],
    ['waited in vain for it', refusal('settle_exact_svm_transaction_confirmation_timed_out', hash)],
  ])('opens on a failed transaction when the facilitator %s', async (_, answer) => {
    a.settleAnswer = answer
    pool(false, { settlement: { credit: false } })
    await times(3, settle)
    expect(lane('settle')).toMatchObject({ circuit: 'open' })
  })

  it('is one for each operation: a broken settle leaves verify alone', async () => {
    a.settleAnswer = refusal('batch_send_failed')
    pool()
    await times(4, settle)
    await verify()
    expect(a.calls.settle).toBe(3)
    expect(a.calls.verify).toBe(1)
  })

  it('is one for each network', async () => {
    a.verifyAnswer = refused()
    pool()
    await times(3, verify)
    a.verifyAnswer = valid
    await aggregator.verify(payload(), requirements({ network: 'eip155:1' }))
    expect(a.calls.verify).toBe(4)
  })

  it('is one for each scheme: a broken batch settlement leaves exact payments alone', async () => {
    a.verifyAnswer = refused()
    pool()
    await times(3, () => aggregator.verify(payload(), requirements({ scheme: 'batch-settlement' })))
    a.verifyAnswer = valid
    expect(await verify()).toEqual(valid)
    expect(a.calls.verify).toBe(4)
    const lanes = aggregator.getHealthStatus().facilitators[0]?.lanes
    expect(lanes?.map(({ scheme, network, circuit }) => [scheme, network, circuit])).toEqual([
      ['batch-settlement', network, 'open'],
      ['exact', network, 'closed'],
    ])
  })

  it('lets one trial through after the cool-down, and closes when it succeeds', async () => {
    a.verifyAnswer = refused()
    pool({ intervalMs: 30_000 }, { autoStart: false })
    await times(3, verify)
    a.verifyAnswer = () => new Promise(resolve => setTimeout(() => resolve(valid), 100))
    await vi.advanceTimersByTimeAsync(29_000)
    await verify()
    expect(a.calls.verify).toBe(3)
    await vi.advanceTimersByTimeAsync(1_001)
    const together = Promise.all([verify(), verify(), verify()])
    await vi.advanceTimersByTimeAsync(100)
    await together
    expect(a.calls.verify).toBe(4)
    expect(lane('verify')).toMatchObject({ circuit: 'closed' })
  })

  it('opens again when the trial fails', async () => {
    a.verifyAnswer = refused()
    pool({ coolDownMs: 10_000 }, { autoStart: false })
    await times(3, verify)
    await vi.advanceTimersByTimeAsync(10_000)
    await times(3, verify)
    expect(a.calls.verify).toBe(4)
    expect(lane('verify')).toMatchObject({ circuit: 'open', consecutiveFailures: 4 })
  })

  it('does not lose its trial to an answer that says nothing about health', async () => {
    a.verifyAnswer = refused()
    pool({ coolDownMs: 10_000 }, { autoStart: false })
    await times(3, verify)
    await vi.advanceTimersByTimeAsync(10_000)
    a.verifyAnswer = httpError(400)
    await verify()
    a.verifyAnswer = valid
    await verify()
    expect(a.calls.verify).toBe(5)
    expect(lane('verify')).toMatchObject({ circuit: 'closed' })
  })

  it('that is open does not stop the sale when all are: they are tried all the same', async () => {
    a.verifyAnswer = refused()
    b.verifyAnswer = refused()
    pool()
    await times(3, () => verify().catch(() => undefined))
    b.verifyAnswer = valid
    expect(await verify()).toEqual(valid)
  })

  it('that is open refuses at once when all are, with whenAllUnhealthy refuse', async () => {
    a.verifyAnswer = refused()
    b.verifyAnswer = refused()
    pool(false, { whenAllUnhealthy: 'refuse' })
    await times(3, () => verify().catch(() => undefined))
    await expect(verify()).rejects.toMatchObject({
      code: 'NO_HEALTHY_FACILITATOR',
      message: expect.stringContaining('No healthy facilitators available'),
    })
    expect(a.calls.verify).toBe(3)
  })

  it('is left by a 429 alone, but the lane waits for its Retry-After at the back', async () => {
    let limited = true
    const limitedFetch: typeof fetch = async () =>
      limited
        ? new Response('', { status: 429, headers: { 'retry-after': '20' } })
        : Response.json({ ...valid, payer: 'from a' })
    pool(false, {
      facilitators: [
        { id: 'a', url: 'https://a.example', fetch: limitedFetch },
        { id: 'b', client: b },
      ],
    })
    await verify()
    limited = false
    await vi.advanceTimersByTimeAsync(19_000)
    expect(await verify()).toEqual(valid)
    await vi.advanceTimersByTimeAsync(1_001)
    expect(await verify()).toMatchObject({ payer: 'from a' })
  })

  it('has exactly one trial at a time, whatever happens in whatever order', () => {
    const step = fc.record({
      advanceMs: fc.integer({ min: 0, max: 60 }),
      which: fc.nat(),
      action: fc.oneof(
        { weight: 4, arbitrary: fc.constant('enter' as const) },
        { weight: 3, arbitrary: fc.constant('failure' as const) },
        { weight: 1, arbitrary: fc.constantFrom('success' as const, 'nothing' as const) },
        { weight: 1, arbitrary: fc.constantFrom('openDoor' as const, 'pause' as const) },
      ),
    })
    let trials = 0
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), steps => {
        /** Trials that were begun since the circuit last left the half-open state. */
        let running = new Set<Trial>()
        const circuit = new Circuit({ maxConsecutiveFailures: 1, coolDownMs: 50 }, from => {
          if (from === 'half-open') running = new Set()
        })
        const attempts: (Trial | undefined)[] = []
        let time = 0
        for (const { advanceMs, action, which } of steps) {
          time += advanceMs
          if (action === 'openDoor') circuit.openDoor()
          else if (action === 'pause') circuit.pause(10, time)
          else if (action === 'enter') {
            const trial = circuit.enter(time)
            attempts.push(trial)
            if (trial !== undefined) running.add(trial)
            trials += running.size
          } else if (attempts.length > 0) {
            const [trial] = attempts.splice(which % attempts.length, 1)
            if (trial !== undefined) running.delete(trial)
            circuit.leave(trial, action, time)
          }
          expect(running.size).toBeLessThanOrEqual(1)
          if (circuit.state === 'closed') expect(circuit.failures).toBe(0)
        }
        for (const trial of attempts) circuit.leave(trial, 'nothing', time)
        expect(circuit.isAvailable(time + 50)).toBe(true)
      }),
      { numRuns: 5_000 },
    )
    expect(trials).toBeGreaterThan(1_000)
  }, 60_000)

  it('is not decided by the trial of an earlier opening', () => {
    const circuit = new Circuit({ maxConsecutiveFailures: 1, coolDownMs: 50 }, () => {})
    circuit.leave(undefined, 'failure', 0)
    const slow = circuit.enter(50)
    circuit.leave(undefined, 'success', 60)
    circuit.leave(undefined, 'failure', 70)
    const trial = circuit.enter(120)
    circuit.leave(slow, 'nothing', 130)
    expect(circuit.enter(140)).toBeUndefined()
    circuit.leave(slow, 'failure', 150)
    expect(circuit.state).toBe('half-open')
    circuit.leave(trial, 'nothing', 160)
    expect(circuit.enter(170)).toMatchObject({ state: 'half-open', trial: 'running' })
  })

  it('of a network that nobody has asked about for long is forgotten: memory is bounded', async () => {
    pool()
    for (let chainId = 1; chainId <= 1_000; chainId++)
      await aggregator.verify(payload(), requirements({ network: `eip155:${chainId}` }))
    expect(aggregator.getHealthStatus().facilitators[0]?.lanes).toHaveLength(256)
  })
})

describe('a settle that is overtaken', () => {
  const overtaking = (healthCheck: HealthCheckOptions = {}) =>
    pool({ intervalMs: 10_000_000, ...healthCheck }, { settlement: { probes: [probeOf(() => unspent)] } })

  /** Settles `count` payments at once, each at `b` in the end. */
  const overtake = (count: number) => done(Promise.all(Array.from({ length: count }, settle)))

  beforeEach(() => {
    a.settleAnswer = hanging
    overtaking()
  })

  it('is so after failoverAfterMs, whatever probeAfterMs says: the chain is asked by then', async () => {
    const settlement = { probes: [probeOf(() => unspent)], failoverAfterMs: 1_000, probeAfterMs: 20_000 }
    pool(false, { settlement })
    await aggregator.getSupported()
    const askedAt = new Map<FakeFacilitator, number>()
    for (const [one, answer] of [
      [a, hanging],
      [b, async () => settled],
    ] as const)
      one.settleAnswer = () => {
        askedAt.set(one, performance.now())
        return answer()
      }
    await overtake(1)
    expect((askedAt.get(b) ?? 0) - (askedAt.get(a) ?? 0)).toBeLessThan(1_500)
  })

  it('is a failure of its lane at once: the fourth payment does not wait for a silent facilitator', async () => {
    await overtake(3)
    expect(lane('settle')).toMatchObject({ circuit: 'open', consecutiveFailures: 3 })
    await done(settle())
    expect(a.calls.settle).toBe(3)
  })

  it('is no second failure when its timeout comes', async () => {
    await overtake(2)
    expect(lane('settle')).toMatchObject({ circuit: 'closed', consecutiveFailures: 2 })
    await vi.advanceTimersByTimeAsync(30_000)
    expect(lane('settle')).toMatchObject({ circuit: 'closed', consecutiveFailures: 2 })
  })

  it('is a success of its lane when it is answered late after all', async () => {
    const answers: (() => void)[] = []
    a.settleAnswer = () => new Promise(resolve => answers.push(() => resolve(settled)))
    await overtake(3)
    expect(lane('settle')).toMatchObject({ circuit: 'open' })
    answers[0]?.()
    await vi.advanceTimersByTimeAsync(0)
    expect(lane('settle')).toMatchObject({ circuit: 'closed', consecutiveFailures: 0 })
  })

  it('is no success when it is answered late that the authorization was used: the next one has', async () => {
    const answers: (() => void)[] = []
    a.settleAnswer = () =>
      new Promise(resolve => answers.push(() => resolve(refusal('invalid_exact_evm_nonce_already_used'))))
    await overtake(3)
    for (const answer of answers) answer()
    await vi.advanceTimersByTimeAsync(0)
    expect(lane('settle')).toMatchObject({ circuit: 'open', consecutiveFailures: 3 })
  })

  it('opens a half-open circuit again when it was the trial', async () => {
    overtaking({ coolDownMs: 10_000 })
    await overtake(3)
    await vi.advanceTimersByTimeAsync(10_000)
    await overtake(1)
    expect(lane('settle')).toMatchObject({ circuit: 'open', consecutiveFailures: 4 })
  })
})

it('a hedge does not count against the facilitator that it passes over: it may only be slow', async () => {
  a.verifyAnswer = () => new Promise(resolve => setTimeout(resolve, 200, valid))
  b.verifyAnswer = () => new Promise(resolve => setTimeout(resolve, 10, valid))
  pool(false, { hedge: { afterMs: 100 } })
  for (let i = 0; i < 5; i++) {
    const verified = verify()
    await vi.advanceTimersByTimeAsync(150)
    expect(await verified).toEqual(valid)
  }
  expect(a.calls.verify).toBe(5)
  expect(lane('verify')).toMatchObject({ circuit: 'closed', consecutiveFailures: 0 })
})

describe('the health checker', () => {
  it('asks each facilitator on its interval, give or take a tenth', async () => {
    pool({ intervalMs: 30_000 }).start()
    await vi.advanceTimersByTimeAsync(0)
    expect([a.calls.supported, b.calls.supported]).toEqual([1, 1])
    await vi.advanceTimersByTimeAsync(26_900)
    expect(a.calls.supported).toBe(1)
    await vi.advanceTimersByTimeAsync(6_200)
    expect(a.calls.supported).toBe(2)
    await vi.advanceTimersByTimeAsync(300_000)
    expect(a.calls.supported).toBeGreaterThanOrEqual(11)
    expect(a.calls.supported).toBeLessThanOrEqual(13)
  })

  it('spares a facilitator that payments have just proved healthy, but not for ever', async () => {
    pool({ intervalMs: 30_000 })
    await aggregator.getSupported()
    for (let i = 0; i < 200; i++) {
      await verify()
      await vi.advanceTimersByTimeAsync(1_000)
    }
    expect(a.calls.supported).toBe(1)
    expect(b.calls.supported).toBeGreaterThan(5)
    for (let i = 0; i < 200; i++) {
      await verify()
      await vi.advanceTimersByTimeAsync(1_000)
    }
    expect(a.calls.supported).toBe(2)
  })

  it('brings a recovered primary back with the next request', async () => {
    await pool({ intervalMs: 30_000, coolDownMs: 10_000_000 }).getSupported()
    a.verifyAnswer = refused()
    a.supportedAnswer = refused()
    await times(4, verify)
    expect(a.calls.verify).toBe(3)
    a.verifyAnswer = valid
    a.supportedAnswer = supporting()
    await vi.advanceTimersByTimeAsync(33_000)
    expect(lane('verify')).toMatchObject({ circuit: 'half-open' })
    await verify()
    expect(a.calls.verify).toBe(4)
    expect(lane('verify')).toMatchObject({ circuit: 'closed' })
  })

  it('does not close the circuit of settle: only a settle does', async () => {
    a.settleAnswer = refusal('batch_send_failed')
    pool({ intervalMs: 30_000 })
    await times(3, settle)
    await aggregator.checkHealth()
    expect(lane('settle')).toMatchObject({ circuit: 'half-open' })
    await settle()
    expect(lane('settle')).toMatchObject({ circuit: 'open' })
  })

  it('runs on demand, and says what it found', async () => {
    b.supportedAnswer = refused()
    pool({ maxConsecutiveFailures: 1 })
    const health = await aggregator.checkHealth()
    expect(health.summary).toEqual({ total: 2, healthy: 1, unhealthy: 1 })
    expect(health.facilitators[0]).toMatchObject({
      id: 'a',
      isHealthy: true,
      lastSuccessfulCheck: expect.any(String),
    })
    expect(health.facilitators[1]).toMatchObject({ id: 'b', isHealthy: false, consecutiveFailures: 1 })
  })

  it('in lazy mode asks beside a request when the last check is old, and sets no timer', async () => {
    const background: Promise<unknown>[] = []
    pool({ mode: 'lazy', intervalMs: 30_000 }, { waitUntil: work => background.push(work) })
    await verify()
    expect(vi.getTimerCount()).toBe(0)
    await Promise.all(background)
    expect([a.calls.supported, background.length]).toEqual([1, 1])
    await times(3, verify)
    expect(background).toHaveLength(1)
    await vi.advanceTimersByTimeAsync(30_001)
    await verify()
    expect(background).toHaveLength(2)
  })

  it('does not ask a disabled facilitator', async () => {
    pool({}).setFacilitatorEnabled('a', false)
    await aggregator.checkHealth()
    expect(a.calls.supported).toBe(0)
  })
})

describe('what the pool advertises', () => {
  const solana = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'
  const bySolana = (feePayer: string, ...signers: string[]) => ({
    kinds: [kind({ network: solana, extra: { feePayer } })],
    extensions: [],
    signers: { 'solana:*': signers },
  })
  const changes: AggregatorEvents['supported:change'][] = []
  beforeEach(() => {
    changes.length = 0
  })

  it('is the union of the kinds, extensions and signers', async () => {
    a.supportedAnswer = { kinds: [kind()], extensions: ['x'], signers: { 'eip155:*': ['0x1'] } }
    b.supportedAnswer = {
      kinds: [kind(), kind({ network: 'eip155:1' })],
      extensions: ['y'],
      signers: { 'eip155:*': ['0x2'] },
    }
    expect(await pool().getSupported()).toEqual({
      kinds: [kind(), kind({ network: 'eip155:1' })],
      extensions: ['x', 'y'],
      signers: { 'eip155:*': ['0x1', '0x2'] },
    })
  })

  it('lacks only the kinds of a silent facilitator', async () => {
    a.supportedAnswer = hanging
    b.supportedAnswer = supporting(kind({ network: 'eip155:1' }))
    const supported = pool().getSupported()
    await vi.advanceTimersByTimeAsync(10_000)
    expect((await supported).kinds).toEqual([kind({ network: 'eip155:1' })])
  })

  it('takes what an in-process x402Facilitator answers without a promise', async () => {
    a.getSupported = untyped(() => supporting(kind({ network: 'eip155:7' })))
    expect((await pool().getSupported()).kinds).toContainEqual(kind({ network: 'eip155:7' }))
  })

  it('comes from the cache, and is refreshed in the background when it is old', async () => {
    pool({ intervalMs: 30_000, mode: 'lazy' })
    await aggregator.getSupported()
    await aggregator.getSupported()
    expect(a.calls.supported).toBe(1)
    a.supportedAnswer = supporting(kind({ network: 'eip155:1' }))
    await vi.advanceTimersByTimeAsync(30_001)
    await aggregator.getSupported()
    await vi.advanceTimersByTimeAsync(0)
    expect(a.calls.supported).toBe(2)
    expect((await aggregator.getSupported()).kinds).toContainEqual(kind({ network: 'eip155:1' }))
  })

  it('asks everybody once at a cold start, and who does not answer no more often than the others', async () => {
    b.supportedAnswer = refused()
    const background: Promise<unknown>[] = []
    pool({ intervalMs: 30_000, mode: 'lazy' }, { waitUntil: work => background.push(work) })
    for (let i = 0; i < 5; i++) await aggregator.getSupported()
    await Promise.all(background)
    expect([a.calls.supported, b.calls.supported]).toEqual([1, 1])
    await vi.advanceTimersByTimeAsync(30_001)
    for (let i = 0; i < 5; i++) await aggregator.getSupported()
    await Promise.all(background)
    expect([a.calls.supported, b.calls.supported]).toEqual([2, 2])
  })

  it('does not wait twice for one who hangs', async () => {
    b.supportedAnswer = () => hanging()
    const supported = pool(false, { retries: 3, timeoutMs: 1_000 }).getSupported()
    await vi.advanceTimersByTimeAsync(1_000)
    expect((await supported).kinds).toHaveLength(1)
    expect(b.calls.supported).toBe(1)
  })

  it('fails when nobody has ever answered', async () => {
    a.supportedAnswer = refused()
    b.supportedAnswer = httpError(500)
    await expect(pool().getSupported()).rejects.toMatchObject({ code: 'ALL_FACILITATORS_FAILED' })
  })

  it('names the fee payer of a living facilitator when the one behind it goes down, and says so', async () => {
    a.supportedAnswer = bySolana('KeyOfA', 'KeyOfA')
    b.supportedAnswer = bySolana('KeyOfB', 'KeyOfB')
    pool().on('supported:change', change => changes.push(change))
    expect((await aggregator.getSupported()).kinds[0]?.extra).toEqual({ feePayer: 'KeyOfA' })
    a.settleAnswer = refused()
    await times(3, () =>
      aggregator.settle(newSvmPayload(), requirements({ network: solana, extra: {} })).catch(() => undefined),
    )
    expect(changes.map(change => change.supported.kinds[0]?.extra)).toEqual([{ feePayer: 'KeyOfB' }])
  })

  it('does not change because a facilitator with several keys names another of them', async () => {
    let call = 0
    a.supportedAnswer = () => bySolana(`Key${call++ % 2}`, 'Key0', 'Key1')
    pool({}).on('supported:change', change => changes.push(change))
    await aggregator.getSupported()
    await aggregator.checkHealth()
    await aggregator.checkHealth()
    expect(changes).toEqual([])
    expect((await aggregator.getSupported()).kinds[0]?.extra).toEqual({ feePayer: 'Key0' })
  })

  it('re-initializes a bound server, which keeps the kinds of facilitators that fell silent', async () => {
    a.supportedAnswer = supporting(kind({ network: 'eip155:1' }))
    const server = { initialize: vi.fn(async () => void (await aggregator.getSupported())) }
    const unbind = pool({ maxConsecutiveFailures: 1 }).bindResourceServer(server)
    await aggregator.getSupported()
    a.supportedAnswer = refused()
    b.supportedAnswer = supporting(kind(), kind({ network: 'eip155:2' }))
    await aggregator.checkHealth()
    expect(server.initialize).toHaveBeenCalledTimes(1)
    const networks = (await aggregator.getSupported()).kinds.map(({ network }) => network)
    expect(networks).toEqual(expect.arrayContaining(['eip155:1', 'eip155:2']))
    unbind()
    b.supportedAnswer = supporting(kind({ network: 'eip155:3' }))
    await aggregator.checkHealth()
    expect(server.initialize).toHaveBeenCalledTimes(1)
  })

  describe('when a facilitator is quarantined', () => {
    const health: AggregatorEvents['health:change'][] = []

    /** `a` claims a success that the chain does not know; what `b` claims is true. */
    async function quarantineA() {
      health.length = 0
      pool(false, {
        settlement: { probes: [probeOf(() => (b.calls.settle > 0 ? paid : unspent))], audit: 'always' },
      })
        .on('supported:change', change => changes.push(change))
        .on('health:change', change => health.push(change))
      await aggregator.getSupported()
      await done(settle())
    }
    const isHealthy = () => aggregator.getHealthStatus().facilitators[0]?.isHealthy

    it('names its fee payer no more, and says so; nor is it healthy until it is enabled again', async () => {
      const payableAt = (feePayer: string) => {
        const answer = bySolana(feePayer, feePayer)
        return { ...answer, kinds: [...answer.kinds, kind()] }
      }
      a.supportedAnswer = payableAt('KeyOfA')
      b.supportedAnswer = payableAt('KeyOfB')
      await quarantineA()
      expect(await aggregator.getSupported()).toEqual(payableAt('KeyOfB'))
      expect(changes.map(({ supported }) => supported)).toEqual([payableAt('KeyOfB')])
      expect(health).toEqual([{ facilitator: 'a', isHealthy: false }])
      expect(isHealthy()).toBe(false)

      aggregator.setFacilitatorEnabled('a', true)
      expect(changes[1]?.supported.kinds[0]?.extra).toEqual({ feePayer: 'KeyOfA' })
      expect(health[1]).toEqual({ facilitator: 'a', isHealthy: true })
      expect(isHealthy()).toBe(true)
    })

    it('loses the kinds that only it offers, though a server is bound', async () => {
      const server = { initialize: vi.fn(async () => {}) }
      a.supportedAnswer = supporting(kind({ network: 'eip155:1' }), kind())
      await quarantineA()
      aggregator.bindResourceServer(server)
      expect((await aggregator.getSupported()).kinds).toEqual([kind()])
      aggregator.setFacilitatorEnabled('a', true)
      expect(server.initialize).toHaveBeenCalledOnce()
    })

    it('offers nothing any more when nobody else is in service', async () => {
      await quarantineA()
      aggregator.setFacilitatorEnabled('b', false)
      expect(changes.at(-1)?.supported.kinds).toEqual([])
      await expect(aggregator.getSupported()).rejects.toMatchObject({ code: 'NO_HEALTHY_FACILITATOR' })
      aggregator.setFacilitatorEnabled('a', true)
      expect(changes.at(-1)?.supported.kinds).toEqual([kind()])
    })
  })

  it('without a bound server loses the kinds of a facilitator that fell silent', async () => {
    a.supportedAnswer = supporting(kind({ network: 'eip155:1' }))
    pool({ maxConsecutiveFailures: 1 })
    await aggregator.getSupported()
    a.supportedAnswer = refused()
    await aggregator.checkHealth()
    expect((await aggregator.getSupported()).kinds).toEqual([kind()])
  })
})
