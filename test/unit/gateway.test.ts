import { HTTPFacilitatorClient } from '@x402/core/server'
import { SettleError, VerifyError } from '@x402/core/types'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { IdempotentAnswers } from '../../src/http/idempotency.ts'
import { createGateway, createStatusHandler, type GatewayOptions } from '../../src/http/index.ts'
import { RateLimit } from '../../src/http/rate-limit.ts'
import { type AggregatorOptions, FacilitatorAggregator, MemoryLedger } from '../../src/index.ts'
import { listen } from '../../src/node/index.ts'
import { untyped } from '../untyped.ts'
import {
  done,
  FakeFacilitator,
  hanging,
  httpError,
  kind,
  newPayload,
  payload,
  payloadV1,
  probeOf,
  refusal,
  refused,
  requirements,
  requirementsV1,
  settled,
  supporting,
  unspent,
  valid,
} from './builders.ts'

let a: FakeFacilitator
let b: FakeFacilitator
let aggregator: FacilitatorAggregator

beforeEach(() => {
  a = new FakeFacilitator()
  b = new FakeFacilitator()
})
afterEach(async () => {
  vi.useRealTimers()
  await aggregator.stop({ inFlight: 'abort' })
})

function open(options: GatewayOptions = {}, settings: Partial<AggregatorOptions> = {}) {
  aggregator = new FacilitatorAggregator({
    facilitators: [
      { id: 'a', client: a },
      { id: 'b', client: b },
    ],
    healthCheck: false,
    backoffMs: 0,
    ...settings,
  })
  return createGateway(aggregator, options)
}

type Gateway = ReturnType<typeof open>

async function ask(gateway: Gateway, method: string, path: string, init: RequestInit = {}) {
  const response = await gateway.fetch(new Request(`http://gateway.example${path}`, { method, ...init }))
  const text = await response.text()
  return {
    status: response.status,
    headers: response.headers,
    body: text === '' ? undefined : JSON.parse(text),
  }
}
const get = (gateway: Gateway, path: string, headers: Record<string, string> = {}) =>
  ask(gateway, 'GET', path, { headers })
const post = (gateway: Gateway, path: string, body: unknown, headers: Record<string, string> = {}) =>
  ask(gateway, 'POST', path, {
    headers: { 'content-type': 'application/json', ...headers },
    body: typeof body === 'string' ? body : JSON.stringify(body),
  })

const pay = (paymentPayload: object = payload(), paymentRequirements: object = requirements()) => ({
  x402Version: 2,
  paymentPayload,
  paymentRequirements,
})
const payment = pay()
const settle = (gateway: Gateway, body: unknown = payment, headers?: Record<string, string>) =>
  post(gateway, '/settle', body, headers)

