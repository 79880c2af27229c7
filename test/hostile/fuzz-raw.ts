/** Fuzzes the listener with what no `Request` can express: bytes over a socket. */
import { once } from 'node:events'
import { connect } from 'node:net'
import fc from 'fast-check'
import { createGateway } from '../../src/http/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { listen } from '../../src/node/index.ts'
import { evmNetwork, payer, plainBody, supportedKinds } from './fuzz-payments.ts'
import { type Bench, demand, type Target } from './fuzz-run.ts'
import { Eavesdropper, token } from './fuzz-secrets.ts'

/** How the end of a body is told. All but the first two are ambiguous, or wrong: RFC 9112, sections 6 and 7. */
const framings = [
  'length',
  'chunked',
  'length and chunked',
  'two lengths',
  'a list of lengths',
  'a signed length',
  'a length in hexadecimal',
  'a length with a space before its colon',
  'chunked with a space before its colon',
  'chunked on a folded line',
  'an unknown coding',
  'chunked twice',
  'chunked, then another coding',
  'a chunk size with a prefix',
  'a negative chunk size',
  'a chunk that is longer than its size',
  'a chunk size with a line feed alone',
] as const
type Framing = (typeof framings)[number]

interface Case {
  readonly request:
    | { readonly kind: 'framed'; readonly framing: Framing; readonly http: string }
    | { readonly kind: 'head'; readonly line: string; readonly headers: readonly string[] }
    | { readonly kind: 'bytes'; readonly bytes: Uint8Array }
  /** Where the bytes are cut into packets. */
  readonly cuts: readonly number[]
  /** The client goes before everything is sent. */
  readonly leavesAt: number | undefined
}

const targets = [
  ...[
    '/settle',
    'http://evil.example/settle',
    'https://gateway.example:0/settle',
    '*',
    'evil.example:443',
    '',
  ],
  ...[
    '//evil.example/settle',
    '/settle#x',
    '/\u00e9',
    '/settle\t',
    '/\u0000',
    '\\settle',
    'settle',
    'http://',
    '/%',
  ],
  ...[
    '/../../settle',
    '/settle?\u0001',
    `/${'a'.repeat(20_000)}`,
    'file:///etc/passwd',
    '/settle HTTP/1.1 x',
  ],
]
const methods = [
  'GET',
  'POST',
  'CONNECT',
  'TRACE',
  'PRI',
  'get',
  'G\u0000T',
  'POST ',
  '',
  'SETTLE',
  'OPTIONS',
  'HEAD',
]
const versions = [
  'HTTP/1.1',
  'HTTP/1.0',
  'HTTP/0.9',
  'HTTP/2.0',
  'HTTP/1.10',
  'http/1.1',
  'HTTP/1.1 ',
  '',
  'ICY/1.1',
]
const headerLines = [
  ...[
    'Host: a',
    'Host: a\r\nHost: b',
    'Host:',
    'Host: a b',
    'Host: a/../b',
    'Host: a@b:99999',
    'Host: [::1',
    'Host: \u00e9',
  ],
  ...['Expect: 100-continue', 'Expect: nothing', 'Connection: upgrade\r\nUpgrade: websocket', 'Upgrade: h2c'],
  ...[
    'HTTP2-Settings: x',
    ' folded: a',
    'X: a\r\n b',
    'X : a',
    ': a',
    'X',
    'X: \u0000',
    'X: a\rb',
    'X: a\nY: b',
  ],
  ...[
    'Connection: close, host',
    'Connection: keep-alive',
    'Content-Length: 5',
    'Content-Length: 0',
    'Trailer: x',
  ],
  ...[
    'Transfer-Encoding: gzip, chunked',
    'TE: trailers',
    `X: ${'y'.repeat(20_000)}`,
    'Authorization: Bearer \u0000',
  ],
  Array.from({ length: 1_500 }, (_, index) => `X-${index}: y`).join('\r\n'),
]

