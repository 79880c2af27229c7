import { FacilitatorResponseError, getFacilitatorResponseError } from '@x402/core/server'
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import {
  AggregatorError,
  type AggregatorEvents,
  type AggregatorOptions,
  AggregatorStoppedError,
  AllFacilitatorsFailedError,
  FacilitatorAggregator,
  InvalidOptionsError,
  InvalidPaymentError,
  type LogEntry,
  SettlementIndeterminateError,
} from '../../src/index.ts'
import { untyped } from '../untyped.ts'
import {
  FakeFacilitator,
  hanging,
  httpError,
  kind,
  network,
  newPayload,
  payload,
  refused,
  requirements,
  signature,
  supporting,
  valid,
} from './builders.ts'

let a: FakeFacilitator
let b: FakeFacilitator

function pool(options: Partial<AggregatorOptions> = {}) {
  return new FacilitatorAggregator({
    facilitators: [
      { id: 'a', client: a },
      { id: 'b', client: b },
    ],
    retries: 0,
    healthCheck: false,
    ...options,
  })
}
const verify = (aggregator: FacilitatorAggregator) => aggregator.verify(payload(), requirements())

beforeEach(() => {
  a = new FakeFacilitator()
  b = new FakeFacilitator()
})
afterEach(() => {
  vi.useRealTimers()
})

describe('events', () => {
  it('that do not exist cannot be listened to', () => {
    const listen = (event: string) => Object.assign(pool()).on(event, () => {})
    expect(() => listen('setle')).toThrow(TypeError)
    expect(() => listen('setlement:resolved')).toThrow('did you mean settlement:resolved?')
    expect(() => listen('settled')).toThrow('settled is not an event; there are attempt, failover, log')
    expect(() => Object.assign(pool()).once('stopp', () => {})).toThrow('did you mean stop?')
  })

  it('are emitted for attempts, failovers, circuits and health, in order', async () => {
    a.verifyAnswer = refused()
    const told: unknown[] = []
    const aggregator = pool()
    for (const name of ['attempt', 'failover', 'circuit:change', 'health:change'] as const)
      aggregator.on(name, event => told.push([name, event]))
    for (let i = 0; i < 3; i++) await verify(aggregator)
    const attempt = (facilitator: string, outcome: string, reason?: string) => [
      'attempt',
      { facilitator, operation: 'verify', network, outcome, reason, durationMs: expect.any(Number) },
    ]
    const failover = [
      'failover',
      { operation: 'verify', network, from: 'a', to: 'b', outcome: 'unreachable', reason: 'ECONNREFUSED' },
    ]
    const round = [attempt('a', 'unreachable', 'ECONNREFUSED'), failover, attempt('b', 'answered')]
    expect(told).toEqual([
      ...round,
      ...round,
      [
        'circuit:change',
        {
          facilitator: 'a',
          operation: 'verify',
          scheme: 'exact',
          network,
          from: 'closed',
          to: 'open',
          consecutiveFailures: 3,
        },
      ],
      ['health:change', { facilitator: 'a', isHealthy: false }],
      ...round,
    ])
  })

  it('stop with off, and after the first with once', async () => {
    const [kept, ended, once] = [vi.fn(), vi.fn(), vi.fn()]
    const aggregator = pool().on('attempt', kept).on('attempt', ended).once('attempt', once)
    await verify(aggregator)
    aggregator.off('attempt', ended)
    await verify(aggregator)
    expect([kept, ended, once].map(listener => listener.mock.calls.length)).toEqual([2, 1, 1])
  })

  it.each([
    [
      'throws',
      () => {
        throw new Error('listener broke')
      },
    ],
    ['rejects', () => Promise.reject(new Error('listener broke'))],
  ])('a listener that %s changes nothing, is logged, and does not stop the others', async (_, listener) => {
    const other = vi.fn()
    const aggregator = pool().on('attempt', listener).on('log', listener).on('attempt', other)
    expect(await verify(aggregator)).toEqual(valid)
    await new Promise(resolve => setImmediate(resolve))
    expect(other).toHaveBeenCalledOnce()
    expect(aggregator.getRecentLogs()).toContainEqual(
      expect.objectContaining({ level: 'error', event: 'listener:error', error: 'listener broke' }),
    )
    expect(aggregator.getRecentLogs().length).toBeLessThan(10)
  })

  it('a log listener that logs does not get what it logs itself; the others do', async () => {
    const aggregator = pool()
    const heard: string[][] = [[], []]
    for (const entries of heard)
      aggregator.on('log', ({ event }) => {
        entries.push(event)
        if (entries === heard[0]) aggregator.setFacilitatorEnabled('b', true)
      })
    expect(await verify(aggregator)).toEqual(valid)
    expect(heard).toEqual([['attempt'], ['enabled', 'attempt']])
    expect(aggregator.getRecentLogs().map(({ event }) => event)).toEqual(['attempt', 'enabled'])
  })

  it('log listeners that all log come to an end', async () => {
    const aggregator = pool()
    let heard = 0
    for (let i = 0; i < 3; i++)
      aggregator.on('log', () => {
        heard++
        aggregator.setFacilitatorEnabled('b', true)
      })
    expect(await verify(aggregator)).toEqual(valid)
    expect(heard).toBe(3 + 3 * 2 + 3 * 2 * 1)
  })

  it('a log listener gets the faults of listeners of other events, and each entry after a fault of its own', async () => {
    const heard: string[] = []
    const aggregator = pool()
      .on('attempt', () => {
        throw new Error('listener broke')
      })
      .on('log', ({ event }) => {
        heard.push(event)
        throw new Error('log listener broke')
      })
    await verify(aggregator)
    expect(heard).toEqual(['attempt', 'listener:error'])
    await verify(aggregator)
    expect(heard).toHaveLength(4)
  })

  it('an event that its own listener brings about without end hurts nobody', async () => {
    b.supportedAnswer = supporting(kind({ network: 'eip155:1' }))
    const aggregator = pool({ maxLogEntries: 10 })
    await aggregator.getSupported()
    let turns = 0
    const turnAgain = () => aggregator.setFacilitatorEnabled('a', ++turns % 2 === 0)
    aggregator.on('supported:change', turnAgain)
    turnAgain()
    await new Promise(resolve => setImmediate(resolve))
    expect(turns).toBeGreaterThan(100)
    aggregator.off('supported:change', turnAgain)
    aggregator.setFacilitatorEnabled('a', true)
    expect(await verify(aggregator)).toEqual(valid)
  })

  it('a logger that throws changes nothing', async () => {
    const broken = () => {
      throw new Error('disk full')
    }
    const logger = { debug: broken, info: broken, warn: broken, error: broken }
    expect(await verify(pool({ logger }))).toEqual(valid)
  })
})