describe('the gateway answers as a facilitator does', () => {
  it('verify, settle and supported', async () => {
    const gateway = open()
    expect(await post(gateway, '/verify', pay())).toMatchObject({ status: 200, body: valid })
    expect(await settle(gateway)).toMatchObject({ status: 200, body: settled })
    expect(await get(gateway, '/supported')).toMatchObject({
      status: 200,
      body: { kinds: [{ scheme: 'exact' }] },
    })
  })

  it('payments of protocol version 1', async () => {
    a.supportedAnswer = {
      kinds: [{ x402Version: 1, scheme: 'exact', network: 'base-sepolia' }],
      extensions: [],
      signers: {},
    }
    const gateway = open()
    expect(await post(gateway, '/verify', pay(payloadV1(), requirementsV1()))).toMatchObject({ body: valid })
    expect(await settle(gateway, pay(payloadV1(), requirementsV1()))).toMatchObject({ body: settled })
  })

  it('the discovery list, with its query', async () => {
    const queries: unknown[] = []
    Object.assign(a, {
      list: async (query: unknown) => {
        queries.push(query)
        return { x402Version: 2, items: [] }
      },
    })
    const gateway = open()
    expect(await get(gateway, '/discovery/resources?limit=5&type=http')).toMatchObject({
      status: 200,
      body: { x402Version: 2, items: [] },
    })
    expect(queries).toEqual([{ limit: '5', type: 'http' }])
  })

  it('what an in-process facilitator answers with a bigint', async () => {
    a.settleAnswer = { ...settled, extra: { gasUsed: 21_000n } }
    expect(await settle(open())).toMatchObject({ status: 200, body: { extra: { gasUsed: '21000' } } })
  })

  it('a success, though an in-process facilitator adds what JSON cannot hold', async () => {
    const round: Record<string, unknown> = {}
    round.self = round
    a.settleAnswer = { ...settled, extra: round }
    expect(await settle(open())).toMatchObject({ status: 200, body: settled })
  })

  it('an empty body with what may have happened to it', async () => {
    expect(await ask(open(), 'POST', '/verify', { body: '' })).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining('was it read before, as by an express.json() in front?') },
    })
  })

  it('rejections as results', async () => {
    a.verifyAnswer = { isValid: false, invalidReason: 'insufficient_funds' }
    a.settleAnswer = refusal('insufficient_funds')
    const gateway = open()
    expect(await post(gateway, '/verify', pay())).toMatchObject({
      status: 200,
      body: { isValid: false, invalidReason: 'insufficient_funds' },
    })
    expect(await settle(gateway)).toMatchObject({
      status: 200,
      body: { success: false, errorReason: 'insufficient_funds' },
    })
  })

  it('what a facilitator says of extensions in its header', async () => {
    a.verifyAnswer = untyped({ ...valid, extensionResponses: { bazaar: { status: 'listed' } } })
    const { headers, body } = await post(open(), '/verify', pay())
    expect(body).toEqual(valid)
    expect(JSON.parse(atob(headers.get('extension-responses') ?? ''))).toEqual({
      bazaar: { status: 'listed' },
    })
  })

  it('under a base path', async () => {
    const gateway = open({ basePath: '/facilitator' })
    expect(await get(gateway, '/facilitator/supported')).toMatchObject({ status: 200 })
    expect(await get(gateway, '/supported')).toMatchObject({ status: 404, body: { error: 'NOT_FOUND' } })
  })
})

describe('an error of the aggregator', () => {
  it('that left the money alone is 502 or 503', async () => {
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    a.verifyAnswer = httpError(500)
    b.verifyAnswer = httpError(500)
    const gateway = open({}, { retries: 0 })
    expect(await settle(gateway)).toMatchObject({ status: 502, body: { error: 'ALL_FACILITATORS_FAILED' } })
    expect(await post(gateway, '/verify', pay())).toMatchObject({ status: 502 })
    const full = open({}, { settlement: { ledger: new MemoryLedger({ maxEntries: 1 }) } })
    await settle(full)
    const answer = await settle(full, pay(newPayload()))
    expect(answer).toMatchObject({ status: 503, body: { error: 'LEDGER_FULL' } })
    expect(answer.headers.get('retry-after')).toBe('1')
  })

  it('that left doubt does not look like a failure to upstream', async () => {
    a.settleAnswer = httpError(502)
    const gateway = open()
    const { status, body } = await settle(gateway)
    expect(status).toBe(200)
    expect(body).toMatchObject({ error: 'SETTLEMENT_INDETERMINATE', requestId: expect.any(String) })
    expect(body).not.toHaveProperty('success')
  })

  it('that nobody expected does not either, and says nothing of its cause', async () => {
    const gateway = open()
    vi.spyOn(aggregator, 'settle').mockRejectedValue(new Error('secret'))
    expect(await settle(gateway)).toMatchObject({
      status: 200,
      body: { error: 'INTERNAL_ERROR', message: 'the gateway met a fault of its own' },
    })
  })

  it('that was stopped is 503', async () => {
    const gateway = open()
    await aggregator.stop()
    expect(await settle(gateway)).toMatchObject({ status: 503, body: { error: 'AGGREGATOR_STOPPED' } })
  })
})

