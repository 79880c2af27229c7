/** Fuzzes what callers send to the gateway, as far as a web-standard `Request` can express it. */
import fc from 'fast-check'
import { createGateway, type Gateway } from '../../src/http/index.ts'
import { FacilitatorAggregator, MemoryLedger } from '../../src/index.ts'
import { anyText, junk, type Spoiling, spoil, spoiling, write } from './fuzz-json.ts'
import {
  bodyOf,
  evmNetwork,
  identitiesOf,
  type MutatedPayment,
  mutatedPayment,
  payer,
  supportedKinds,
} from './fuzz-payments.ts'
import { type Bench, demand, type Target } from './fuzz-run.ts'
import { Eavesdropper, indiscretions, token } from './fuzz-secrets.ts'

/** How the facilitators behind the gateway answer a settle. */
const moods = [
  'settles',
  'rejects',
  'declines',
  'cannot be reached',
  'leaves in doubt',
  'answers garbage',
] as const
type Mood = (typeof moods)[number]

interface Ask {
  /** Absent: the one that belongs to the path. */
  readonly method: string | undefined
  readonly path: string
  readonly query: string
  readonly headers: readonly (readonly [string, string])[]
  readonly hasToken: boolean
  readonly isTyped: boolean
  readonly key: string | undefined
  readonly body: Body
}

type Body =
  | {
      readonly kind: 'payment'
      readonly payment: MutatedPayment
      readonly spoiling: Spoiling
      readonly delivery: Delivery
    }
  | { readonly kind: 'action'; readonly text: string }
  | { readonly kind: 'long'; readonly bytes: number; readonly delivery: Delivery }
  | { readonly kind: 'none' }
type Delivery = 'whole' | 'in pieces' | 'breaks off'

interface Case {
  readonly gateway: keyof Gateways
  readonly mood: Mood
  readonly asks: readonly Ask[]
  /** They are sent at once rather than one after the other. */
  readonly atOnce: boolean
}

const maxBodyBytes = 20_000

const segment = fc.oneof(
  fc.constantFrom(
    '.',
    '..',
    '%2e',
    '%2E%2e',
    '',
    'x',
    '%00',
    '%',
    '%zz',
    '%2f',
    'settle',
    'api',
    '%C3%28',
    '\\',
    ';a=b',
    '*',
  ),
  anyText,
)
const path = fc.oneof(
  {
    weight: 10,
    arbitrary: fc.constantFrom(
      '/settle',
      '/settle',
      '/settle',
      '/verify',
      '/supported',
      '/discovery/resources',
    ),
  },
  {
    weight: 3,
    arbitrary: fc.constantFrom(
      ...[
        '/api/facilitator-status',
        '/healthz',
        '/readyz',
        '/',
        '//settle',
        '/settle/',
        '/SETTLE',
        '/%73ettle',
      ],
      ...[
        '/x/../settle',
        '/./verify',
        '/settle%2f',
        '/settle%00',
        '/facilitator/settle',
        '/facilitator',
        '/settle;x',
      ],
    ),
  },
  { weight: 1, arbitrary: fc.array(segment, { maxLength: 5 }).map(segments => `/${segments.join('/')}`) },
)

const query = fc.oneof(
  { weight: 4, arbitrary: fc.constant('') },
  fc.constantFrom(
    ...[
      '?',
      '?limit=1&limit=2',
      '?limit=-1',
      '?limit=1e9',
      '?type=%00',
      '?__proto__=1&constructor=2',
      '?a[b]=c',
      '?%',
    ],
    ...[
      '?include=health,stats',
      '?include=',
      '?logLimit=999999999',
      '?logLimit=-1',
      '?include=logs&logLimit=5',
    ],
    ...['?include=settlements', '?include=config', `?x=${'y'.repeat(5_000)}`, '?=&=&&&;', '?offset=٣'],
  ),
)