describe('the log', () => {
  it('says who served what, newest last', async () => {
    a.verifyAnswer = refused()
    const aggregator = pool()
    await verify(aggregator)
    expect(aggregator.getRecentLogs().map(({ level, message }) => `${level}: ${message}`)).toEqual([
      expect.stringMatching(/^warn: a: verify on eip155:84532 unreachable \(ECONNREFUSED\) in \d+ ms$/),
      'warn: verify goes on from a to b (unreachable, ECONNREFUSED)',
      expect.stringMatching(/^info: b: verify on eip155:84532 answered in \d+ ms$/),
    ])
    expect(aggregator.getRecentLogs(1)[0]).toMatchObject({
      facilitator: 'b',
      operation: 'verify',
      outcome: 'answered',
    })
  })

  it('keeps maxLogEntries entries', async () => {
    const aggregator = pool({ maxLogEntries: 5 })
    for (let i = 0; i < 12; i++) await verify(aggregator)
    expect(aggregator.getRecentLogs()).toHaveLength(5)
    expect(aggregator.getRecentLogs(2)).toHaveLength(2)
    expect(pool({ maxLogEntries: 0 }).getRecentLogs()).toEqual([])
  })

  it('keeps its order when the ring has turned', async () => {
    const aggregator = pool({ maxLogEntries: 3 })
    for (const id of ['a', 'b', 'a', 'b', 'a']) aggregator.setFacilitatorEnabled(id, true)
    expect(aggregator.getRecentLogs().map(entry => entry.facilitator)).toEqual(['a', 'b', 'a'])
  })

  it('leaves out what is below logLevel', async () => {
    a.verifyAnswer = refused()
    const aggregator = pool({ logLevel: 'warn' })
    await verify(aggregator)
    expect(aggregator.getRecentLogs().map(entry => entry.level)).toEqual(['warn', 'warn'])
  })

  it('goes to pino with the fields first, to console with the message first', async () => {
    const methods = () => ({ debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: vi.fn() })
    const likePino = { ...methods(), fatal: vi.fn() }
    const likeConsole = methods()
    await verify(pool({ logger: likePino }))
    await verify(pool({ logger: likeConsole }))
    const message = expect.stringMatching(/^\[Facilitator\] a: verify/)
    const fields = expect.objectContaining({ event: 'attempt', facilitator: 'a', outcome: 'answered' })
    expect(likePino.info).toHaveBeenCalledWith(fields, message)
    expect(likeConsole.info).toHaveBeenCalledWith(message, fields)
  })

  it('goes to listeners of log', async () => {
    const entries: LogEntry[] = []
    await verify(pool().on('log', entry => entries.push(entry)))
    expect(entries).toEqual([expect.objectContaining({ event: 'attempt', timestamp: expect.any(String) })])
  })

  it('is loud about wrong credentials once, not per payment', async () => {
    a.verifyAnswer = httpError(401)
    const aggregator = pool()
    for (let i = 0; i < 5; i++) await verify(aggregator)
    const loud = aggregator.getRecentLogs().filter(entry => entry.level === 'error')
    expect(loud).toEqual([expect.objectContaining({ event: 'credentials', facilitator: 'a' })])
  })
})