describe('bad requests', () => {
  it.each([
    ['{"paymentPayload":', 'body'],
    ['[]', 'body'],
    [{ x402Version: 2 }, 'paymentPayload'],
    [pay({ ...payload(), accepted: undefined }), 'paymentPayload.accepted'],
    [pay(payload(), { ...requirements(), payTo: '' }), 'paymentRequirements.payTo'],
  ])('are 400 with the path of the wrong field: %j', async (body, path) => {
    const gateway = open()
    for (const operation of ['/verify', '/settle'])
      expect(await post(gateway, operation, body)).toMatchObject({
        status: 400,
        body: { error: 'INVALID_PAYMENT', path, requestId: expect.any(String) },
      })
    expect(a.calls).toMatchObject({ verify: 0, settle: 0 })
  })

  it('of more than 256 kB are 413, whether they say so or not', async () => {
    const gateway = open()
    const long = JSON.stringify({ padding: 'x'.repeat(262_144) })
    expect(await settle(gateway, long)).toMatchObject({ status: 413, body: { error: 'TOO_LARGE' } })
    const stream = new Blob([long]).stream()
    const chunked = { body: stream, duplex: 'half' } as RequestInit
    expect(await ask(gateway, 'POST', '/settle', chunked)).toMatchObject({ status: 413 })
    expect(await settle(open({ maxBodyBytes: 10 }))).toMatchObject({ status: 413 })
  })

  it('to another path are answered 404, with the paths that there are', async () => {
    expect((await get(open(), '/pay')).body.message).toContain('POST /settle')
  })

  it('keep their id', async () => {
    const { headers } = await get(open(), '/supported', { 'x-request-id': 'mine' })
    expect(headers.get('x-request-id')).toBe('mine')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
  })
})

describe('access', () => {
  it('needs one of the tokens', async () => {
    const gateway = open({ tokens: ['first', 'second'] })
    for (const authorization of ['', 'Bearer', 'Bearer wrong', 'Bearer firs', 'Basic first']) {
      const { status, headers } = await get(gateway, '/supported', { authorization })
      expect([status, headers.get('www-authenticate')]).toEqual([401, 'Bearer'])
    }
    for (const token of ['first', 'second'])
      expect(await get(gateway, '/supported', { authorization: `Bearer ${token}` })).toMatchObject({
        status: 200,
      })
    expect(await get(gateway, '/healthz')).toMatchObject({ status: 200, body: { status: 'alive' } })
    expect(await get(gateway, '/api/facilitator-status')).toMatchObject({ status: 401 })
  })

  it('is refused to an empty token at once', () => {
    expect(() => open({ tokens: [''] })).toThrow('tokens: expected a list of texts that are not empty')
  })

  it('is limited per client, and says when to come back', async () => {
    vi.useFakeTimers()
    const gateway = open({ tokens: ['one', 'two'], rateLimit: { perSecond: 0.5, burst: 2 } })
    const as = (token: string) => get(gateway, '/supported', { authorization: `Bearer ${token}` })
    expect([(await as('one')).status, (await as('one')).status]).toEqual([200, 200])
    const limited = await as('one')
    expect(limited).toMatchObject({ status: 429, body: { error: 'RATE_LIMITED' } })
    expect(limited.headers.get('retry-after')).toBe('2')
    expect((await as('two')).status).toBe(200)
    vi.advanceTimersByTime(2_000)
    expect((await as('one')).status).toBe(200)
    expect((await as('one')).status).toBe(429)
  })

  it('is not limited for the settle of a client that was let through', async () => {
    const gateway = open({ tokens: ['one'], rateLimit: { perSecond: 0.001, burst: 1 } })
    const authorization = 'Bearer one'
    expect((await post(gateway, '/verify', payment, { authorization })).status).toBe(200)
    expect((await post(gateway, '/verify', payment, { authorization })).status).toBe(429)
    expect(await settle(gateway, payment, { authorization })).toMatchObject({ status: 200, body: settled })
  })

  it('is limited for those without a token too, by their address', async () => {
    const gateway = open({ tokens: ['one'], rateLimit: { perSecond: 1, burst: 1 } })
    const from = (remoteAddress: string) =>
      gateway.fetch(new Request('http://gateway.example/supported'), {
        incoming: { socket: { remoteAddress } },
      })
    expect((await from('10.0.0.1')).status).toBe(401)
    expect((await from('10.0.0.1')).status).toBe(429)
    expect((await from('10.0.0.2')).status).toBe(401)
  })

  it('remembers a bounded number of clients, and forgets the longest unseen', () => {
    const limit = new RateLimit({ perSecond: 0.001, burst: 1 }, 3)
    const isLetThrough = (client: string) => limit.take(client) === 0
    expect(['first', 'first', 'second', 'third'].map(isLetThrough)).toEqual([true, false, true, true])
    // Seen again, it is not the longest unseen.
    expect(['first', 'fourth'].map(isLetThrough)).toEqual([false, true])
    expect(['first', 'third', 'second'].map(isLetThrough)).toEqual([false, false, true])
  })

  it('ends when the gateway drains, but for what is in flight', async () => {
    let finish = () => {}
    a.settleAnswer = () =>
      new Promise(resolve => {
        finish = () => resolve(settled)
      })
    const gateway = open()
    const running = settle(gateway)
    await vi.waitFor(() => expect(a.calls.settle).toBe(1))
    gateway.drain()
    const refusedNow = await settle(gateway, pay(newPayload()))
    expect(refusedNow).toMatchObject({ status: 503, body: { error: 'SHUTTING_DOWN' } })
    expect(refusedNow.headers.get('retry-after')).toBe('1')
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { reasons: ['the gateway is shutting down'] },
    })
    expect(await get(gateway, '/healthz')).toMatchObject({ status: 200 })
    finish()
    expect(await running).toMatchObject({ status: 200, body: settled })
  })
})

