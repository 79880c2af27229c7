/** Fuzzes what facilitators answer: any status, any header, any bytes, any object, any throw. */

import { FacilitatorResponseError } from '@x402/core/server'
import fc from 'fast-check'
import {
  AggregatorError,
  AllFacilitatorsFailedError,
  FacilitatorAggregator,
  type FacilitatorClientLike,
  type ProbeAnswer,
  SettlementIndeterminateError,
} from '../../src/index.ts'
import { settlementProbe } from '../../src/probe/index.ts'
import { untyped } from '../untyped.ts'
import {
  anyText,
  type Json,
  jsonOf,
  type Mutation,
  mutate,
  mutation,
  type Spoiling,
  spoil,
  spoiling,
  write,
} from './fuzz-json.ts'
import { evmNetwork, type PlainPayment, payer, plainBody, supportedKinds } from './fuzz-payments.ts'
import { demand, type Target } from './fuzz-run.ts'
import { Eavesdropper, indiscretions, pathKey, token } from './fuzz-secrets.ts'

type Operation = 'verify' | 'settle' | 'supported' | 'list'

/** What a facilitator does with one call. */
interface Reply {
  /** A settle moves the money, whatever is answered. */
  readonly moves: boolean
  readonly gives: Answer | Throw
}

interface Answer {
  readonly kind: 'answer'
  readonly says: 'yes' | 'no' | 'another'
  readonly reason: string
  readonly mutations: readonly Mutation[]
  readonly spoiling: Spoiling
  readonly status: number
  readonly headers: readonly (readonly [string, string])[]
  readonly delivery: 'whole' | 'in pieces' | 'breaks off' | 'stands still' | 'never ends'
}

interface Throw {
  readonly kind: 'throw'
  readonly what: (typeof throwables)[number]
}

interface Case {
  /** By facilitator, in the order of its calls; the last one for good. */
  readonly scripts: readonly (readonly Reply[])[]
  /** Each facilitator at a URL, or given by a client object. */
  readonly overHttp: boolean
  readonly hasChain: boolean
  readonly audit: 'off' | 'always'
  readonly retries: number
  readonly observers: 'none' | 'throws' | 'rejects'
  readonly calls: readonly { readonly operation: Operation; readonly payment: number }[]
}

const throwables = [
  ...(['ECONNREFUSED', 'ENOTFOUND', 'ECONNRESET', 'UND_ERR_SOCKET', 'EPIPE', 'an indiscreet error'] as const),
  ...(['undefined', 'a text', 'an object that cannot be read', 'a proxy', 'an error in a circle'] as const),
  ...(['SettleError', 'VerifyError', 'HTTP 500 by message', 'nothing', 'a number', 'a thenable'] as const),
]

const reason = fc.oneof(
  fc.constantFrom(
    ...[
      'insufficient_funds',
      'invalid_payload',
      'settlement_pending',
      'unsupported_scheme',
      'duplicate_settlement',
    ],
    ...[
      'invalid_exact_evm_transaction_failed',
      'invalid_exact_evm_nonce_already_used',
      'unexpected_settle_error',
    ],
    ...[
      'failed_to_execute_transfer',
      'rate_limited',
      'transaction_simulation',
      'a_kyt',
      '',
      'constructor',
      '__proto__',
    ],
    ...indiscretions,
  ),
  anyText,
)

const headers = fc.array(
  fc.oneof(
    fc.tuple(
      fc.constant('retry-after'),
      fc.constantFrom(
        ...['0', '1', '-1', '1e3', '0x10', ' 5 ', '99999999999999999999', 'soon', 'NaN', ''],
        ...['Wed, 21 Oct 2099 07:28:00 GMT', 'Wed, 21 Oct 1999 07:28:00 GMT'],
      ),
    ),
    fc.tuple(
      fc.constant('extension-responses'),
      fc.oneof(
        fc.constantFrom(
          '',
          '=',
          '%%%',
          'bnVsbA==',
          'W10=',
          'eyJfX3Byb3RvX18iOnsiYSI6MX19',
          'A'.repeat(20_000),
        ),
        fc.jsonValue({ maxDepth: 2 }).map(value => Buffer.from(JSON.stringify(value)).toString('base64')),
      ),
    ),
    fc.tuple(
      fc.constant('location'),
      fc.constantFrom(
        '/settle',
        'http://[',
        'https://other.example/',
        'javascript:1',
        '',
        '//',
        '../../x?y#z',
      ),
    ),
    fc.tuple(
      fc.constantFrom(
        'content-type',
        'content-length',
        'content-encoding',
        'www-authenticate',
        'set-cookie',
        'date',
      ),
      fc.constantFrom(
        '',
        '-1',
        '0',
        '999999999',
        'gzip',
        'text/html',
        'application/json; charset=utf-16',
        token,
      ),
    ),
  ),
  { maxLength: 3 },
)