/** Of bytes that HTTP allows in a header. */
const headerText = fc.string({
  unit: fc.oneof(
    fc.constantFrom('\t', ' ', ',', ';', '"', '\\', '='),
    fc.integer({ min: 33, max: 126 }).map(code => String.fromCharCode(code)),
  ),
  maxLength: 40,
})
const header = fc.oneof(
  fc.tuple(
    fc.constantFrom(
      ...[
        'content-type',
        'content-length',
        'content-encoding',
        'transfer-encoding',
        'x-request-id',
        'origin',
        'host',
      ],
      ...[
        'x-forwarded-for',
        'x-http-method-override',
        'expect',
        'accept',
        'cookie',
        'range',
        'if-match',
        'upgrade',
      ],
      ...[
        'idempotency-key',
        'authorization',
        'access-control-request-method',
        'sec-fetch-site',
        'x-forwarded-host',
      ],
    ),
    fc.oneof(
      fc.constantFrom(
        ...[
          '',
          '-1',
          '0',
          '1e9',
          '99999999999999999999',
          'NaN',
          'gzip',
          'chunked',
          'application/json',
          'text/plain',
        ],
        ...[
          'application/json; charset=utf-16',
          'Bearer',
          'Bearer ',
          'bearer x',
          `Basic ${token}`,
          '*',
          'null',
          'PUT',
        ],
        ...[
          'http://evil.example',
          'evil.example:99999',
          '[::1',
          '127.0.0.1',
          '\u00e9',
          'a,b',
          'cross-site',
          'h2c',
        ],
      ),
      headerText,
      fc.integer({ min: 200, max: 9_000 }).map(length => 'h'.repeat(length)),
    ),
  ),
  fc.tuple(fc.string({ unit: fc.constantFrom(...'abcXYZ-_09!'), minLength: 1, maxLength: 20 }), headerText),
)

const action = fc.oneof(
  fc.constantFrom(
    ...[
      '{"action":"check-health"}',
      '{"action":"disable","facilitator":"a"}',
      '{"action":"enable","facilitator":"b"}',
    ],
    ...[
      '{"action":"disable","facilitator":"__proto__"}',
      '{"action":"close-settlement","key":"x"}',
      '[]',
      'null',
      '1',
    ],
    ...[
      '{"action":"enable"}',
      '{"action":["enable"]}',
      '{"__proto__":{"action":"enable"}}',
      '{"action":"toString"}',
    ],
    ...indiscretions.map(text => JSON.stringify({ action: 'disable', facilitator: text })),
  ),
  junk.map(write),
  fc
    .tuple(junk, junk)
    .map(([one, other]) => `{"action":"check-health","facilitator":${write(one)},"key":${write(other)}}`),
)

const delivery = fc.oneof(
  { weight: 6, arbitrary: fc.constant('whole' as const) },
  fc.constantFrom('in pieces' as const, 'breaks off' as const),
)
const body: fc.Arbitrary<Body> = fc.oneof(
  {
    weight: 12,
    arbitrary: fc.record({
      kind: fc.constant('payment' as const),
      payment: mutatedPayment,
      spoiling,
      delivery,
    }),
  },
  fc.record({ kind: fc.constant('action' as const), text: action }),
  fc.record({
    kind: fc.constant('long' as const),
    bytes: fc.integer({ min: 0, max: 3 * maxBodyBytes }),
    delivery,
  }),
  fc.constant({ kind: 'none' as const }),
)

