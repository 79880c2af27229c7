import { createHash } from 'node:crypto'
import { connect } from 'node:net'
import { describe, expect, it, vi } from 'vitest'
import { RateLimit } from '../../src/http/rate-limit.ts'
import { MemoryLedger } from '../../src/index.ts'
import { listen } from '../../src/node/index.ts'
import { httpError, newPayload, refused, settled } from './builders.ts'
import {
  a,
  aggregator,
  b,
  bearer,
  type Gateway,
  get,
  open,
  pay,
  payment,
  post,
  settle,
  verify,
} from './gateway-harness.ts'

/** What `@hono/node-server` hands over with a request. */
const connection = (remoteAddress: string) => ({ incoming: { socket: { remoteAddress } } })
const atLoopback = connection('127.0.0.1')

describe("a web page cannot use a gateway on its visitor's machine", () => {
  const nothingAsked = () => expect(a.calls).toMatchObject({ verify: 0, settle: 0 })

  it.each(['text/plain', 'application/x-www-form-urlencoded', 'application/jsonp', ''])(
    'by a post of %j, which needs no permission',
    async type => {
      const gateway = open()
      for (const operation of ['/verify', '/settle'])
        expect(await post(gateway, operation, payment, { 'content-type': type })).toMatchObject({
          status: 415,
          body: {
            error: 'UNSUPPORTED_MEDIA_TYPE',
            message: 'send the body with Content-Type: application/json',
          },
        })
      nothingAsked()
      expect(
        await verify(gateway, payment, { 'content-type': 'Application/JSON; charset=utf-8' }),
      ).toMatchObject({
        status: 200,
      })
    },
  )

  it.each([
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site', origin: 'http://gateway.example' },
  ])('of another site: %j', async headers => {
    const gateway = open()
    for (const path of ['/settle', '/verify'])
      expect(await post(gateway, path, payment, headers)).toMatchObject({
        status: 403,
        body: { error: 'CROSS_SITE' },
      })
    for (const path of ['/supported', '/api/facilitator-status', '/readyz'])
      expect(await get(gateway, path, headers)).toMatchObject({ status: 403 })
    nothingAsked()
  })

  it('though a browser may open it, and a page of its own may ask', async () => {
    const gateway = open({ allowedHosts: ['shop.example', 'gateway.example'] })
    for (const headers of [
      { 'sec-fetch-site': 'none' },
      { 'sec-fetch-site': 'same-origin', origin: 'https://shop.example' },
      { origin: 'https://gateway.example' },
      { origin: 'https://shop.example' },
    ])
      expect(await get(gateway, '/supported', headers)).toMatchObject({ status: 200 })
  })

  it('whose name was made to lead there', async () => {
    const gateway = open()
    for (const host of ['evil.example', 'evil.example:4020', 'localhost.evil.example', '10.0.0.1'])
      expect(await settle(gateway, payment, { host }, atLoopback)).toMatchObject({
        status: 403,
        body: {
          error: 'HOST_NOT_ALLOWED',
          message: expect.stringContaining(
            'add the name to allowedHosts (FACILITATOR_GATEWAY_ALLOWED_HOSTS)',
          ),
        },
      })
    nothingAsked()
    for (const host of ['localhost:4020', '127.0.0.1', '[::1]:4020', 'shop.localhost'])
      expect(await get(gateway, '/supported', { host }, atLoopback)).toMatchObject({ status: 200 })
    for (const env of [
      connection('::ffff:127.0.0.1'),
      connection('::1'),
      { requestIP: () => ({ address: '127.0.0.1' }) }, // Bun
      { remoteAddr: { transport: 'tcp', hostname: '127.0.0.1' } }, // Deno
    ])
      expect(await get(gateway, '/supported', { host: 'evil.example' }, env)).toMatchObject({ status: 403 })
  })

  it('while a proxy of its owner asks by the names that are allowed', async () => {
    const gateway = open({ allowedHosts: ['Pay.Example'] })
    for (const host of ['pay.example', 'PAY.example:443', 'localhost'])
      expect(await get(gateway, '/supported', { host }, atLoopback)).toMatchObject({ status: 200 })
    expect(await get(gateway, '/supported', { host: 'evil.example' }, atLoopback)).toMatchObject({
      status: 403,
    })
    expect(await get(gateway, '/supported', { host: 'evil.example' })).toMatchObject({ status: 403 })
  })

  it('while a gateway with tokens, or one that others reach, is asked by any name', async () => {
    const host = 'pay.example'
    const guarded = open({ tokens: ['t'] })
    expect(await get(guarded, '/supported', { host, ...bearer('t') }, atLoopback)).toMatchObject({
      status: 200,
    })
    const remote = connection('10.0.0.9')
    expect(await get(open(), '/supported', { host }, remote)).toMatchObject({ status: 200 })
  })

  it('over real HTTP either', async () => {
    const server = await listen(open(), { port: 0 })
    const { port } = new URL(server.url)
    const body = JSON.stringify(payment)
    const settleAs = (host: string, type = 'application/json') =>
      raw(
        server.url,
        `POST /settle HTTP/1.1\r\nhost: ${host}\r\ncontent-type: ${type}\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
      )
    expect(await settleAs(`evil.example:${port}`)).toBe(403)
    expect(await settleAs(`127.0.0.1:${port}`, 'text/plain')).toBe(415)
    nothingAsked()
    expect(await settleAs(`127.0.0.1:${port}`)).toBe(200)
    await server.close()
  })
})

/** The status that is answered to bytes sent as they are. */
function raw(url: string, request: string): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = connect(Number(new URL(url).port), '127.0.0.1', () => socket.write(request))
    socket.on('error', reject)
    socket.on('data', answer => {
      resolve(Number(/^HTTP\/1\.1 (\d+)/.exec(String(answer))?.[1]))
      socket.destroy()
    })
  })
}

describe('a request that a proxy in front could read otherwise is refused', () => {
  it('with two hosts', async () => {
    for (const host of ['localhost, evil.example', 'localhost@evil.example', 'localhost/', '['])
      expect(await get(open(), '/supported', { host })).toMatchObject({
        status: 400,
        body: { message: 'Host: expected one host' },
      })
    const server = await listen(open(), { port: 0 })
    const { host } = new URL(server.url)
    const hosts = (...names: string[]) => names.map(name => `Host: ${name}\r\n`).join('')
    expect(await raw(server.url, `GET /supported HTTP/1.1\r\n${hosts(host)}\r\n`)).toBe(200)
    expect(await raw(server.url, `GET /supported HTTP/1.1\r\n${hosts(host, 'evil.example')}\r\n`)).toBe(400)
    expect(await raw(server.url, `GET /supported HTTP/1.1\r\n${hosts(host, host)}\r\n`)).toBe(400)
    await server.close()
  })

  it.each(['/public/../supported', '/./supported', '/%73upported', '/public/%2e%2e/supported', '/a%2fb'])(
    'with the path %s',
    async path => {
      const server = await listen(open(), { port: 0 })
      const { host } = new URL(server.url)
      expect(await raw(server.url, `GET ${path} HTTP/1.1\r\nHost: ${host}\r\n\r\n`)).toBe(400)
      await server.close()
    },
  )

  it('but not for what its query says, or for a mount whose name is not ASCII', async () => {
    const gateway = open({ basePath: '/kasse-für-alle' })
    expect(await get(gateway, '/kasse-für-alle/supported?at=%2e%2e/..')).toMatchObject({ status: 200 })
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

  it('is had by a token whose digest alone is known to the gateway', async () => {
    const digest = createHash('sha256').update('first').digest('hex')
    const gateway = open({ tokens: [`sha256:${digest}`, { token: `sha256:${digest.replace(/./g, '0')}` }] })
    expect(await get(gateway, '/supported', bearer('first'))).toMatchObject({ status: 200 })
    for (const token of [`sha256:${digest}`, digest, 'second'])
      expect(await get(gateway, '/supported', bearer(token))).toMatchObject({ status: 401 })
  })

  it.each([
    [['sha256:abc'], 'expected 64 hexadecimal digits after "sha256:"'],
    [[{ token: 'secret-1', role: 'root' }], '"root" is not a role; there are pay, read, admin'],
    [[{ token: 'secret-1', name: 'shop\n1' }], 'expected a name of 1 to 64 letters'],
    [['secret-1', { token: 'secret-1', role: 'admin' }], 'two have the same token'],
    [
      [
        { token: 'secret-1', name: 'x' },
        { token: 'secret-2', name: 'x' },
      ],
      'two have the same name',
    ],
    [['secret-1 and more'], 'a token has blanks'],
    [[{ role: 'pay' }], 'expected a list of texts that are not empty'],
  ])('is not given by tokens that are wrong: %j', (tokens, message) => {
    const opening = () => open({ tokens: tokens as [] })
    expect(opening).toThrow(`tokens: ${message}`)
    expect(opening).not.toThrow('secret-1')
  })
})

describe('what a token may do depends on its role', () => {
  const tokens = [
    { token: 'a', role: 'pay', name: 'shop-a' },
    { token: 'b', role: 'pay', name: 'shop-b' },
    { token: 'r', role: 'read', name: 'monitor' },
    { token: 'root', role: 'admin', name: 'ops' },
  ] as const
  const status = '/api/facilitator-status'
  const act = (gateway: Gateway, token: string, body: object) => post(gateway, status, body, bearer(token))

  it.each([
    ['a', { verify: 200, settle: 200, supported: 200, list: 200, see: 403, act: 403 }],
    ['r', { verify: 403, settle: 403, supported: 403, list: 403, see: 200, act: 403 }],
    ['root', { verify: 200, settle: 200, supported: 200, list: 200, see: 200, act: 200 }],
    ['wrong', { verify: 401, settle: 401, supported: 401, list: 401, see: 401, act: 401 }],
  ])('%s: %j', async (token, expected) => {
    Object.assign(a, { list: async () => ({ x402Version: 2, items: [] }) })
    const gateway = open({ tokens })
    const headers = bearer(token)
    const answers = {
      verify: await verify(gateway, payment, headers),
      settle: await settle(gateway, payment, headers),
      supported: await get(gateway, '/supported', headers),
      list: await get(gateway, '/discovery/resources', headers),
      see: await get(gateway, status, headers),
      act: await act(gateway, token, { action: 'check-health' }),
    }
    expect(Object.entries(answers).map(([what, answer]) => [what, answer.status])).toEqual(
      Object.entries(expected),
    )
  })

  it('a shop can neither close the settlement of another one nor disable its facilitator', async () => {
    a.settleAnswer = httpError(502)
    const gateway = open({ tokens })
    await settle(gateway, payment, bearer('a'))
    const [left] = await aggregator.getUnresolvedSettlements()
    for (const token of ['b', 'a', 'r']) {
      expect(await act(gateway, token, { action: 'close-settlement', key: left?.key })).toMatchObject({
        status: 403,
        body: { error: 'FORBIDDEN', message: expect.stringContaining('this needs one with the role admin') },
      })
      expect(await act(gateway, token, { action: 'disable', facilitator: 'a' })).toMatchObject({
        status: 403,
      })
    }
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    expect(aggregator.getConfig().facilitators.every(({ enabled }) => enabled)).toBe(true)
    expect(await act(gateway, 'root', { action: 'close-settlement', key: left?.key })).toMatchObject({
      body: { isClosed: true },
    })
  })

  it('without tokens everybody may pay and read, and nobody is an administrator', async () => {
    const gateway = open()
    expect(await settle(gateway)).toMatchObject({ status: 200 })
    expect(await get(gateway, status)).toMatchObject({ status: 200 })
    expect(await post(gateway, status, { action: 'check-health' })).toMatchObject({
      status: 401,
      body: { message: expect.stringContaining('give it one (FACILITATOR_GATEWAY_ADMIN_TOKEN') },
    })
  })

  it("a shop does not get another shop's idempotent answer, and cannot push it out", async () => {
    const gateway = open({ tokens })
    const key = { 'idempotency-key': 'k' }
    await settle(gateway, payment, { ...key, ...bearer('a') })
    expect(await settle(gateway, payment, { ...key, ...bearer('b') })).toMatchObject({
      body: { success: false, errorReason: 'duplicate_settlement' },
    })
    vi.spyOn(aggregator, 'settle').mockResolvedValue(settled)
    for (let i = 0; i < 10_001; i++)
      await settle(gateway, payment, { 'idempotency-key': `${i}`, ...bearer('b') })
    expect(aggregator.settle).toHaveBeenCalledTimes(10_001)
    await settle(gateway, payment, { ...key, ...bearer('a') })
    expect(aggregator.settle).toHaveBeenCalledTimes(10_001)
  }, 30_000)

  it('what an administrator does is logged with the name of the token, never with the token', async () => {
    a.settleAnswer = httpError(502)
    const gateway = open({ tokens: [{ token: 'secret-of-ops', role: 'admin', name: 'ops' }] })
    await settle(gateway, payment, bearer('secret-of-ops'))
    const [left] = await aggregator.getUnresolvedSettlements()
    for (const action of [
      { action: 'check-health', facilitator: 'b' },
      { action: 'disable', facilitator: 'b' },
      { action: 'enable', facilitator: 'b' },
      { action: 'close-settlement', key: left?.key },
      { action: 'close-settlement', key: left?.key },
    ])
      await act(gateway, 'secret-of-ops', action)
    await act(gateway, 'secret-of-ops', { action: 'check-health' })
    await act(gateway, 'secret-of-ops', { action: 'check-health', facilitator: 'nobody' })
    const logged = aggregator.getRecentLogs().filter(({ by }) => by === 'ops')
    expect(logged.map(({ level, event, message }) => [level, event, message])).toEqual([
      ['warn', 'checked', 'b was checked by ops'],
      ['warn', 'disabled', 'b was disabled by ops'],
      ['warn', 'enabled', 'b was enabled by ops'],
      ['warn', 'closed', `${left?.key} was closed by ops`],
      ['warn', 'checked', 'every facilitator was checked by ops'],
    ])
    expect(JSON.stringify(aggregator.getRecentLogs())).not.toContain('secret-of-ops')
  })

  it('what is done in process is logged too', async () => {
    a.settleAnswer = httpError(502)
    const gateway = open()
    await settle(gateway)
    const [left] = await aggregator.getUnresolvedSettlements()
    aggregator.setFacilitatorEnabled('b', false)
    await aggregator.closeSettlement(left?.key ?? '')
    const messages = aggregator.getRecentLogs().map(({ message }) => message)
    expect(messages).toEqual(expect.arrayContaining(['b was disabled', `${left?.key} was closed`]))
  })
})

describe('requests', () => {
  it('are limited per token where a limit is set, with the time to come back', async () => {
    vi.useFakeTimers()
    const gateway = open({ tokens: ['one', 'two'], rateLimit: { perSecond: 0.5, burst: 2 } })
    const as = (token: string) => get(gateway, '/supported', { authorization: `Bearer ${token}` })
    expect([(await as('one')).status, (await as('one')).status]).toEqual([200, 200])
    const limited = await as('one')
    expect(limited).toMatchObject({
      status: 429,
      body: {
        error: 'RATE_LIMITED',
        message: 'too many requests: this gateway takes 0.5 requests a second (2 at once) for each client',
      },
    })
    expect(limited.headers.get('retry-after')).toBe('2')
    expect((await as('two')).status).toBe(200)
    vi.advanceTimersByTime(2_000)
    expect((await as('one')).status).toBe(200)
    expect((await as('one')).status).toBe(429)
  })

  it('without the token that is needed are limited by their address', async () => {
    const gateway = open({ tokens: ['one'], rateLimit: { perSecond: 1, burst: 1 } })
    const from = (remoteAddress: string) =>
      gateway.fetch(new Request('http://gateway.example/supported'), {
        incoming: { socket: { remoteAddress } },
      })
    expect((await from('10.0.0.1')).status).toBe(401)
    expect((await from('10.0.0.1')).status).toBe(429)
    expect((await from('10.0.0.2')).status).toBe(401)
  })

  it('are not limited for who has a token, unless a limit is set', async () => {
    const gateway = open({ tokens: ['busy'] })
    const statuses = new Set<number>()
    for (let i = 0; i < 1_000; i++) statuses.add((await get(gateway, '/supported', bearer('busy'))).status)
    expect([...statuses]).toEqual([200])
    const stranger = await Promise.all(
      Array.from({ length: 600 }, () => get(gateway, '/supported', bearer('x'))),
    )
    expect(new Set(stranger.map(({ status }) => status))).toEqual(new Set([401, 429]))
  })

  it('to settle what this gateway has found valid are never refused for the rate, at 300 purchases a second', async () => {
    vi.useFakeTimers()
    const gateway = open({ statusPath: false })
    const from = connection('10.0.0.9')
    const refusedAt = { verify: 0, settle: 0 }
    for (let i = 0; i < 1_200; i++) {
      if (i % 3 === 0) vi.advanceTimersByTime(10)
      const purchase = pay(newPayload())
      if ((await verify(gateway, purchase, {}, from)).status === 429) refusedAt.verify++
      else if ((await settle(gateway, purchase, {}, from)).status !== 200) refusedAt.settle++
    }
    expect(refusedAt.verify).toBeGreaterThan(0)
    expect(refusedAt.settle).toBe(0)
  }, 30_000)

  it('to settle what was not verified, was refused, or was verified long ago are limited as all others', async () => {
    vi.useFakeTimers()
    const gateway = open({ rateLimit: { perSecond: 0.001, burst: 2 } })
    const verified = pay(newPayload())
    await verify(gateway, verified)
    a.verifyAnswer = { isValid: false, invalidReason: 'insufficient_funds' }
    const invalid = pay(newPayload())
    await verify(gateway, invalid)
    for (const other of [
      invalid,
      pay(newPayload()),
      pay({ ...verified.paymentPayload, extensions: {} }),
      '{',
      '',
    ])
      expect(await settle(gateway, other)).toMatchObject({ status: 429 })
    vi.advanceTimersByTime(15 * 60_000)
    expect(await settle(gateway, verified)).toMatchObject({ status: 429 })
  })

  it('to settle one payment again and again come to an end', async () => {
    const gateway = open({ rateLimit: { perSecond: 0.001, burst: 1 } })
    await verify(gateway)
    const statuses: number[] = []
    for (let i = 0; i < 21; i++) statuses.push((await settle(gateway)).status)
    expect(statuses).toEqual([...Array.from({ length: 20 }, () => 200), 429])
  })

  it('to settle are let through by a payment of any depth, without a fault', async () => {
    const gateway = open({ rateLimit: { perSecond: 0.001, burst: 1 } })
    await verify(gateway)
    const deep = JSON.stringify(payment).replace(
      '"payload":{',
      `"payload":{"deep":${'['.repeat(20_000)}${']'.repeat(20_000)},`,
    )
    expect(await settle(gateway, deep)).toMatchObject({ status: 429 })
  })

  it.each([
    [['2001:db8:1:2::1', '2001:db8:1:2:ffff::9'], 'one client'],
    [['2001:db8:1:2::1', '2001:db8:1:3::1'], 'two clients'],
    [['::ffff:10.0.0.1', '10.0.0.1'], 'one client'],
    [['10.0.0.1', '10.0.0.2'], 'two clients'],
    [['nonsense', ''], 'one client'],
  ])('from %j are those of %s', async (addresses, whose) => {
    const gateway = open({ rateLimit: { perSecond: 0.001, burst: 1 } })
    const statuses: number[] = []
    for (const address of addresses)
      statuses.push((await get(gateway, '/supported', {}, connection(address))).status)
    expect(statuses).toEqual(whose === 'one client' ? [200, 429] : [200, 200])
  })

  it.each([
    [
      'of a proxy that is trusted, those of its client',
      '10.1.2.3',
      ['203.0.113.1', '203.0.113.2'],
      [200, 200],
    ],
    [
      'of one of several proxies too',
      '10.1.2.3',
      ['203.0.113.1, fd00::7', '203.0.113.2, [fd00::8]:99'],
      [200, 200],
    ],
    [
      'of who writes the header himself, his own',
      '10.1.2.3',
      ['1.1.1.1, 203.0.113.1', '2.2.2.2, 203.0.113.1'],
      [200, 429],
    ],
    ['of anybody else, his own', '192.0.2.1', ['203.0.113.1', '203.0.113.2'], [200, 429]],
    ['of a proxy that does not say whose', '10.1.2.3', ['', 'unknown'], [200, 429]],
  ])('are, %s', async (_, peer, forwarded, expected) => {
    const gateway = open({
      rateLimit: { perSecond: 0.001, burst: 1 },
      trustedProxies: ['10.0.0.0/8', 'fd00::/8', '192.0.2.9'],
    })
    const statuses: number[] = []
    for (const header of forwarded)
      statuses.push(
        (await get(gateway, '/supported', { 'x-forwarded-for': header }, connection(peer))).status,
      )
    expect(statuses).toEqual(expected)
  })

  it('are those of the address that a header tells only where that is asked for', async () => {
    const rateLimit = { perSecond: 0.001, burst: 1 }
    const ask2 = async (gateway: Gateway) => [
      (await get(gateway, '/supported', { 'cf-connecting-ip': '203.0.113.1' })).status,
      (await get(gateway, '/supported', { 'cf-connecting-ip': '203.0.113.2' })).status,
    ]
    expect(await ask2(open({ rateLimit }))).toEqual([200, 429])
    const connectionAddress = (request: Request) => request.headers.get('cf-connecting-ip')
    expect(await ask2(open({ rateLimit, connectionAddress }))).toEqual([200, 200])
  })

  it('are counted for a bounded number of clients; the longest unseen is forgotten', () => {
    const limit = new RateLimit({ perSecond: 0.001, burst: 1 })
    expect([limit.take('first'), limit.take('first') > 0]).toEqual([0, true])
    for (let i = 0; i < 10_000; i++) limit.take(`${i}`)
    expect([limit.take('first'), limit.take('9999') > 0]).toEqual([0, true])
  })

  it.each([
    [{}, '100 requests a second (500 at once) for each client'],
    [{ tokens: ['t'] }, '100 requests a second (500 at once) for an address without a token'],
    [{ tokens: ['t'], rateLimit: { perSecond: 5 } }, '5 requests a second (25 at once) for each client'],
    [{ rateLimit: false }, 'no limit of requests'],
  ] as const)('are limited as the gateway says: %j', (options, said) => {
    expect(open(options).rateLimit).toBe(said)
  })
})

describe('a payment that the gateway has found valid is not refused in a way that makes a 402', () => {
  it('when the gateway drains', async () => {
    const gateway = open()
    await verify(gateway)
    gateway.drain()
    expect(await settle(gateway)).toMatchObject({ status: 200, body: settled })
  })

  it('when nobody settles it, or nothing can be recorded', async () => {
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    const gateway = open({}, { retries: 0 })
    await verify(gateway)
    const answer = await settle(gateway)
    expect(answer).toMatchObject({ status: 200, body: { error: 'ALL_FACILITATORS_FAILED' } })
    expect(answer.body).not.toHaveProperty('success')
    const full = open({}, { settlement: { ledger: new MemoryLedger({ maxEntries: 1 }) } })
    const other = pay(newPayload())
    await verify(full, other)
    await settle(full)
    expect(await settle(full, other)).toMatchObject({ status: 200, body: { error: 'LEDGER_FULL' } })
  })

  it('when the aggregator has stopped', async () => {
    const gateway = open()
    await verify(gateway)
    await aggregator.stop()
    expect(await settle(gateway)).toMatchObject({ status: 200, body: { error: 'AGGREGATOR_STOPPED' } })
  })
})

describe('draining', () => {
  it('ends access, but for what is in flight', async () => {
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