describe('over real HTTP', () => {
  it('reads a body without a content length, and refuses one that is too long', async () => {
    const server = await listen(open({ maxBodyBytes: 2_000 }), { port: 0 })
    const stream = (text: string) =>
      ({ method: 'POST', body: new Blob([text]).stream(), duplex: 'half' }) as RequestInit
    const answer = await fetch(`${server.url}/verify`, stream(JSON.stringify(payment)))
    expect([answer.status, await answer.json()]).toEqual([200, valid])
    expect((await fetch(`${server.url}/verify`, stream('x'.repeat(2_001)))).status).toBe(413)
    await server.close()
  })

  it('closes the connections that stand when it drains', async () => {
    const gateway = open()
    gateway.drain()
    expect((await get(gateway, '/supported')).headers.get('connection')).toBe('close')
  })

  it('refuses ports that are none, and addresses that others reach', async () => {
    await expect(listen(open(), { port: 70_000 })).rejects.toThrow('port: expected a whole number')
    await expect(listen(open(), { port: 0, hostname: '0.0.0.0' })).rejects.toThrow(
      'must not listen on 0.0.0.0',
    )
  })
})

describe('options of the gateway', () => {
  it.each([
    [{ token: 't' }, 'token is not an option; there are tokens'],
    [{ tokens: 't' }, 'tokens: expected a list'],
    [{ maxBodyBytes: -1 }, 'maxBodyBytes: expected a whole number above 0'],
    [{ rateLimit: { perSecond: 0, burst: 1 } }, 'rateLimit: expected perSecond above 0'],
  ])('are refused when they are wrong: %j', (options, message) => {
    expect(() => open(untyped(options))).toThrow(message)
  })
})

describe('a buyer cannot hurt others', () => {
  it('with a payload that is nested too deep to be sent on', async () => {
    const clients = [
      { id: 'by-url', url: 'http://x.example', fetch: async () => Response.json(valid) },
      { id: 'by-client', client: new HTTPFacilitatorClient({ url: 'http://y.example' }) },
    ]
    const gateway = open({}, { facilitators: clients, retries: 0 })
    const deep = JSON.stringify(payment).replace(
      '"payload":{',
      `"payload":{"deep":${'['.repeat(20_000)}${']'.repeat(20_000)},`,
    )
    for (let i = 0; i < 4; i++) expect((await post(gateway, '/verify', deep)).status).toBe(502)
    expect(aggregator.getHealthStatus().summary).toMatchObject({ healthy: 2 })
  })
})