const ask: fc.Arbitrary<Ask> = fc.record({
  method: fc.oneof(
    { weight: 8, arbitrary: fc.constant(undefined) },
    fc.constantFrom(
      'GET',
      'HEAD',
      'OPTIONS',
      'PUT',
      'DELETE',
      'PATCH',
      'post',
      'PROPFIND',
      'M-SEARCH',
      'X',
      '__proto__',
    ),
  ),
  path,
  query,
  headers: fc.oneof(
    { weight: 2, arbitrary: fc.constant([]) },
    { weight: 3, arbitrary: fc.array(header, { maxLength: 5 }) },
    {
      weight: 1,
      arbitrary: fc
        .integer({ min: 100, max: 300 })
        .map(many => Array.from({ length: many }, (_, index) => [`x-${index}`, 'y'] as const)),
    },
  ),
  hasToken: fc.oneof(
    { weight: 4, arbitrary: fc.constant(true) },
    { weight: 1, arbitrary: fc.constant(false) },
  ),
  isTyped: fc.oneof(
    { weight: 9, arbitrary: fc.constant(true) },
    { weight: 1, arbitrary: fc.constant(false) },
  ),
  key: fc.oneof(
    { weight: 3, arbitrary: fc.constant(undefined) },
    {
      weight: 2,
      arbitrary: fc.constantFrom('k1', 'k2', '', ' ', '__proto__', 'k'.repeat(255), 'k'.repeat(256)),
    },
    headerText,
  ),
  body,
})

const cases: fc.Arbitrary<Case> = fc.record({
  gateway: fc.constantFrom(
    'protected' as const,
    'protected' as const,
    'open' as const,
    'limited' as const,
    'below' as const,
  ),
  mood: fc.oneof({ weight: 3, arbitrary: fc.constant('settles' as const) }, fc.constantFrom(...moods)),
  asks: fc.array(ask, { minLength: 1, maxLength: 4 }),
  atOnce: fc.boolean(),
})

interface Gateways {
  readonly protected: Gateway
  readonly open: Gateway
  readonly limited: Gateway
  readonly below: Gateway
}

/** 5xx that say what they mean. */
const documented5xx: Readonly<Record<number, readonly string[]>> = {
  502: ['ALL_FACILITATORS_FAILED', 'NO_ELIGIBLE_FACILITATOR'],
  503: ['NO_HEALTHY_FACILITATOR', 'LEDGER_FULL', 'LEDGER_FAILED', 'OVERLOADED', 'TOO_BUSY'],
}

type Sent = Ask & { readonly method: string }

interface Seen {
  readonly ask: Sent
  readonly sent: string
  readonly status: number
  readonly headers: Headers
  readonly text: string
}