const cases: fc.Arbitrary<Case> = fc.record({
  request: fc.oneof(
    fc.record({
      kind: fc.constant('framed' as const),
      framing: fc.constantFrom(...framings),
      http: fc.constantFrom('HTTP/1.1', 'HTTP/1.1', 'HTTP/1.0'),
    }),
    fc.record({
      kind: fc.constant('head' as const),
      line: fc
        .tuple(fc.constantFrom(...methods), fc.constantFrom(...targets), fc.constantFrom(...versions))
        .map(parts => parts.join(' ')),
      headers: fc.array(fc.constantFrom(...headerLines), { maxLength: 4 }),
    }),
    fc.record({
      kind: fc.constant('bytes' as const),
      bytes: fc.oneof(
        fc.uint8Array({ maxLength: 100 }),
        fc
          .constantFrom(
            'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
            '\x16\x03\x01\x02\x00\x01\x00\x01\xfc',
            '\r\n\r\n\r\n',
          )
          .map(text => new Uint8Array(Buffer.from(text, 'latin1'))),
      ),
    }),
  ),
  cuts: fc.array(fc.nat({ max: 600 }), { maxLength: 3 }),
  leavesAt: fc.oneof({ weight: 6, arbitrary: fc.constant(undefined) }, fc.nat({ max: 600 })),
})

const authorization = `Authorization: Bearer ${token}`

function paymentText(identity: number): string {
  return JSON.stringify(plainBody('exact', identity))
}

/**
 * A settle, and another one hidden behind what one reader takes for the end of its body and the next does not.
 */
function framed(framing: Framing, http: string, identity: number): string {
  const hidden = request(http, paymentText(identity + 1), 'length')
  return request(http, paymentText(identity), framing, hidden)
}

function request(http: string, body: string, framing: Framing, hidden = ''): string {
  const head = `POST /settle ${http}\r\nHost: gateway.example\r\n${authorization}\r\n`
  const length = body.length
  const size = length.toString(16)
  const chunks = `${size}\r\n${body}\r\n0\r\n\r\n`
  const chunked = 'Transfer-Encoding: chunked\r\n'
  switch (framing) {
    case 'length':
      return `${head}Content-Length: ${length}\r\n\r\n${body}${hidden}`
    case 'chunked':
      return `${head}${chunked}\r\n${chunks}${hidden}`
    case 'length and chunked':
      return `${head}Content-Length: ${chunks.length + hidden.length}\r\n${chunked}\r\n${chunks}${hidden}`
    case 'two lengths':
      return `${head}Content-Length: ${length}\r\nContent-Length: ${length + hidden.length}\r\n\r\n${body}${hidden}`
    case 'a list of lengths':
      return `${head}Content-Length: ${length}, ${length}\r\n\r\n${body}${hidden}`
    case 'a signed length':
      return `${head}Content-Length: +${length}\r\n\r\n${body}${hidden}`
    case 'a length in hexadecimal':
      return `${head}Content-Length: 0x${size}\r\n\r\n${body}${hidden}`
    case 'a length with a space before its colon':
      return `${head}Content-Length : ${length}\r\n\r\n${body}${hidden}`
    case 'chunked with a space before its colon':
      return `${head}Transfer-Encoding : chunked\r\n\r\n${chunks}${hidden}`
    case 'chunked on a folded line':
      return `${head}Transfer-Encoding:\r\n chunked\r\n\r\n${chunks}${hidden}`
    case 'an unknown coding':
      return `${head}Transfer-Encoding: xchunked\r\n\r\n${chunks}${hidden}`
    case 'chunked twice':
      return `${head}${chunked}${chunked}\r\n${chunks}${hidden}`
    case 'chunked, then another coding':
      return `${head}Transfer-Encoding: chunked, identity\r\n\r\n${chunks}${hidden}`
    case 'a chunk size with a prefix':
      return `${head}${chunked}\r\n0x${chunks}${hidden}`
    case 'a negative chunk size':
      return `${head}${chunked}\r\n-${chunks}${hidden}`
    case 'a chunk that is longer than its size':
      return `${head}${chunked}\r\n${(length - 3).toString(16)}\r\n${body}\r\n0\r\n\r\n${hidden}`
    case 'a chunk size with a line feed alone':
      return `${head}${chunked}\r\n${size}\n${body}\n0\n\n${hidden}`
  }
}