describe('statistics', () => {
  it('count operations and results, and measure', async () => {
    b.verifyAnswer = refused()
    const aggregator = pool({ strategy: candidates => candidates.map(({ id }) => id).reverse() })
    await aggregator.getSupported()
    await verify(aggregator)
    await verify(aggregator)
    const [ofA, ofB] = aggregator.getStatistics().facilitators
    expect(ofA).toMatchObject({
      id: 'a',
      operations: { verify: 2, settle: 0, supported: 1, list: 0, total: 3 },
      results: { success: 3, failure: 0, successRate: '100%' },
      performance: { averageResponseTimeMs: expect.any(Number), p50Ms: expect.any(Number) },
    })
    expect(ofB).toMatchObject({
      operations: { verify: 2, total: 3 },
      results: { success: 1, failure: 2, successRate: '33.33%' },
      perOperation: { verify: { success: 0, failure: 2 } },
    })
  })

  it('give averages and percentiles of the newest attempts', async () => {
    vi.useFakeTimers()
    let ms = 0
    a.verifyAnswer = () => new Promise(resolve => setTimeout(() => resolve(valid), ++ms))
    const aggregator = pool()
    for (let i = 0; i < 100; i++) {
      const answer = verify(aggregator)
      await vi.runAllTimersAsync()
      await answer
    }
    expect(aggregator.getStatistics().facilitators[0]?.performance).toEqual({
      averageResponseTimeMs: 50.5,
      p50Ms: 50,
      p95Ms: 95,
      p99Ms: 99,
    })
  })

  it('show health in the published shape', async () => {
    await pool().checkHealth()
    const aggregator = pool()
    await aggregator.checkHealth()
    expect(aggregator.getHealthStatus()).toEqual({
      facilitators: ['a', 'b'].map(id => ({
        id,
        isHealthy: true,
        isEnabled: true,
        isQuarantined: false,
        consecutiveFailures: 0,
        totalSuccesses: 1,
        totalFailures: 0,
        successRate: '100%',
        averageResponseTimeMs: expect.any(Number),
        lastSuccessfulCheck: expect.stringMatching(/^\d{4}-\d\d-\d\dT/),
        lanes: [{ operation: 'supported', network: undefined, circuit: 'closed', consecutiveFailures: 0 }],
      })),
      summary: { total: 2, healthy: 2, unhealthy: 0 },
      ledger: { entries: expect.any(Number), maxEntries: 100_000, isNearlyFull: false },
    })
  })
})

it('a logger whose methods are asynchronous may fail', async () => {
  const unhandled: unknown[] = []
  const note = (reason: unknown) => unhandled.push(reason)
  process.on('unhandledRejection', note)
  onTestFinished(() => void process.off('unhandledRejection', note))
  const fail = async () => {
    throw new Error('the store of the log is down')
  }
  const logger = { debug: fail, info: fail, warn: fail, error: fail }
  expect(await verify(pool({ logger }))).toEqual(valid)
  vi.useRealTimers()
  await new Promise(resolve => setTimeout(resolve, 10))
  expect(unhandled).toEqual([])
})