async function openBench(count: (name: string) => void): Promise<Bench<Case>> {
  let mood: Mood = 'settles'
  let space = 0
  let transactions = 0
  const settle = async () => {
    transactions++
    switch (mood) {
      case 'settles':
        return {
          success: true,
          transaction: `0x${transactions.toString(16).padStart(64, '0')}`,
          network: evmNetwork,
          payer,
        } as const
      case 'rejects':
        return {
          success: false,
          errorReason: 'insufficient_funds',
          transaction: '',
          network: evmNetwork,
        } as const
      case 'declines':
        return {
          success: false,
          errorReason: 'failed_to_execute_transfer',
          transaction: '',
          network: evmNetwork,
        } as const
      case 'cannot be reached':
        throw new TypeError('fetch failed', {
          cause: Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }),
        })
      case 'leaves in doubt':
        throw new TypeError('fetch failed', {
          cause: Object.assign(new Error(indiscretions[0]), { code: 'ECONNRESET' }),
        })
      case 'answers garbage':
        return JSON.parse('{"__proto__":{"success":true},"success":"true"}')
    }
  }
  const client = {
    verify: async () => ({ isValid: mood !== 'rejects', payer }),
    settle,
    getSupported: async () => ({ kinds: supportedKinds, extensions: [], signers: {} }),
    list: async (query: unknown) => ({ x402Version: 2, items: [query] }),
  }
  const eavesdropper = new Eavesdropper()
  const aggregator = new FacilitatorAggregator({
    facilitators: [
      { id: 'a', client },
      { id: 'b', client },
    ],
    healthCheck: false,
    retries: 0,
    timeoutMs: 200,
    deadlineMs: 400,
    settlement: { ledger: new MemoryLedger({ maxEntries: 500 }) },
    maxLogEntries: 100,
    logger: eavesdropper.logger,
    logLevel: 'debug',
  })
  eavesdropper.listenTo(aggregator)
  const common = { maxBodyBytes, idempotencyMs: 50, rateLimit: false } as const
  const gateways: Gateways = {
    protected: createGateway(aggregator, { ...common, tokens: ['another', token] }),
    open: createGateway(aggregator, common),
    limited: createGateway(aggregator, { ...common, rateLimit: { perSecond: 50, burst: 5 } }),
    below: createGateway(aggregator, { ...common, basePath: '/facilitator', statusPath: '/status' }),
  }

  async function send(gateway: Gateway, one: Ask): Promise<Seen | undefined> {
    const at: Sent = {
      ...one,
      path: gateway === gateways.below ? `/facilitator${one.path}` : one.path,
      method: one.method ?? (readable.includes(one.path) ? 'GET' : 'POST'),
    }
    const request = requestOf(at, space)
    if (request === undefined) return undefined
    const response = await gateway.fetch(request.request)
    const text = await response.text()
    return { ask: at, sent: request.sent, status: response.status, headers: response.headers, text }
  }

  return {
    async try(one) {
      mood = one.mood
      space++
      const gateway = gateways[one.gateway]
      const seen: (Seen | undefined)[] = []
      if (one.atOnce) seen.push(...(await Promise.all(one.asks.map(ask => send(gateway, ask)))))
      else for (const ask of one.asks) seen.push(await send(gateway, ask))
      const answers = seen.filter(answer => answer !== undefined)
      if (answers.length < seen.length) count('no Request')
      for (const answer of answers) count(judge(answer, one))
      demandOneSuccess(answers)
      await eavesdropper.demandSilence(aggregator, [])
      for (const id of ['a', 'b']) aggregator.setFacilitatorEnabled(id, true)
    },
    close: () => aggregator.stop({ inFlight: 'abort' }),
  }
}

const readable = ['/supported', '/discovery/resources', '/healthz', '/readyz']

function requestOf(one: Sent, space: number): { request: Request; sent: string } | undefined {
  const { method, path, query, body, key, hasToken, isTyped } = one
  const headers = [...one.headers, ['user-agent', 'fuzz'] as const].map(
    ([name, value]) => [name, value] as [string, string],
  )
  if (hasToken) headers.push(['authorization', `Bearer ${token}`])
  if (key !== undefined) headers.push(['idempotency-key', key])
  if (isTyped) headers.push(['content-type', 'application/json'])
  const bytes = bytesOf(body, space)
  const stream = bytes !== undefined && streamOf(bytes, 'delivery' in body ? body.delivery : 'whole')
  try {
    const request = new Request(`http://gateway.example${path}${query}`, {
      method,
      headers,
      ...(stream && method !== 'GET' && method !== 'HEAD' && { body: stream, duplex: 'half' }),
    })
    return { request, sent: bytes === undefined ? '' : new TextDecoder().decode(bytes) }
  } catch {
    // What cannot be expressed is sent over a socket: see fuzz-raw.ts.
    return undefined
  }
}

function bytesOf(body: Body, space: number): Uint8Array<ArrayBuffer> | undefined {
  switch (body.kind) {
    case 'payment':
      return spoil(bodyOf(body.payment, space), body.spoiling)
    case 'action':
      return new Uint8Array(Buffer.from(body.text))
    case 'long':
      return new Uint8Array(body.bytes).fill(32)
    case 'none':
      return undefined
  }
}

function streamOf(
  bytes: Uint8Array<ArrayBuffer>,
  delivery: Delivery,
): ReadableStream | Uint8Array<ArrayBuffer> {
  if (delivery === 'whole') return bytes
  const pieces = [bytes.slice(0, 7), bytes.slice(7)]
  return new ReadableStream({
    pull(controller) {
      const piece = pieces.shift()
      if (piece !== undefined && piece.length > 0) return controller.enqueue(piece)
      if (delivery === 'breaks off') return controller.error(new TypeError('terminated'))
      if (pieces.length === 0) controller.close()
    },
  })
}