describe('on Workers', () => {
  it('a request that is being answered keeps its context alive', async () => {
    const works: Promise<unknown>[] = []
    const gateway = open()
    const request = new Request('http://gateway.example/supported')
    const response = await gateway.fetch(request, {}, { waitUntil: work => works.push(work) })
    expect(response.status).toBe(200)
    expect(works).toHaveLength(1)
    await works[0]
  })
})

describe('Idempotency-Key', () => {
  const key = { 'idempotency-key': 'k' }

  it('gives the same answer again, and settles once', async () => {
    const gateway = open()
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 200, body: settled })
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 200, body: settled })
    expect(a.calls.settle).toBe(1)
  })

  it('without it, the same payment is a duplicate', async () => {
    const gateway = open()
    await settle(gateway, payment, key)
    const duplicate = { success: false, errorReason: 'duplicate_settlement' }
    expect(await settle(gateway)).toMatchObject({ status: 200, body: duplicate })
    expect(await settle(gateway, payment, { 'idempotency-key': 'other' })).toMatchObject({ body: duplicate })
    expect(await settle(gateway, payment, key)).toMatchObject({ body: settled })
  })

  it('waits for the answer that is on its way', async () => {
    let finish = () => {}
    a.settleAnswer = () =>
      new Promise(resolve => {
        finish = () => resolve(settled)
      })
    const gateway = open()
    const both = Promise.all([settle(gateway, payment, key), settle(gateway, payment, key)])
    await vi.waitFor(() => expect(a.calls.settle).toBe(1))
    finish()
    for (const answer of await both) expect(answer).toMatchObject({ status: 200, body: settled })
    expect(a.calls.settle).toBe(1)
  })

  it('is refused for another payment', async () => {
    const gateway = open()
    await settle(gateway, payment, key)
    expect(await settle(gateway, pay(newPayload()), key)).toMatchObject({
      status: 422,
      body: { error: 'IDEMPOTENCY_KEY_REUSED' },
    })
    expect(a.calls.settle).toBe(1)
  })

  it('belongs to one client', async () => {
    const gateway = open({ tokens: ['one', 'two'] })
    await settle(gateway, pay(), { ...key, authorization: 'Bearer one' })
    expect(await settle(gateway, pay(newPayload()), { ...key, authorization: 'Bearer two' })).toMatchObject({
      status: 200,
      body: settled,
    })
  })

  it('goes on where an answer that decided nothing ended', async () => {
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    const gateway = open({}, { retries: 0 })
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 502 })
    a.settleAnswer = settled
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 200, body: settled })
  })

  it('goes on after a refusal that another time may not get', async () => {
    a.settleAnswer = refusal('unsupported_scheme')
    b.settleAnswer = refusal('unsupported_scheme')
    vi.useFakeTimers()
    const gateway = open({}, { settlement: { probes: [probeOf(() => unspent)] } })
    expect(await done(settle(gateway, payment, key))).toMatchObject({ body: { success: false } })
    a.settleAnswer = settled
    expect(await done(settle(gateway, payment, key))).toMatchObject({ status: 200, body: settled })
  })

  it('is forgotten after its time', async () => {
    vi.useFakeTimers()
    const gateway = open({ idempotencyMs: 1_000 })
    await settle(gateway, payment, key)
    vi.advanceTimersByTime(1_001)
    expect(await settle(gateway, pay(newPayload()), key)).toMatchObject({ status: 200, body: settled })
    expect(a.calls.settle).toBe(2)
  })

  it('is kept for a bounded number of payments, and never dropped while one is running', async () => {
    const answers = new IdempotentAnswers(60_000, 2)
    const worked: string[] = []
    const work = (name: string) => async () => {
      worked.push(name)
      return { status: 200, body: { name }, headers: {}, isFinal: true } as const
    }
    let finish = () => {}
    const running = answers.once('running', 'body', async () => {
      await new Promise<void>(resolve => {
        finish = resolve
      })
      return work('running')()
    })
    await vi.waitFor(() => expect(finish).toHaveLength(1))
    for (const name of ['one', 'two', 'three']) await answers.once(name, name, work(name))
    const again = answers.once('running', 'body', work('running twice'))
    finish()
    expect(await again).toBe(await running)
    for (const name of ['three', 'one']) await answers.once(name, name, work(`${name} once more`))
    expect(worked).toEqual(['one', 'two', 'three', 'running', 'one once more'])
  })

  it('is 1 to 255 characters long', async () => {
    const long = { 'idempotency-key': 'x'.repeat(256) }
    expect(await settle(open(), pay(), long)).toMatchObject({
      status: 400,
      body: { error: 'INVALID_REQUEST' },
    })
  })
})