const answer: fc.Arbitrary<Answer> = fc.record({
  kind: fc.constant('answer' as const),
  says: fc.constantFrom('yes' as const, 'no' as const, 'another' as const),
  reason,
  mutations: fc.oneof(fc.constant([]), fc.array(mutation, { maxLength: 3 })),
  spoiling,
  status: fc.oneof(
    { weight: 3, arbitrary: fc.constant(200) },
    {
      weight: 2,
      arbitrary: fc.constantFrom(
        ...[
          201, 202, 204, 206, 300, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 408, 409, 410,
          413,
        ],
        ...[415, 418, 422, 425, 429, 451, 500, 501, 502, 503, 504, 520, 599],
      ),
    },
  ),
  headers,
  delivery: fc.oneof(
    { weight: 60, arbitrary: fc.constant('whole' as const) },
    { weight: 20, arbitrary: fc.constantFrom('in pieces' as const, 'breaks off' as const) },
    { weight: 1, arbitrary: fc.constantFrom('stands still' as const, 'never ends' as const) },
  ),
})

const reply: fc.Arbitrary<Reply> = fc.record({
  moves: fc.boolean(),
  gives: fc.oneof(
    { weight: 4, arbitrary: answer },
    {
      weight: 1,
      arbitrary: fc.record({ kind: fc.constant('throw' as const), what: fc.constantFrom(...throwables) }),
    },
  ),
})

const cases: fc.Arbitrary<Case> = fc.record({
  scripts: fc.array(fc.array(reply, { minLength: 1, maxLength: 3 }), { minLength: 1, maxLength: 3 }),
  overHttp: fc.oneof(
    { weight: 3, arbitrary: fc.constant(true) },
    { weight: 1, arbitrary: fc.constant(false) },
  ),
  hasChain: fc.integer({ min: 0, max: 3 }).map(share => share === 0),
  audit: fc.constantFrom('off' as const, 'always' as const),
  retries: fc.nat({ max: 1 }),
  observers: fc.constantFrom('none' as const, 'throws' as const, 'rejects' as const),
  calls: fc.array(
    fc.record({
      operation: fc.oneof(
        { weight: 4, arbitrary: fc.constant('settle' as const) },
        { weight: 3, arbitrary: fc.constantFrom('verify' as const, 'supported' as const, 'list' as const) },
      ),
      payment: fc.nat({ max: 1 }),
    }),
    { minLength: 1, maxLength: 4 },
  ),
})

/** What the client reads of one answer at most (bytes), and what a stream may have made ahead. */
const maxAnswerBytes = 1024 * 1024
const pieceBytes = 64 * 1024
const transactionOf = (payment: number) => `0x${`${payment + 1}c`.repeat(32)}`

/** What one case sees: the facilitators' words, the money, and what the aggregator made of them. */
class World {
  /** Payments whose money has moved. */
  readonly moved = new Set<number>()
  /** Payments of which a facilitator has claimed, or denied, the success; the same of verdicts. */
  readonly said = {
    settled: new Set<number>(),
    refused: new Set<number>(),
    valid: new Set<number>(),
    invalid: new Set<number>(),
  }
  readonly delivered = new Set<number>()
  readonly settledBefore = new Set<number>()
  overread = 0
  readonly #calls: number[]
  readonly #identities = [0, 1].map(payment => plainBody('exact', payment))
  readonly payments: readonly PlainPayment[]