const pathOfPayments = /^(\/facilitator)?\/(verify|settle)$/

/** @returns the class of the answer */
function judge({ ask, status, headers, text, sent }: Seen, { gateway }: Case): string {
  const about = () => `${ask.method} ${ask.path}: ${status} ${text.slice(0, 500)}`
  for (const [name, value] of headers)
    demand(!/[^\t\x20-\x7e]/.test(value) && value.length < 10_000, () => `header ${name}: ${value}`)
  if (text === '') {
    demand(ask.method === 'HEAD' || status === 204, () => `an empty answer: ${about()}`)
    return `${status} without a body`
  }
  const answer = parse(text)
  demand(typeof answer === 'object' && answer !== null, () => `no JSON object: ${about()}`)
  const { error, message, success, isValid } = answer as Record<string, unknown>
  if (error !== undefined) {
    demand(typeof error === 'string' && /^[A-Z_]{3,40}$/.test(error), () => `no code of an error: ${about()}`)
    demand(
      typeof message === 'string' && message.length < 2_000 + sent.length,
      () => `no message: ${about()}`,
    )
    demand(error !== 'INTERNAL_ERROR', () => `a fault of the gateway: ${about()}`)
    if (status >= 500)
      demand(documented5xx[status]?.includes(error) === true, () => `an undocumented answer: ${about()}`)
    else
      demand(
        status >= 400 || error === 'SETTLEMENT_INDETERMINATE',
        () => `an error of status ${status}: ${about()}`,
      )
    demand(success === undefined && isValid === undefined, () => `an error that claims success: ${about()}`)
    return `${status} ${error}`
  }
  const isProbe = ask.path.includes('readyz')
  demand(status === 200 || (isProbe && status === 503), () => `an undocumented answer: ${about()}`)
  if (
    gateway === 'protected' &&
    !/\/(healthz|readyz)/.test(new URL(ask.path, 'http://gateway.example').pathname)
  )
    demand(isLetIn(ask), () => `let in without a token: ${about()}`)
  if (success !== undefined || isValid !== undefined) {
    const { pathname } = new URL(`http://gateway.example${ask.path}`)
    demand(
      pathOfPayments.test(decodeURI(pathname)) && ask.method.toUpperCase() === 'POST',
      () => `a verdict at another path: ${about()}`,
    )
    if (success === true) demand(parse(sent) !== undefined, () => `a success for what is no JSON: ${about()}`)
    return `${status} ${success === undefined ? `isValid ${isValid}` : `success ${success}`}`
  }
  return `${status} data`
}

function isLetIn({ hasToken, headers }: Ask): boolean {
  return hasToken || headers.some(([name, value]) => name === 'authorization' && value.includes(token))
}

/** One payment, one transaction; the same answer may be given again under its idempotency key. */
function demandOneSuccess(answers: readonly Seen[]): void {
  const delivered = new Map<string, Seen>()
  for (const seen of answers) {
    const answer = parse(seen.text) as { success?: unknown; transaction?: unknown } | undefined
    if (answer?.success !== true) continue
    for (const identity of identitiesOf(parse(seen.sent))) {
      const other = delivered.get(identity)
      const isReplay =
        other?.text === seen.text && other.ask.key === seen.ask.key && seen.ask.key !== undefined
      demand(
        other === undefined || isReplay,
        () => `delivered twice: ${identity}\n${other?.sent}\n${seen.sent}`,
      )
      delivered.set(identity, seen)
    }
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text.replace(/^\ufeff/, ''))
  } catch {
    return undefined
  }
}

export const gatewayTarget: Target<Case> = { name: 'gateway', share: 0.64, lanes: 1, cases, open: openBench }