describe('readiness', () => {
  it('is lost while no facilitator can be used, with the reasons', async () => {
    const gateway = open({}, { healthCheck: { maxConsecutiveFailures: 1 }, retries: 0 })
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 200,
      body: { status: 'ready', reasons: [] },
    })
    aggregator.setFacilitatorEnabled('b', false)
    expect(await get(gateway, '/readyz')).toMatchObject({ status: 200, body: { reasons: ['b is disabled'] } })
    a.supportedAnswer = refused()
    await aggregator.checkHealth()
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { status: 'not ready', reasons: ['a is unhealthy: a circuit is open', 'b is disabled'] },
    })
  })

  it('is not lost for a discovery list that nobody has, or for trouble on one network', async () => {
    const polygon = 'eip155:137'
    a.supportedAnswer = supporting(kind(), kind({ network: polygon }))
    b.supportedAnswer = a.supportedAnswer
    const gateway = open({}, { healthCheck: { maxConsecutiveFailures: 1 }, retries: 0 })
    await get(gateway, '/discovery/resources')
    expect(await settle(gateway)).toMatchObject({ body: settled })
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    for (let i = 0; i < 2; i++) await settle(gateway, pay(newPayload(), requirements({ network: polygon })))
    expect(await get(gateway, '/readyz')).toMatchObject({ status: 200 })
  })

  it('is lost when no network can be paid on', async () => {
    const gateway = open({}, { healthCheck: { maxConsecutiveFailures: 1 }, retries: 0 })
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    for (let i = 0; i < 2; i++) await settle(gateway, pay(newPayload()))
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { reasons: ['a is unhealthy: a circuit is open', 'b is unhealthy: a circuit is open'] },
    })
  })

  it('is lost after the first check that nobody answered, before any circuit opens', async () => {
    const gateway = open({}, { retries: 0 })
    a.supportedAnswer = refused()
    b.supportedAnswer = refused()
    await aggregator.checkHealth()
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { reasons: ['a did not answer its last check', 'b did not answer its last check'] },
    })
  })
})