  constructor(private readonly one: Case) {
    this.#calls = one.scripts.map(() => 0)
    const validBefore = `${Math.floor(Date.now() / 1000) + 600}`
    this.payments = this.#identities.map(body => {
      Object.assign(body.paymentPayload.payload.authorization as object, { validBefore })
      return body
    })
  }

  next(facilitator: number): Reply {
    const script = this.one.scripts[facilitator] ?? []
    const index = Math.min(this.#calls[facilitator] ?? 0, script.length - 1)
    this.#calls[facilitator] = index + 1
    const found = script[index]
    if (found === undefined) throw new Error('a script is never empty')
    return found
  }

  /** The payment with this nonce. */
  paymentOf(payload: unknown): number {
    const { payload: content } = payload as { payload: { authorization: { nonce: string } } }
    return Number(BigInt(content.authorization.nonce))
  }

  chain(payment: number): ProbeAnswer {
    const seconds = Math.ceil(Date.now() / 1000)
    // Of a block that is made right after.
    if (!this.moved.has(payment)) return { state: 'unspent', asOf: seconds + 5 }
    return { state: 'paid', transaction: transactionOf(payment), payer, minedAt: seconds, asOf: seconds + 5 }
  }

  /** Takes note of what a facilitator says, as the protocol has it, in whatever else it says. */
  note(operation: Operation, payment: number, body: unknown, isOk: boolean): void {
    if (typeof body !== 'object' || body === null) return
    const { success, transaction, network, isValid } = body as Record<string, unknown>
    if (operation === 'settle' && isOk && success === true && typeof transaction === 'string')
      if (!this.one.overHttp || typeof network === 'string') this.said.settled.add(payment)
    if (operation === 'settle' && success === false) this.said.refused.add(payment)
    if (operation === 'verify' && isOk && isValid === true) this.said.valid.add(payment)
    if (operation === 'verify' && isValid === false) this.said.invalid.add(payment)
  }
}

function documentOf(operation: Operation, { says, reason, mutations }: Answer, payment: number): Json {
  const transaction = transactionOf(payment)
  const documents: Record<Operation, object> = {
    verify:
      says === 'yes'
        ? { isValid: true, payer }
        : { isValid: false, invalidReason: reason, invalidMessage: reason, payer },
    settle:
      says === 'yes'
        ? { success: true, transaction, network: evmNetwork, payer }
        : {
            ...{ success: false, errorReason: reason, errorMessage: reason, network: evmNetwork, payer },
            transaction: says === 'no' ? '' : transaction,
          },
    supported: { kinds: supportedKinds, extensions: [], signers: { 'eip155:*': [payer] } },
    list: {
      x402Version: 2,
      items: [{ resource: 'https://shop.example' }],
      pagination: { limit: 1, offset: 0, total: 1 },
    },
  }
  return mutations.reduce(mutate, jsonOf(documents[operation]))
}

function throwableOf(what: Throw['what']): unknown {
  switch (what) {
    case 'an indiscreet error':
      return new Error(indiscretions.join(' '), { cause: new Error(`Bearer ${token}`) })
    case 'undefined':
      return undefined
    case 'a text':
      return indiscretions[0]
    case 'an object that cannot be read':
      return {
        get name(): string {
          throw new Error('name')
        },
        get message(): string {
          throw new Error('message')
        },
        get code(): string {
          throw new Error('code')
        },
      }
    case 'a proxy':
      return new Proxy(
        {},
        {
          get() {
            throw new Error('a trap')
          },
          getPrototypeOf() {
            throw new Error('a trap')
          },
        },
      )
    case 'an error in a circle': {
      const error = new Error('round')
      error.cause = error
      return error
    }
    case 'SettleError':
      return Object.assign(new Error('x'), {
        name: what,
        errorReason: { toString: 1 },
        statusCode: 'x',
        transaction: {},
      })
    case 'VerifyError':
      return Object.assign(new Error('x'), { name: what, invalidReason: 5n, statusCode: Number.NaN })
    case 'HTTP 500 by message':
      return new Error(`Facilitator settle failed (500): ${indiscretions[0]}`)
    case 'a number':
      return Number.NaN
    case 'nothing':
    case 'a thenable':
      return null
    default:
      return new TypeError('fetch failed', { cause: Object.assign(new Error('connect'), { code: what }) })
  }
}

/** What a client may return instead of throwing it. */
function oddityOf(what: Throw['what']): { readonly value: unknown } | undefined {
  if (what === 'nothing') return { value: undefined }
  if (what === 'a thenable')
    return {
      // biome-ignore lint/suspicious/noThenProperty: a client may return one.
      value: { then: (_resolve: unknown, reject: (error: unknown) => void) => reject('thenable') },
    }
  return undefined
}

function bodyStream(
  bytes: Uint8Array<ArrayBuffer>,
  delivery: Answer['delivery'],
  world: World,
): ReadableStream<Uint8Array> {
  const middle = Math.floor(bytes.length / 2)
  let pulls = 0
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      pulls++
      if (delivery === 'never ends') {
        world.overread = Math.max(world.overread, pulls * pieceBytes - maxAnswerBytes)
        controller.enqueue(new Uint8Array(pieceBytes).fill(32))
        // Otherwise a reader without a bound would never come back.
        if (pulls > 200) controller.close()
        return
      }
      if (pulls === 1 && middle > 0) return controller.enqueue(bytes.slice(0, middle))
      if (delivery === 'stands still') return new Promise<void>(() => {})
      if (delivery === 'breaks off')
        return controller.error(new TypeError('terminated', { cause: { code: 'UND_ERR_SOCKET' } }))
      if (bytes.length > middle) controller.enqueue(bytes.slice(middle))
      controller.close()
    },
  })
}

