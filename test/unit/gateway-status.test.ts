import { describe, expect, it, vi } from 'vitest'
import { createStatusHandler } from '../../src/http/index.ts'
import { MemoryLedger } from '../../src/index.ts'
import { httpError, ledgerWith, settled } from './builders.ts'
import {
  a,
  aggregator,
  ask,
  b,
  bearer,
  type Gateway,
  get,
  json,
  open,
  pay,
  post,
  settle,
} from './gateway-harness.ts'

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
      unresolvedTotal: 0,
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
    const ledger = ledgerWith(new MemoryLedger(), { list: () => Promise.reject(new Error('db down')) })
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
    [
      '?inlcude=health',
      'inlcude is not a parameter; there are include, logLimit, settlementLimit, settlementsAfter',
    ],
    ['?include=helth', 'include: "helth" is not a part; there are health, stats, logs, config, settlements'],
    ['?logLimit=-1', 'logLimit: expected a whole number from 0, got "-1"'],
    ['?settlementLimit=1001', 'settlementLimit: expected a whole number from 0 to 1000, got "1001"'],
  ])('refuses %s', async (query, message) => {
    expect(await status(query)).toMatchObject({ status: 400, body: { error: 'INVALID_REQUEST', message } })
  })

  it('shows unresolved settlements by the page, so that 50,000 of them are no answer of 18 MiB', async () => {
    const gateway = open()
    const at = (key: string) => ({ key, network: 'eip155:8453', payTo: '0x2', asset: '0x1', amount: '1' })
    const all = ['d', 'b', 'a', 'e', 'c'].map(at)
    const unresolved = vi.spyOn(aggregator, 'getUnresolvedSettlements').mockImplementation(async () => all)
    const page = async (query: string) => {
      const { body } = await get(gateway, `/api/facilitator-status?include=settlements${query}`)
      const keys = body.unresolvedSettlements.map(({ key }: { key: string }) => key).join('')
      return [keys, body.nextSettlementsAfter, body.unresolvedTotal]
    }
    expect(await page('&settlementLimit=2')).toEqual(['ab', 'b', 5])
    // What is resolved between two pages moves no other settlement past the reader.
    unresolved.mockImplementation(async () => all.filter(({ key }) => key !== 'a' && key !== 'b'))
    expect(await page('&settlementLimit=2&settlementsAfter=b')).toEqual(['cd', 'd', 3])
    expect(await page('&settlementLimit=2&settlementsAfter=d')).toEqual(['e', undefined, 3])
    expect(await page('&settlementLimit=0')).toEqual(['', undefined, 3])
    unresolved.mockImplementation(async () => Array.from({ length: 50_000 }, (_, i) => at(`${i}`)))
    const { body } = await get(gateway, '/api/facilitator-status')
    expect([body.unresolvedSettlements.length, body.unresolvedTotal]).toEqual([100, 50_000])
  })

  it('leaves out the lanes that no attempt has used', async () => {
    const gateway = open()
    await settle(gateway)
    const { body } = await get(gateway, '/api/facilitator-status?include=health')
    const lanes = body.health.facilitators.map(
      (facilitator: { id: string; lanes: { operation: string }[] }) => [
        facilitator.id,
        facilitator.lanes.map(({ operation }) => operation),
      ],
    )
    expect(lanes).toEqual([
      ['a', ['settle']],
      ['b', []],
    ])
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
  const guarded = () => open({ tokens: [{ token: 'secret', role: 'admin' }] })

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
    expect(await act(gateway, { action: 'check-health' }, bearer('wrong'))).toMatchObject({ status: 401 })
  })

  it.each([
    ['nonsense', 'the body is not JSON'],
    [
      { action: 'restart' },
      'action: "restart" is not one; there are check-health, enable, disable, close-settlement',
    ],
    [{}, 'action: undefined is not one'],
    [{ action: 'enable' }, 'facilitator: expected the id of the one to enable'],
    [{ action: 'enable', facilitator: 'z' }, 'z is not a facilitator; there are a, b'],
    [{ action: 'check-health', facilitator: 'z' }, 'z is not a facilitator'],
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

describe('the status in an app of your own', () => {
  type Options = Parameters<typeof createStatusHandler>[1]
  async function request(options: Options, method: string, headers: Record<string, string> = {}) {
    open()
    const handler = createStatusHandler(aggregator, options)
    const init =
      method === 'POST'
        ? { method, headers: { ...json, ...headers }, body: '{"action":"check-health"}' }
        : { headers }
    return handler(new Request('http://shop.example/api/status', init))
  }
  const statusOf = async (...asked: Parameters<typeof request>) => (await request(...asked)).status

  it('is shown to nobody without its token', async () => {
    for (const options of [
      {},
      undefined,
      { token: 'other' },
      { token: '' },
      { token: undefined },
      { public: false },
    ])
      for (const method of ['GET', 'POST'])
        for (const authorization of ['', 'Bearer secret', 'Bearer undefined', 'Bearer '])
          expect(await statusOf(options, method, { authorization })).toBe(401)
    expect(a.calls.supported).toBe(0)
    const refused = await request({}, 'GET')
    expect(refused.headers.get('www-authenticate')).toBe('Bearer')
    expect(await refused.json()).toMatchObject({
      message: expect.stringContaining('set one (createStatusHandler(aggregator, { token }))'),
    })
  })

  it('is shown, and changed, by its token', async () => {
    expect(await statusOf({ token: 'secret' }, 'GET', bearer('secret'))).toBe(200)
    expect(await statusOf({ token: 'secret' }, 'POST', bearer('secret'))).toBe(200)
    expect(aggregator.getRecentLogs()).toContainEqual(
      expect.objectContaining({ event: 'checked', by: 'status' }),
    )
  })

  it('is shown to everybody where it is made public, and changed by nobody', async () => {
    expect(await statusOf({ public: true }, 'GET')).toBe(200)
    expect(await statusOf({ public: true }, 'POST')).toBe(401)
    expect(await statusOf({ public: true, token: 'secret' }, 'GET')).toBe(200)
    expect(await statusOf({ public: true, token: 'secret' }, 'POST')).toBe(401)
  })

  it("is for whom the app's own check lets in, by name", async () => {
    const isAuthorized = (asked: Request) => asked.headers.get('cookie') === 'session=1' && 'alice'
    const cookie = 'session=1'
    for (const method of ['GET', 'POST']) {
      expect(await statusOf({ isAuthorized }, method)).toBe(401)
      expect(await statusOf({ isAuthorized }, method, { cookie })).toBe(200)
    }
    expect(aggregator.getRecentLogs()).toContainEqual(
      expect.objectContaining({ message: 'every facilitator was checked by alice' }),
    )
  })

  it("is not changed by a page of another site with an operator's cookie", async () => {
    const isAuthorized = () => true
    expect(await statusOf({ isAuthorized }, 'POST', { origin: 'https://evil.example' })).toBe(403)
    expect(await statusOf({ isAuthorized }, 'POST', { 'sec-fetch-site': 'cross-site' })).toBe(403)
    expect(await statusOf({ isAuthorized }, 'POST', { 'content-type': 'text/plain' })).toBe(415)
    expect(await statusOf({ isAuthorized }, 'POST', { origin: 'http://shop.example' })).toBe(200)
  })

  it('refuses options that there are not', () => {
    open()
    const options = { tokens: ['secret'] }
    expect(() => createStatusHandler(aggregator, options as object)).toThrow(
      'createStatusHandler: tokens is not an option; there are token, isAuthorized, public',
    )
  })
})