describe('the status', () => {
  const status = (query = '') => get(open(), `/api/facilitator-status${query}`)

  it('has the published shape', async () => {
    const { status: code, body } = await status()
    expect(code).toBe(200)
    expect(body).toEqual({
      enabled: true,
      timestamp: expect.stringMatching(/^\d{4}-\d\d-\d\dT.*Z$/),
      health: {
        facilitators: [
          expect.objectContaining({ id: 'a', isHealthy: true, successRate: '100%' }),
          expect.anything(),
        ],
        summary: { total: 2, healthy: 2, unhealthy: 0 },
        ledger: { entries: expect.any(Number), maxEntries: 100_000, isNearlyFull: false },
      },
      statistics: {
        facilitators: [
          expect.objectContaining({
            id: 'a',
            operations: { verify: 0, settle: 0, supported: 0, list: 0, total: 0 },
            results: { success: 0, failure: 0, successRate: '100%' },
          }),
          expect.anything(),
        ],
      },
      logs: [],
      config: expect.objectContaining({ enabled: true }),
      unresolvedSettlements: [],
    })
  })

  it('shows the parts asked for', async () => {
    expect(Object.keys((await status('?include=health')).body)).toEqual(['enabled', 'timestamp', 'health'])
    expect(Object.keys((await status('?include=stats,config')).body)).toEqual([
      'enabled',
      'timestamp',
      'statistics',
      'config',
    ])
    const gateway = open()
    await post(gateway, '/verify', pay())
    await post(gateway, '/verify', pay())
    const logs = await get(gateway, '/api/facilitator-status?include=logs&logLimit=1')
    expect(logs.body.logs).toHaveLength(1)
    expect(logs.body.logs[0].message).toContain('a: verify')
  })

  it('is answered while the ledger is down, with the problem in it', async () => {
    const inner = new MemoryLedger()
    const ledger = {
      claim: inner.claim.bind(inner),
      update: inner.update.bind(inner),
      get: inner.get.bind(inner),
      unresolved: () => Promise.reject(new Error('db down')),
    }
    const answer = await get(open({}, { settlement: { ledger } }), '/api/facilitator-status')
    expect(answer).toMatchObject({
      status: 200,
      body: { ledgerProblem: 'the ledger failed (db down).', health: {} },
    })
  })

  it('says whether aggregation is on', async () => {
    const gateway = open({}, { enabled: false })
    expect(await get(gateway, '/api/facilitator-status?include=health')).toMatchObject({
      body: { enabled: false, health: { summary: { total: 1 } } },
    })
  })

  it.each([
    ['?inlcude=health', 'inlcude is not a parameter; there are include, logLimit'],
    ['?include=helth', 'include: "helth" is not a part; there are health, stats, logs, config, settlements'],
    ['?logLimit=-1', 'logLimit: expected a whole number from 0, got "-1"'],
  ])('refuses %s', async (query, message) => {
    expect(await status(query)).toMatchObject({ status: 400, body: { error: 'INVALID_REQUEST', message } })
  })

  it('can be mounted elsewhere, or not at all', async () => {
    expect(await get(open({ statusPath: '/status' }), '/status')).toMatchObject({ status: 200 })
    expect(await get(open({ statusPath: false }), '/api/facilitator-status')).toMatchObject({ status: 404 })
  })
})