const bodiless = new Set([204, 304])

/** A facilitator as its `fetch`. */
function fetchOf(world: World, facilitator: number): typeof fetch {
  return async (url, init) => {
    const path = new URL(`${url}`).pathname.split('/')
    const operation = path.includes('discovery') ? 'list' : (path.at(-1) as Operation)
    const { moves, gives } = world.next(facilitator)
    let payment = 0
    if (init?.body instanceof Blob)
      payment = world.paymentOf(JSON.parse(await init.body.text()).paymentPayload)
    if (operation === 'settle' && moves) world.moved.add(payment)
    if (gives.kind === 'throw') {
      const oddity = oddityOf(gives.what)
      if (oddity === undefined) throw throwableOf(gives.what)
      return oddity.value as Response
    }
    const isIndiscreet = indiscretions.includes(gives.reason)
    // A secret that is cut in two is none.
    const how = isIndiscreet ? ({ kind: 'none' } as const) : gives.spoiling
    const bytes = spoil(write(documentOf(operation, gives, payment)), how)
    const { status, delivery } = gives
    const isOk = status >= 200 && status < 300
    if (delivery === 'whole' || delivery === 'in pieces')
      world.note(operation, payment, parse(new TextDecoder().decode(bytes)), isOk)
    const body = bodiless.has(status)
      ? null
      : delivery === 'whole'
        ? bytes
        : bodyStream(bytes, delivery, world)
    return new Response(body, {
      status,
      headers: gives.headers.map(([name, value]) => [name, value] as [string, string]),
    })
  }
}