it('a listener that is none is refused', () => {
  expect(() => pool().on('log', untyped(undefined))).toThrow('a listener is a function')
})

describe('no secret goes out', () => {
  const secrets = [
    'hunter2hunter2',
    signature,
    'eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl',
    'k3y-in-the-path-of-a-url',
  ]

  it('in logs, events, errors, health, statistics or configuration', async () => {
    const leak = new Error(
      `Authorization: Bearer ${secrets[0]} token=${secrets[0]} https://me:${secrets[0]}@x.example ` +
        `payload {"signature":"${secrets[1]}"} jwt ${secrets[2]} https://x.example/v2/${secrets[3]}/verify`,
    )
    a.verifyAnswer = leak
    a.settleAnswer = leak
    a.supportedAnswer = leak
    const aggregator = new FacilitatorAggregator({
      facilitators: [
        { id: 'a', client: a },
        {
          id: 'url',
          url: `https://x.example/base/${secrets[3]}`,
          createAuthHeaders: () => ({ verify: { authorization: `Bearer ${secrets[0]}` } }),
          fetch: async () => new Response(`echo: Bearer ${secrets[0]}`, { status: 500 }),
        },
      ],
      retries: 0,
      healthCheck: false,
    })
    const seen: unknown[] = []
    for (const name of [
      'attempt',
      'failover',
      'circuit:change',
      'health:change',
      'settlement:indeterminate',
      'log',
    ] as const)
      aggregator.on(name, (event: AggregatorEvents[typeof name]) => seen.push(event))
    for (const work of [
      () => verify(aggregator),
      () => aggregator.settle(newPayload(), requirements()),
      () => aggregator.getSupported(),
    ]) {
      const error = (await work().catch((thrown: unknown) => thrown)) as Error
      seen.push(error.message, error.stack, { ...error }, error.cause)
    }
    seen.push(
      aggregator.getRecentLogs(),
      aggregator.getHealthStatus(),
      aggregator.getStatistics(),
      aggregator.getConfig(),
    )
    const all = JSON.stringify(seen)
    expect(all).toContain('[redacted')
    for (const secret of secrets) expect(all).not.toContain(secret)
  })

  it('nor a key in PEM', async () => {
    const lines = ['MHcCAQEEIBkg4LVWM9nuwNSk3yByxZpYRTBnVJ0Gjn5Nf2iRmyZo', 'AwEHoUQDQgAEWZF3c2VjcmV0']
    const pem = ['-----BEGIN EC PRIVATE KEY-----', ...lines, '-----END EC PRIVATE KEY-----'].join('\n')
    a.verifyAnswer = new Error(`not a key: ${pem}, it says`)
    b.verifyAnswer = a.verifyAnswer
    const error = (await verify(pool()).catch((thrown: unknown) => thrown)) as Error
    expect(error.message).toContain('not a key: [redacted key], it says')
  })

  it('nor is any text so long that the search for them takes for ever', async () => {
    a.verifyAnswer = { isValid: false, invalidReason: ` ${'/'.repeat(1_000_000)}` }
    const attempts: AggregatorEvents['attempt'][] = []
    const aggregator = pool()
    aggregator.on('attempt', attempt => attempts.push(attempt))
    await verify(aggregator)
    expect(attempts[0]?.reason?.length).toBeLessThanOrEqual(200)
  })

  it('but addresses of pages and of transactions stay readable', async () => {
    const links = `https://x.example/supported-networks https://explorer.example/tx/0x${'ab'.repeat(32)}`
    a.verifyAnswer = new Error(`see ${links}`)
    const error = await verify(new FacilitatorAggregator({ facilitators: [{ id: 'a', client: a }] })).catch(
      (thrown: unknown) => thrown,
    )
    expect((error as Error).message).toContain(links)
  })
})