describe('what an operator may do', () => {
  const authorized = { authorization: 'Bearer secret' }
  const act = (gateway: Gateway, body: unknown, headers = authorized) =>
    post(gateway, '/api/facilitator-status', body, headers)
  const guarded = () => open({ tokens: ['secret'] })

  it('check the health, of one or of all', async () => {
    const gateway = guarded()
    expect(await act(gateway, { action: 'check-health' })).toMatchObject({
      status: 200,
      body: { action: 'check-health', health: { summary: { total: 2, healthy: 2 } } },
    })
    expect([a.calls.supported, b.calls.supported]).toEqual([1, 1])
    await act(gateway, { action: 'check-health', facilitator: 'b' })
    expect([a.calls.supported, b.calls.supported]).toEqual([1, 2])
  })

  it('disable and enable a facilitator', async () => {
    const gateway = guarded()
    await act(gateway, { action: 'disable', facilitator: 'a' })
    await settle(gateway, pay(), authorized)
    expect([a.calls.settle, b.calls.settle]).toEqual([0, 1])
    const { body } = await act(gateway, { action: 'enable', facilitator: 'a' })
    expect(body.health.facilitators[0]).toMatchObject({ id: 'a', isEnabled: true })
  })

  it('close a settlement that was delivered or refunded by hand', async () => {
    const gateway = guarded()
    a.settleAnswer = httpError(502)
    const payment = pay()
    await settle(gateway, payment, authorized)
    const [left] = (await ask(gateway, 'GET', '/api/facilitator-status', { headers: authorized })).body
      .unresolvedSettlements
    expect(await act(gateway, { action: 'close-settlement', key: left.key })).toMatchObject({
      status: 200,
      body: { isClosed: true },
    })
    a.settleAnswer = settled
    expect((await settle(gateway, payment, authorized)).body).toMatchObject({ success: false })
    const { body } = await act(gateway, { action: 'close-settlement', key: left.key })
    expect(body).toMatchObject({ isClosed: false })
  })

  it('with a token only', async () => {
    expect(await act(open(), { action: 'check-health' })).toMatchObject({ status: 401 })
    const gateway = guarded()
    expect(await act(gateway, { action: 'check-health' }, { authorization: 'Bearer wrong' })).toMatchObject({
      status: 401,
    })
    for (const options of [{}, { token: 'other' }, { token: '' }, { token: undefined }])
      for (const authorization of ['Bearer secret', 'Bearer undefined', 'Bearer ']) {
        const handler = createStatusHandler(aggregator, options)
        const init = { method: 'POST', headers: { authorization }, body: '{}' }
        expect((await handler(new Request('http://x.example/', init))).status).toBe(401)
      }
    const handler = createStatusHandler(aggregator, { token: 'secret' })
    const body = JSON.stringify({ action: 'check-health' })
    const request = new Request('http://x.example/', { method: 'POST', headers: authorized, body })
    expect((await handler(request)).status).toBe(200)
    expect(a.calls.supported).toBe(1)
  })

  it.each([
    ['nonsense', 'the body is not JSON'],
    [
      { action: 'restart' },
      'action: "restart" is not one; there are check-health, enable, disable, close-settlement',
    ],
    [{}, 'action: undefined is not one'],
    [{ action: 'enable' }, 'facilitator: expected the id of the one to enable'],
    [{ action: 'enable', facilitator: 'z' }, 'there is no facilitator "z"; there are a, b'],
    [{ action: 'check-health', facilitator: 'z' }, 'there is no facilitator "z"'],
    [{ action: 'enable', facilitator: 1 }, 'facilitator: expected an id'],
    [
      { action: 'enable', facilitators: 'a' },
      'facilitators is not a field; there are action, facilitator and key',
    ],
    [{ action: 'close-settlement' }, 'key: expected the key of an unresolved settlement'],
    [{ action: 'close-settlement', key: 7 }, 'key: expected a text'],
  ])('told clearly when it is wrong: %j', async (body, message) => {
    const answer = await act(guarded(), body)
    expect(answer.status).toBe(400)
    expect(answer.body.message).toContain(message)
  })

  it('and nothing else', async () => {
    const answer = await ask(guarded(), 'DELETE', '/api/facilitator-status', { headers: authorized })
    expect(answer).toMatchObject({ status: 405 })
    expect(answer.headers.get('allow')).toBe('GET, POST')
  })
})

describe("upstream's client at the gateway", () => {
  /** Upstream's client has no `fetch` of its own: the global one is led to the gateway meanwhile. */
  async function through<T>(
    gateway: Gateway,
    call: (client: HTTPFacilitatorClient) => Promise<T>,
  ): Promise<T> {
    const spy = vi
      .spyOn(globalThis, 'fetch')
      .mockImplementation(async (input, init) => gateway.fetch(new Request(input as string, init)))
    try {
      return await call(new HTTPFacilitatorClient({ url: 'http://gateway.example' }))
    } finally {
      spy.mockRestore()
    }
  }

  it('takes doubt for "the facilitator could not answer"', async () => {
    a.settleAnswer = httpError(504)
    const doubt = through(open(), client => client.settle(payload(), requirements()))
    await expect(doubt).rejects.toMatchObject({ name: 'FacilitatorResponseError' })
    await expect(doubt).rejects.toThrow('SETTLEMENT_INDETERMINATE')
  })

  it('sees no verdict where nobody gave one', async () => {
    a.verifyAnswer = refused()
    b.verifyAnswer = refused()
    const failure = await through(open({}, { retries: 0 }), client =>
      client.verify(payload(), requirements()),
    ).catch((error: unknown) => error)
    expect(failure).not.toBeInstanceOf(VerifyError)
    expect(failure).not.toBeInstanceOf(SettleError)
    expect(String(failure)).toContain('(502)')
  })

  it('waits no longer than the aggregator for a facilitator that hangs', async () => {
    a.settleAnswer = () => hanging()
    const doubt = through(open({}, { timeoutMs: 20 }), client => client.settle(payload(), requirements()))
    await expect(doubt).rejects.toMatchObject({ name: 'FacilitatorResponseError' })
  })
})