/** The same as a client object, which may return anything. */
function clientOf(world: World, facilitator: number): FacilitatorClientLike {
  const give = async (operation: Operation, payload?: unknown): Promise<never> => {
    const { moves, gives } = world.next(facilitator)
    const payment = payload === undefined ? 0 : world.paymentOf(payload)
    if (operation === 'settle' && moves) world.moved.add(payment)
    if (gives.kind === 'throw') {
      const oddity = oddityOf(gives.what)
      if (oddity === undefined) throw throwableOf(gives.what)
      return untyped(oddity.value)
    }
    const returned = parse(write(documentOf(operation, gives, payment)))
    world.note(operation, payment, returned, true)
    return untyped(returned)
  }
  return {
    verify: payload => give('verify', payload),
    settle: payload => give('settle', payload),
    getSupported: () => give('supported'),
    list: () => give('list'),
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

async function tryCase(one: Case, count: (name: string) => void): Promise<void> {
  const world = new World(one)
  const eavesdropper = new Eavesdropper()
  eavesdropper.misbehaviour = one.observers
  const aggregator = new FacilitatorAggregator({
    facilitators: one.scripts.map((_script, index) =>
      one.overHttp
        ? {
            id: `f${index}`,
            url: `https://f${index}.example/v1/${pathKey}`,
            fetch: fetchOf(world, index),
            createAuthHeaders: () => {
              const all = { Authorization: `Bearer ${token}`, 'X-Api-Key': token }
              return { verify: all, settle: all, supported: all, list: all }
            },
          }
        : { id: `f${index}`, client: clientOf(world, index) },
    ),
    healthCheck: false,
    retries: one.retries,
    backoffMs: 0,
    timeoutMs: 100,
    deadlineMs: 200,
    settlement: {
      audit: one.hasChain ? one.audit : 'off',
      // All its payments are one payer's for one thing: each would wait 5 s for a doubt before it.
      credit: false,
      probes: one.hasChain
        ? [
            settlementProbe({
              supports: () => true,
              ask: async ({ nonce }) => world.chain(Number(BigInt(nonce))),
            }),
          ]
        : [],
    },
    logger: eavesdropper.logger,
    logLevel: 'debug',
  })
  eavesdropper.listenTo(aggregator)
  const thrown: unknown[] = []
  for (const { operation, payment } of one.calls) {
    let result: unknown
    try {
      result = await call(aggregator, operation, world.payments[payment])
    } catch (error) {
      thrown.push(error)
      count(`${operation} ${codeOf(error)}`)
      judgeError(world, one, operation, payment, error)
      continue
    }
    count(`${operation} ${judgeResult(world, one, operation, payment, result)}`)
  }
  demand(
    world.overread <= 2 * pieceBytes,
    () => `${world.overread} bytes were read beyond the bound of an answer`,
  )
  await eavesdropper.demandSilence(aggregator, thrown)
  await aggregator.stop({ inFlight: 'abort' })
}

function call(
  aggregator: FacilitatorAggregator,
  operation: Operation,
  payment: PlainPayment | undefined,
): Promise<unknown> {
  const { paymentPayload, paymentRequirements } = payment as unknown as {
    paymentPayload: Parameters<FacilitatorAggregator['verify']>[0]
    paymentRequirements: Parameters<FacilitatorAggregator['verify']>[1]
  }
  switch (operation) {
    case 'verify':
    case 'settle':
      return aggregator[operation](paymentPayload, paymentRequirements)
    case 'supported':
      return aggregator.getSupported()
    case 'list':
      return aggregator.list()
  }
}

function codeOf(error: unknown): string {
  return error instanceof AggregatorError ? error.code : 'threw something else'
}

function judgeError(world: World, one: Case, operation: Operation, payment: number, error: unknown): void {
  const isIndeterminate = error instanceof SettlementIndeterminateError
  demand(
    error instanceof AllFacilitatorsFailedError || (isIndeterminate && operation === 'settle'),
    () =>
      `${operation} threw what is not documented: ${error instanceof Error ? error.stack : String(error)}`,
  )
  demand(error instanceof FacilitatorResponseError, () => 'upstream would not answer 502')
  if (operation !== 'settle') return
  const isMoved = world.moved.has(payment)
  if (error.message.includes('nothing was charged'))
    demand(!isMoved, () => `the money has moved, and "nothing was charged": ${error.message}`)
  if (one.hasChain) demand(isIndeterminate || !isMoved, () => `the money has moved: ${error.message}`)
  world.settledBefore.add(payment)
}

/** @returns the class of the result */
function judgeResult(
  world: World,
  one: Case,
  operation: Operation,
  payment: number,
  result: unknown,
): string {
  const { said, moved } = world
  const text = () => JSON.stringify(result)
  const answered = result as Record<string, unknown>
  demand(typeof result === 'object' && result !== null, () => `${operation} resolved with ${text()}`)
  switch (operation) {
    case 'verify': {
      demand(typeof answered.isValid === 'boolean', () => `no verdict: ${text()}`)
      if (answered.isValid)
        // One that was left unresolved may be sent again.
        demand(said.valid.has(payment) || world.settledBefore.has(payment), () => 'valid, and nobody said so')
      else
        demand(
          said.invalid.has(payment) || world.settledBefore.has(payment),
          () => `invalid, and nobody said so: ${text()}`,
        )
      return answered.isValid ? 'valid' : 'invalid'
    }
    case 'settle': {
      const { success, errorReason } = answered
      const wasSettledBefore = world.settledBefore.has(payment)
      world.settledBefore.add(payment)
      if (success === true) {
        demand(!world.delivered.has(payment), () => 'delivered twice')
        world.delivered.add(payment)
        demand(typeof answered.transaction === 'string', () => `no transaction: ${text()}`)
        demand(
          said.settled.has(payment) || (one.hasChain && moved.has(payment)),
          () => `a success, and nobody said so: ${text()}`,
        )
        if (one.hasChain && one.audit === 'always')
          demand(moved.has(payment), () => 'an audited success that the chain does not know')
        return 'success'
      }
      demand(success === false, () => `neither success nor failure: ${text()}`)
      if (errorReason === 'duplicate_settlement' && wasSettledBefore) return 'duplicate'
      demand(said.refused.has(payment), () => `a rejection, and nobody said so: ${text()}`)
      if (one.hasChain && !world.delivered.has(payment))
        demand(!moved.has(payment), () => `rejected, and the money has moved: ${text()}`)
      return 'rejected'
    }
    case 'supported':
      demand(Array.isArray(answered.kinds) && answered.kinds.length > 0, () => `no kinds: ${text()}`)
      return 'answered'
    case 'list':
      demand(Array.isArray(answered.items), () => `no items: ${text()}`)
      return 'answered'
  }
}

export const facilitatorTarget: Target<Case> = {
  name: 'facilitator',
  share: 0.3,
  // Most of a case is waiting for facilitators that are silent.
  lanes: 32,
  cases,
  open: async count => ({ try: one => tryCase(one, count), close: async () => {} }),
}
