import { createServer, type IncomingMessage, type RequestListener, type ServerResponse } from 'node:http'
import { type AddressInfo, createServer as createTcpServer, type Server, type Socket } from 'node:net'
import { afterEach, describe, expect, it } from 'vitest'
import { attempt } from '../../src/facilitator/attempt.ts'
import {
  type AuthHeaders,
  type HttpClientOptions,
  httpFacilitatorClient,
} from '../../src/facilitator/http-client.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { readPayment } from '../../src/payment/payment.ts'
import { Alarms } from '../../src/runtime/clock.ts'
import { untyped } from '../untyped.ts'
import { payload, refusal, requirements, settled, supporting, valid } from './builders.ts'

const open: Server[] = []
const sockets = new Set<Socket>()

async function listen(server: Server): Promise<string> {
  open.push(server)
  server.on('connection', socket => {
    sockets.add(socket)
    socket.on('error', () => {})
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}
const serve = (answer: RequestListener) => listen(createServer(answer))
const serveJson = (body: unknown, status = 200, headers: Record<string, string> = {}) =>
  serve((_request, response) => response.writeHead(status, headers).end(JSON.stringify(body)))

afterEach(() => {
  for (const socket of sockets) socket.destroy()
  sockets.clear()
  for (const server of open.splice(0)) server.close()
})

type Tried = 'verify' | 'settle' | 'supported' | 'list'

async function outcomeAt(url: string, operation: Tried = 'settle', options: Partial<HttpClientOptions> = {}) {
  const client = httpFacilitatorClient({ url, ...options })
  const request = { payment: readPayment(payload(), requirements()) }
  return attempt(client, operation, request, 500, new Alarms())
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of request) body += chunk
  return body
}

describe('a request', () => {
  it('carries payment and version to the path of the operation', async () => {
    const seen: unknown[] = []
    const url = await serve(async (request, response) => {
      seen.push(
        request.method,
        request.url,
        request.headers['content-type'],
        JSON.parse(await bodyOf(request)),
      )
      response.end(JSON.stringify(valid))
    })
    expect(await outcomeAt(`${url}/base/`, 'verify')).toMatchObject({ kind: 'answered', response: valid })
    expect(seen).toEqual([
      'POST',
      '/base/verify',
      'application/json',
      { x402Version: 2, paymentPayload: payload(), paymentRequirements: requirements() },
    ])
  })

  it('writes a bigint as a string', async () => {
    let body = ''
    const url = await serve(async (request, response) => {
      body = await bodyOf(request)
      response.end(JSON.stringify(valid))
    })
    const big = payload({ payload: { value: 12345678901234567890n } })
    await httpFacilitatorClient({ url }).verify(big, requirements())
    expect(JSON.parse(body).paymentPayload.payload).toEqual({ value: '12345678901234567890' })
  })

  it('carries the headers of its operation, made afresh each time', async () => {
    const seen: unknown[] = []
    const url = await serve((request, response) => {
      seen.push([request.url, request.headers.authorization])
      const body = { '/verify': valid, '/settle': settled, '/supported': supporting() }[request.url ?? '']
      response.end(JSON.stringify(body ?? { items: [] }))
    })
    let token = 0
    const createAuthHeaders = async () => {
      const next = (operation: string) => ({ authorization: `${operation} ${++token}` })
      return { verify: next('v'), settle: next('s'), supported: next('u'), list: next('l') }
    }
    const client = httpFacilitatorClient({ url, createAuthHeaders })
    await client.verify(payload(), requirements())
    await client.settle(payload(), requirements())
    await client.getSupported()
    await client.list({ type: 'http', limit: 5 })
    expect(seen).toEqual([
      ['/verify', 'v 1'],
      ['/settle', 's 6'],
      ['/supported', 'u 11'],
      ['/discovery/resources?type=http&limit=5', 'l 16'],
    ])
  })

  it.each([
    [
      'throws',
      () => {
        throw new Error('no key file')
      },
      'createAuthHeaders threw: no key file',
    ],
    ['rejects', () => Promise.reject(new Error('vault sealed')), 'createAuthHeaders threw: vault sealed'],
    [
      'returns flat headers',
      () => untyped<AuthHeaders>({ authorization: 'x' }),
      /^createAuthHeaders must return headers keyed by operation/,
    ],
    [
      'returns nothing',
      () => untyped<AuthHeaders>(undefined),
      /^createAuthHeaders must return headers keyed by operation/,
    ],
    [
      'returns what HTTP does not allow',
      () => ({ settle: { authorization: 'a\nb' } }),
      /a header that HTTP forbids/,
    ],
  ])('is declined before it is sent when createAuthHeaders %s', async (_, createAuthHeaders, reason) => {
    let requests = 0
    const url = await serve((_request, response) => {
      requests++
      response.end()
    })
    const outcome = await outcomeAt(url, 'settle', { createAuthHeaders })
    expect(outcome).toMatchObject({
      kind: 'declined',
      cause: 'credentials',
      isUnsent: true,
      reason: expect.stringMatching(reason),
    })
    expect(requests).toBe(0)
  })

  it('that cannot be written as JSON is declined before it is sent', async () => {
    const client = httpFacilitatorClient({ url: 'http://127.0.0.1:1' })
    const circular: Record<string, unknown> = {}
    circular.self = circular
    const request = { payment: readPayment(payload({ payload: circular }), requirements()) }
    for (const operation of ['verify', 'settle'] as const)
      expect(await attempt(client, operation, request, 500, new Alarms())).toMatchObject({
        kind: 'declined',
        cause: 'request',
        isUnsent: true,
      })
  })

  it('whose credentials fail leaves the sale to the other facilitators', async () => {
    const [broken, working] = await Promise.all([serveJson(settled), serveJson(settled)])
    const aggregator = new FacilitatorAggregator({
      facilitators: [
        { id: 'broken', url: broken, createAuthHeaders: () => untyped({ authorization: 'flat' }) },
        { id: 'working', url: working },
      ],
      healthCheck: false,
    })
    expect(await aggregator.settle(payload(), requirements())).toEqual(settled)
    expect(aggregator.getRecentLogs().map(entry => entry.event)).toContain('credentials')
  })
})

describe('an answer without a protocol body', () => {
  const told = async (status: number, operation: Tried) => {
    const outcome = await outcomeAt(await serveJson({ error: 'no' }, status), operation)
    expect(outcome).not.toHaveProperty('isUnsent', true)
    if (outcome.kind === 'declined') expect(outcome.response).toBeUndefined()
    return outcome.kind === 'declined' ? outcome.cause : outcome.kind
  }

  it.each([
    [400, 'request', 'unknown'],
    [401, 'credentials', 'credentials'],
    [402, 'quota', 'unknown'],
    [403, 'credentials', 'credentials'],
    [404, 'address', 'address'],
    [405, 'address', 'address'],
    [408, 'trouble', 'unknown'],
    [409, 'request', 'unknown'],
    [410, 'address', 'address'],
    [413, 'request', 'request'],
    [414, 'request', 'request'],
    [431, 'request', 'request'],
    [415, 'request', 'request'],
    [422, 'request', 'unknown'],
    [425, 'trouble', 'unknown'],
    [429, 'rate-limit', 'rate-limit'],
    [500, 'unknown', 'unknown'],
    [502, 'unknown', 'unknown'],
    [503, 'unknown', 'unknown'],
    [504, 'unknown', 'unknown'],
  ])('under status %i: verify %s, settle %s', async (status, onVerify, onSettle) => {
    expect(await told(status, 'verify')).toBe(onVerify)
    expect(await told(status, 'settle')).toBe(onSettle)
    expect(await told(status, 'supported')).toBe(onVerify)
  })
})

describe('an answer', () => {
  it.each([
    [200, 'answered'],
    [400, 'answered'],
    [402, 'answered'],
  ])('with a verdict counts by its reason under status %i', async (status, kind) => {
    expect(await outcomeAt(await serveJson(refusal('insufficient_funds'), status))).toMatchObject({ kind })
  })

  it('may leave out transaction and network when it is a refusal, as version 1 facilitators do', async () => {
    const url = await serveJson({ success: false, errorReason: 'insufficient_funds' })
    expect(await outcomeAt(url)).toMatchObject({
      kind: 'answered',
      response: { success: false, transaction: '' },
    })
  })

  it('may have null for what is not there', async () => {
    const url = await serveJson({ isValid: true, invalidReason: null, payer: null })
    expect(await outcomeAt(url, 'verify')).toEqual({ kind: 'answered', response: { isValid: true } })
  })

  it('keeps what extensions answer in the header', async () => {
    const header = Buffer.from(JSON.stringify({ bazaar: { status: 'ok' } })).toString('base64')
    const url = await serveJson(settled, 200, { 'extension-responses': header })
    expect(await outcomeAt(url)).toMatchObject({
      response: { extensionResponses: { bazaar: { status: 'ok' } } },
    })
    const garbage = await serveJson(settled, 200, { 'extension-responses': '%%%' })
    expect(await outcomeAt(garbage)).toMatchObject({ kind: 'answered', response: settled })
  })

  it.each(['<html>', '', '[]', '{"success":true}', '{"success":"yes","transaction":"0x"}'])(
    'of %j is not the protocol: unknown',
    async body => {
      expect(await outcomeAt(await serve((_request, response) => response.end(body)))).toEqual({
        kind: 'unknown',
        reason: "an answer that is not the protocol's",
      })
    },
  )

  it('of more than 1 MiB is not read to its end: unknown', async () => {
    const url = await serve((_request, response) => {
      const chunk = 'x'.repeat(64 * 1024)
      const more = () => {
        while (!response.destroyed && response.write(chunk));
        response.once('drain', more)
      }
      more()
    })
    expect(await outcomeAt(url)).toMatchObject({
      kind: 'unknown',
      reason: 'an answer of more than 1048576 bytes',
    })
  })

  it.each([
    ['3', 3_000],
    [new Date(Date.now() + 3_600_000).toUTCString(), 3_600_000],
    ['soon', undefined],
  ])('429 says when to come back: %s', async (retryAfter, expected) => {
    const asRefusal = { success: false, errorReason: 'slow down', transaction: '', network: 'x' }
    for (const body of ['slow down', asRefusal]) {
      const outcome = await outcomeAt(await serveJson(body, 429, { 'retry-after': retryAfter }))
      expect(outcome).toMatchObject({ kind: 'declined', cause: 'rate-limit' })
      const ms = 'retryAfterMs' in outcome ? outcome.retryAfterMs : undefined
      if (expected === undefined) expect(ms).toBeUndefined()
      else expect(Math.abs((ms ?? 0) - expected)).toBeLessThan(5_000)
    }
  })
})

describe('a redirect', () => {
  it.each([301, 302, 307, 308])(
    '%i to another origin is not followed, with or without credentials',
    async status => {
      let arrived = 0
      const elsewhere = await serve((_request, response) => {
        arrived++
        response.end(JSON.stringify(settled))
      })
      const url = await serveJson('', status, { location: `${elsewhere}/settle` })
      expect(await outcomeAt(url)).toMatchObject({
        kind: 'declined',
        cause: 'address',
        reason: expect.stringContaining('set url'),
      })
      expect(arrived).toBe(0)
    },
  )

  it('303 is the answer to a settle that was processed: unknown, and not followed', async () => {
    let arrived = 0
    const url = await serve((request, response) => {
      arrived++
      if (request.url === '/settle') response.writeHead(303, { location: '/receipt' })
      response.end(JSON.stringify(settled))
    })
    expect(await outcomeAt(url)).toMatchObject({ kind: 'unknown' })
    expect(arrived).toBe(1)
  })

  it('within the origin is followed where it keeps the method, credentials included', async () => {
    const seen: unknown[] = []
    const url = await serve((request, response) => {
      seen.push([request.method, request.url, request.headers.authorization])
      if (request.url === '/settle') response.writeHead(308, { location: '/v2/settle' }).end()
      else response.end(JSON.stringify(settled))
    })
    const createAuthHeaders = () => ({ settle: { authorization: 'key' } })
    expect(await outcomeAt(url, 'settle', { createAuthHeaders })).toMatchObject({ kind: 'answered' })
    expect(seen).toEqual([
      ['POST', '/settle', 'key'],
      ['POST', '/v2/settle', 'key'],
    ])
  })

  it('in a circle ends', async () => {
    const url = await serveJson('', 307, { location: '/settle' })
    expect(await outcomeAt(url)).toMatchObject({ kind: 'declined', cause: 'address' })
  })
})

describe('a connection', () => {
  it('that is refused is unreachable', async () => {
    const url = await serveJson(settled)
    await new Promise(resolve => open.splice(0)[0]?.close(resolve))
    expect(await outcomeAt(url)).toEqual({ kind: 'unreachable', reason: 'ECONNREFUSED' })
  })

  it('to a host that does not exist is unreachable', async () => {
    expect(await outcomeAt('http://facilitator.invalid')).toMatchObject({ kind: 'unreachable' })
  })

  it('that speaks no TLS where TLS was expected is unreachable', async () => {
    const url = await serveJson(settled)
    expect(await outcomeAt(url.replace('http:', 'https:'))).toMatchObject({
      kind: 'unreachable',
      reason: 'ERR_SSL_WRONG_VERSION_NUMBER',
    })
  })

  it.each([
    ['reset', (socket: Socket) => socket.resetAndDestroy()],
    ['closed', (socket: Socket) => socket.end()],
  ])('that is %s before an answer is unknown', async (_, end) => {
    const url = await listen(createTcpServer(socket => socket.once('data', () => end(socket))))
    expect(await outcomeAt(url)).toMatchObject({ kind: 'unknown' })
  })

  it('that is closed in the middle of an answer is unknown', async () => {
    const url = await serve((_request: IncomingMessage, response: ServerResponse) => {
      response.writeHead(200, { 'content-length': '500' })
      response.write('{"success":true', () => response.destroy())
    })
    expect(await outcomeAt(url)).toMatchObject({
      kind: 'unknown',
      reason: expect.stringContaining('cut off'),
    })
  })

  it.each([
    ['no answer', () => {}],
    ['half an answer', (response: ServerResponse) => response.write('{')],
  ])('with %s in time is unknown, and closed', async (_, begin) => {
    let closed = () => {}
    const isClosed = new Promise<void>(resolve => (closed = resolve))
    const url = await serve((request, response) => {
      begin(response)
      request.socket.on('close', closed)
    })
    expect(await outcomeAt(url)).toMatchObject({
      kind: 'unknown',
      timedOut: true,
      reason: 'no answer within 500 ms',
    })
    await isClosed
  })
})

describe('list', () => {
  it('asks the facilitators in order until one answers', async () => {
    const resources = {
      x402Version: 2,
      items: [{ resource: 'https://shop.example' }],
      pagination: { limit: 1, offset: 0, total: 1 },
    }
    const [without, withList] = await Promise.all([serveJson('none', 404), serveJson(resources)])
    const aggregator = new FacilitatorAggregator({
      facilitators: [
        {
          id: 'client',
          client: {
            verify: async () => valid,
            settle: async () => settled,
            getSupported: () => supporting(),
          },
        },
        { id: 'without', url: without },
        { id: 'with', url: withList },
      ],
      healthCheck: false,
    })
    expect(await aggregator.list({ limit: 1 })).toEqual(resources)
  })
})