async function openBench(count: (name: string) => void): Promise<Bench<Case>> {
  const settled = new Set<number>()
  let identity = 0
  const client = {
    verify: async () => ({ isValid: true, payer }),
    settle: async (payload: unknown) => {
      const { authorization } = (payload as { payload: { authorization: { nonce: string } } }).payload
      settled.add(Number(BigInt(authorization.nonce)))
      return {
        success: true,
        transaction: `0x${identity.toString(16).padStart(64, '0')}`,
        network: evmNetwork,
      } as const
    },
    getSupported: async () => ({ kinds: supportedKinds, extensions: [], signers: {} }),
  }
  const eavesdropper = new Eavesdropper()
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'a', client }],
    healthCheck: false,
    logger: eavesdropper.logger,
  })
  const gateway = createGateway(aggregator, { tokens: [token], rateLimit: false })
  const { url, server, close, cut } = await listen(gateway, { port: 0 })
  const port = Number(new URL(url).port)

  return {
    async try(one) {
      identity += 2
      const text = textOf(one, identity)
      const answer = await exchange(port, text, one)
      const statuses = statusesOf(answer)
      for (const status of statuses) {
        count(`${one.request.kind}: ${status}`)
        demand(status < 500 || status === 505, () => `answered ${status}: ${answer.slice(0, 500)}`)
      }
      if (statuses.length === 0) count(`${one.request.kind}: cut`)
      demand(/^(HTTP\/1\.1 |$)/.test(answer), () => `no HTTP: ${answer.slice(0, 200)}`)
      if (one.request.kind === 'framed' && !['length', 'chunked'].includes(one.request.framing)) {
        const { framing } = one.request
        demand(!settled.has(identity + 1), () => `${framing}: the hidden request was served:\n${answer}`)
      }
      settled.clear()
      await eavesdropper.demandSilence(aggregator, [])
      demand(server.listening, () => 'the listener is gone')
    },
    async close() {
      const closed = close()
      cut()
      await closed
      await aggregator.stop({ inFlight: 'abort' })
    },
  }
}

/** The last request, after which the listener closes the connection, if it has not before. */
const farewell = 'GET /healthz HTTP/1.1\r\nHost: gateway.example\r\nConnection: close\r\n\r\n'

function textOf(one: Case, identity: number): Buffer {
  return Buffer.concat([bytesOf(one, identity), Buffer.from(farewell)])
}

function bytesOf({ request }: Case, identity: number): Buffer {
  switch (request.kind) {
    case 'framed':
      return Buffer.from(framed(request.framing, request.http, identity), 'latin1')
    case 'head':
      return Buffer.from(
        `${[request.line, authorization, ...request.headers].join('\r\n')}\r\n\r\n`,
        'latin1',
      )
    case 'bytes':
      return Buffer.from(request.bytes)
  }
}

const longestWaitMs = 3_000

/** Sends, and reads until the other side closes. */
async function exchange(port: number, bytes: Buffer, { cuts, leavesAt }: Case): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  let answer = ''
  socket.setEncoding('latin1')
  socket.on('data', piece => {
    answer += piece
  })
  // What the other side has cut already.
  socket.on('error', () => {})
  const closed = once(socket, 'close').catch(() => {})
  socket.setNoDelay(true)
  const end = Math.min(leavesAt ?? bytes.length, bytes.length)
  const places = [0, ...cuts.filter(cut => cut < end).sort((one, other) => one - other), end]
  for (const [index, from] of places.slice(0, -1).entries()) {
    socket.write(bytes.subarray(from, places[index + 1]))
    await new Promise(setImmediate)
  }
  if (leavesAt !== undefined) socket.destroy()
  // The listener waits for what it takes to be the rest of a body.
  const timer = setTimeout(() => socket.end(), longestWaitMs)
  await closed
  clearTimeout(timer)
  return answer
}

function statusesOf(answer: string): number[] {
  return [...answer.matchAll(/^HTTP\/1\.1 (\d{3}) /gm)].map(([, status]) => Number(status))
}

export const rawTarget: Target<Case> = { name: 'raw', share: 0.06, lanes: 1, cases, open: openBench }