describe('errors', () => {
  it('that mean "the facilitators could not answer" make upstream answer 502; the others do not', async () => {
    a.verifyAnswer = refused()
    b.verifyAnswer = refused()
    const failed = await verify(pool()).catch((error: unknown) => error)
    expect(failed).toBeInstanceOf(FacilitatorResponseError)
    expect(failed).toBeInstanceOf(AllFacilitatorsFailedError)
    expect(getFacilitatorResponseError(failed)).toBe(failed)
    const invalid = await pool()
      .verify(untyped({}), requirements())
      .catch((error: unknown) => error)
    expect(invalid).not.toBeInstanceOf(FacilitatorResponseError)
    for (const error of [failed, invalid, new InvalidOptionsError(['x'])]) {
      expect(error).toBeInstanceOf(AggregatorError)
      expect(error).toMatchObject({ code: expect.stringMatching(/^[A-Z_]+$/), attempts: expect.any(Array) })
    }
    expect(invalid).toBeInstanceOf(InvalidPaymentError)
    expect(invalid).not.toBeInstanceOf(InvalidOptionsError)
    expect(new Error('x')).not.toBeInstanceOf(AggregatorError)
  })

  it('carry the attempts', async () => {
    a.verifyAnswer = refused()
    b.verifyAnswer = httpError(402)
    await expect(verify(pool())).rejects.toMatchObject({
      attempts: [
        { facilitator: 'a', outcome: 'unreachable', reason: 'ECONNREFUSED' },
        { facilitator: 'b', outcome: 'declined', reason: 'HTTP 402' },
      ],
    })
  })
})

describe('start and stop', () => {
  it('are idempotent, and leave no timer', async () => {
    vi.useFakeTimers()
    const aggregator = pool({ healthCheck: {} })
    aggregator.start()
    aggregator.start()
    expect(vi.getTimerCount()).toBeGreaterThan(0)
    await vi.advanceTimersByTimeAsync(0)
    const stopped = aggregator.stop()
    expect(aggregator.stop()).toBe(stopped)
    await stopped
    expect(vi.getTimerCount()).toBe(0)
  })

  it('does nothing in the constructor', () => {
    vi.useFakeTimers()
    pool({ healthCheck: {} })
    expect(vi.getTimerCount()).toBe(0)
    expect(a.calls.supported).toBe(0)
  })

  it('starts with the first operation, unless autoStart is false', async () => {
    vi.useFakeTimers()
    await verify(pool({ healthCheck: {}, autoStart: false }))
    expect(vi.getTimerCount()).toBe(0)
    const aggregator = pool({ healthCheck: {} })
    await verify(aggregator)
    expect(vi.getTimerCount()).toBe(1)
    await aggregator.stop()
  })

  it('refuses new work after stop, and takes it again after start', async () => {
    const aggregator = pool()
    await aggregator.stop()
    for (const work of [
      () => verify(aggregator),
      () => aggregator.settle(newPayload(), requirements()),
      () => aggregator.getSupported(),
      () => aggregator.list(),
      () => aggregator.checkHealth(),
    ])
      await expect(work()).rejects.toMatchObject({ code: 'AGGREGATOR_STOPPED' })
    aggregator.start()
    expect(await verify(aggregator)).toEqual(valid)
  })

  it('waits for calls in flight by default', async () => {
    let answer = (_: typeof valid) => {}
    a.verifyAnswer = () => new Promise(resolve => (answer = resolve))
    const aggregator = pool()
    const verified = verify(aggregator)
    let isStopped = false
    const stopped = aggregator.stop().then(() => {
      isStopped = true
    })
    await new Promise(resolve => setImmediate(resolve))
    expect(isStopped).toBe(false)
    answer(valid)
    expect(await verified).toEqual(valid)
    await stopped
  })

  it('aborts calls in flight on demand: a settle that was sent is indeterminate, nobody else is asked', async () => {
    a.verifyAnswer = hanging
    a.settleAnswer = hanging
    const aggregator = pool()
    const verified = verify(aggregator).catch((error: unknown) => error)
    const settled = aggregator.settle(newPayload(), requirements()).catch((error: unknown) => error)
    await vi.waitFor(() => expect(a.calls.settle).toBe(1))
    await aggregator.stop({ inFlight: 'abort' })
    expect(await verified).toBeInstanceOf(AggregatorStoppedError)
    expect(await settled).toBeInstanceOf(SettlementIndeterminateError)
    expect([b.calls.verify, b.calls.settle]).toEqual([0, 0])
    expect(aggregator.getHealthStatus().summary.unhealthy).toBe(0)
  })
})
