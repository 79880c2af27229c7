/** A facilitator to the outside, an aggregator inside: for servers in any language. */

import { type Context, Hono, type Next } from 'hono'
import { requestId } from 'hono/request-id'
import { secureHeaders } from 'hono/secure-headers'
import type { FacilitatorAggregator } from '../aggregator.ts'
import type { DiscoveryQuery } from '../facilitator/client.ts'
import type { AnswerStore } from '../ledgers/answer-store.ts'
import { unknownName } from '../options/unknown-name.ts'
import { writeJson } from '../runtime/json.ts'
import { readText } from '../runtime/read-text.ts'
import { Access, type Caller, type GatewayToken, mayAct, type Role } from './access.ts'
import {
  type Answer,
  answerTo,
  neverRefused,
  type PaymentBody,
  problem,
  readBody,
  retryable,
} from './answers.ts'
import { ClientAddresses, type ConnectionAddress, isLoopback } from './client-address.ts'
import { IdempotentAnswers, maxAnswers } from './idempotency.ts'
import { PaymentIdentifiers } from './payment-identifiers.ts'
import { defaultRateLimit, RateLimit, type RateLimitOptions } from './rate-limit.ts'
import { readiness } from './readiness.ts'
import { readHost, refusalOf } from './request-checks.ts'
import { answerStatus } from './status.ts'
import { VerifiedPayments } from './verified-payments.ts'

export interface GatewayOptions {
  /**
   * Who may ask, and for what: `Authorization: Bearer <one of these>`. A text is a token with the role `pay`. Without
   * any, everybody who reaches the gateway may pay and read, and nobody is an administrator.
   * @default []
   */
  tokens?: readonly (string | GatewayToken)[]
  /**
   * The names under which the gateway is asked, beside those of this machine; other `Host` headers are refused. Without
   * it a gateway without tokens takes only the machine's own names from this machine, as a web page may have its name lead
   * here. Give the name that a reverse proxy is asked by.
   */
  allowedHosts?: readonly string[]
  /**
   * Where the gateway is mounted, such as `/facilitator`.
   * @default '/'
   */
  basePath?: string
  /**
   * Where the status is, under `basePath`; `false` for nowhere.
   * @default '/api/facilitator-status'
   */
  statusPath?: string | false
  /**
   * The longest request body, in bytes.
   * @default 262144
   */
  maxBodyBytes?: number
  /**
   * How many requests one client may make: `perSecond` in the long run, and `burst` at once (five times as many by
   * default). A client is a token, or without one an address, of IPv6 a network (/64). The settle of a payment that this
   * gateway has found valid in the last 15 minutes is never refused for it. `false` for no limit.
   * @default for those without a token { perSecond: 100 }, for those with one none
   */
  rateLimit?: RateLimitOptions | false
  /**
   * Addresses, or ranges such as `10.0.0.0/8`, of the proxies in front whose `X-Forwarded-For` names a client's address.
   * @default []
   */
  trustedProxies?: readonly string[]
  /**
   * Returns the address of a request's connection, for runtimes other than Node.js (`@hono/node-server`), Bun and Deno:
   * on Workers `request => request.headers.get('cf-connecting-ip')`. All clients without an address share one limit.
   * @default of Node.js, Bun and Deno
   */
  connectionAddress?: ConnectionAddress
  /**
   * Milliseconds for which the answer to a settle with an `Idempotency-Key` is kept, and the charge for a purchase that
   * its buyer has named (`payment-identifier`) is remembered, in memory.
   * @default 86400000
   */
  idempotencyMs?: number
  /**
   * Where these answers are kept for all replicas of this gateway, such as `answers` of a `redisLedger`. Without it each
   * knows its own only, in memory.
   */
  answers?: AnswerStore
}

/** What Workers hand over with a request: a settle goes on when its caller has left. */
export interface RequestContext {
  waitUntil(work: Promise<unknown>): void
}

/** A server of `fetch`, as Workers, Bun and Deno take it, and as Hono and Express mount it. */
export interface Gateway {
  fetch(request: Request, env?: object, context?: RequestContext): Response | Promise<Response>
  /** From now on, new requests are answered 503; those in flight are finished. */
  drain(): void
  /** Whether a token is needed. */
  readonly isProtected: boolean
  /** How many requests a client may make, in words. */
  readonly rateLimit: string
}

const longestKey = 255
const paths = 'POST /verify, POST /settle, GET /supported and GET /discovery/resources'

/**
 * A handler that answers as a facilitator does: `POST /verify`, `POST /settle`, `GET /supported`,
 * `GET /discovery/resources`, with `GET /healthz`, `GET /readyz` and the status beside them.
 *
 * A settlement whose outcome is not known is answered 200 with a body that is not the protocol's: upstream's clients
 * (TypeScript, Python, Go) take that, and nothing else, for "the facilitator could not answer", so that the buyer sees
 * a 502 and is not asked to sign again.
 *
 * @example
 * ```ts
 * const gateway = createGateway(aggregator, { tokens: ['secret'] })
 * export default gateway
 * ```
 */
export function createGateway(aggregator: FacilitatorAggregator, options: GatewayOptions = {}): Gateway {
  if (typeof aggregator?.settle !== 'function')
    throw new TypeError('createGateway: expected a FacilitatorAggregator')
  checkOptions(options)
  const access = new Access(options.tokens ?? [])
  const addresses = new ClientAddresses(options.trustedProxies ?? [], options.connectionAddress)
  const limit = options.rateLimit === false ? undefined : new RateLimit(options.rateLimit ?? defaultRateLimit)
  const verified = new VerifiedPayments()
  const idempotencyMs = options.idempotencyMs ?? 86_400_000
  const answers = new AnswersByToken(idempotencyMs, options.answers)
  const identifiers = new PaymentIdentifiers(idempotencyMs)
  const maxBodyBytes = options.maxBodyBytes ?? 262_144
  const allowedHosts = options.allowedHosts?.map(readHost)
  let isDraining = false

  const app = new Hono<{ Variables: Variables }>().basePath(options.basePath ?? '/')
  app.use(requestId(), secureHeaders())
  // A connection that is kept busy would keep the server from closing.
  app.use(async (context, next) => {
    await next()
    if (isDraining) context.header('connection', 'close')
  })
  app.use(async (context, next) => {
    const { req, env } = context
    // By which name a client asks does not matter where it needs a token, which no web page has.
    const isLocal = !access.isProtected && isLoopback(addresses.peerOf(req.raw, env))
    const refusal = refusalOf(req.raw, env, { allowedHosts, isLocal })
    return refusal === undefined ? next() : send(context, refusal)
  })
  app.get('/healthz', context => context.json({ status: 'alive' }))
  app.get('/readyz', context => {
    const { isReady, reasons } = readiness(aggregator.getHealthStatus(), isDraining)
    return context.json({ status: isReady ? 'ready' : 'not ready', reasons }, isReady ? 200 : 503)
  })

  app.use(async (context, next) => {
    const caller = await access.callerOf(context.req.raw)
    const client =
      caller.kind === 'token' ? `token ${caller.name}` : addresses.of(context.req.raw, context.env)
    context.set('caller', caller)
    context.set('client', client)
    if (caller.kind === 'stranger') return send(context, overRate(caller, client) ?? unauthorized)
    return next()
  })

  const rateLimit = describeLimit(limit, access.isProtected && options.rateLimit === undefined)
  const tooMany = problem(429, 'RATE_LIMITED', `too many requests: this gateway takes ${rateLimit}`)
  const overRate = (caller: Caller, client: string): Answer | undefined => {
    const isUnlimited = caller.kind === 'token' && options.rateLimit === undefined
    const waitMs = isUnlimited ? 0 : (limit?.take(client) ?? 0)
    return waitMs > 0 ? retryable(tooMany, waitMs) : undefined
  }
  /** What any client may be answered at any time, whatever it asks for. */
  const refusalNow = ({ get }: GatewayContext): Answer | undefined =>
    overRate(get('caller'), get('client')) ?? (isDraining ? shuttingDown : undefined)
  const mustBe = (role: Role) => async (context: GatewayContext, next: Next) =>
    mayAct(context.get('caller'), role) ? next() : send(context, forbidden(context.get('caller'), role))

  // Not hono's bodyLimit: it copies a request without a length, and that of @hono/node-server cannot be copied.
  const bodyOf = async ({ req: { raw } }: Context) => {
    const isTooLong = Number(raw.headers.get('content-length')) > maxBodyBytes
    // Who breaks off has sent nothing.
    const text = isTooLong ? undefined : await readText(raw.body, maxBodyBytes).catch(() => '')
    return text === undefined ? ({ kind: 'wrong', answer: tooLarge } as const) : { ...readBody(text), text }
  }
  const tooLarge = problem(413, 'TOO_LARGE', `the body is longer than ${maxBodyBytes} bytes`)
  const operate = (operation: 'verify' | 'settle', { paymentPayload, paymentRequirements }: PaymentBody) =>
    answerTo(() => aggregator[operation](paymentPayload, paymentRequirements))

  // Before what refuses the others: a payment that was found valid is settled in any case, as the goods are made by then.
  app.post('/settle', mustBe('pay'), async context => {
    const body = await bodyOf(context)
    const isVerified = body.kind === 'payment' && verified.takeSettle(body.paymentPayload)
    const refusal = isVerified ? undefined : refusalNow(context)
    if (refusal !== undefined) return send(context, refusal)
    if (body.kind === 'wrong') return send(context, body.answer)
    const key = context.req.header('idempotency-key')
    if (key === '' || (key !== undefined && key.length > longestKey))
      return send(
        context,
        problem(400, 'INVALID_REQUEST', `Idempotency-Key: expected 1 to ${longestKey} characters`),
      )
    const settle = () => identifiers.settle(context.get('client'), body, () => operate('settle', body))
    const answer = await (key === undefined
      ? settle()
      : answers.of(context.get('caller')).once(`${context.get('client')} ${key}`, body.text, settle))
    return send(context, isVerified ? neverRefused(answer) : answer)
  })

  app.use(async (context, next) => {
    const refusal = refusalNow(context)
    return refusal === undefined ? next() : send(context, refusal)
  })
  app.post('/verify', mustBe('pay'), async context => {
    const body = await bodyOf(context)
    if (body.kind === 'wrong') return send(context, body.answer)
    const answer = await identifiers.verify(context.get('client'), body, () => operate('verify', body))
    if ((answer.body as { isValid?: boolean }).isValid === true) verified.add(body.paymentPayload)
    return send(context, answer)
  })
  app.get('/supported', mustBe('pay'), async context =>
    send(context, await answerTo(() => aggregator.getSupported())),
  )
  app.get('/discovery/resources', mustBe('pay'), async context =>
    send(context, await answerTo(() => aggregator.list(context.req.query() as DiscoveryQuery))),
  )
  if (options.statusPath !== false)
    app.all(options.statusPath ?? '/api/facilitator-status', context => {
      const caller = context.get('caller')
      const need = context.req.method === 'POST' ? 'admin' : 'read'
      if (!mayAct(caller, need)) return send(context, forbidden(caller, need))
      return answerStatus(aggregator, context.req.raw, caller.kind === 'token' ? caller.name : undefined)
    })

  app.notFound(context => send(context, problem(404, 'NOT_FOUND', `there are ${paths}`)))
  app.onError((_error, context) =>
    send(context, problem(500, 'INTERNAL_ERROR', 'the gateway met a fault of its own')),
  )

  return {
    fetch(request, env, requestContext) {
      const response = app.fetch(request, env)
      if (response instanceof Promise) requestContext?.waitUntil(response.then(() => {}))
      return response
    },
    drain() {
      isDraining = true
    },
    isProtected: access.isProtected,
    rateLimit,
  }
}

function describeLimit(limit: RateLimit | undefined, areTokensExempt: boolean): string {
  if (limit === undefined) return 'no limit of requests'
  const rate = `${limit.perSecond} requests a second (${limit.burst} at once)`
  return areTokensExempt ? `${rate} for an address without a token` : `${rate} for each client`
}

interface Variables {
  caller: Caller
  client: string
}
type GatewayContext = Context<{ Variables: Variables }>

/** The answers of each token apart, so that nobody can push out another one's. */
class AnswersByToken {
  readonly #answers = new Map<string, IdempotentAnswers>()

  constructor(
    private readonly keepMs: number,
    private readonly store: AnswerStore | undefined,
  ) {}

  of(caller: Caller): IdempotentAnswers {
    const name = caller.kind === 'token' ? caller.name : ''
    const answers = this.#answers.get(name) ?? new IdempotentAnswers(this.keepMs, maxAnswers, this.store)
    this.#answers.set(name, answers)
    return answers
  }
}

const shuttingDown = retryable(problem(503, 'SHUTTING_DOWN', 'the gateway is shutting down'), 1_000)
const unauthorized = problem(
  401,
  'UNAUTHORIZED',
  'no token, or one that this gateway does not know: send Authorization: Bearer …',
)

function forbidden(caller: Caller, need: Role): Answer {
  const needed = need === 'admin' ? 'the role admin' : `the role ${need} or admin`
  return caller.kind === 'token'
    ? problem(
        403,
        'FORBIDDEN',
        `the token "${caller.name}" has the role ${caller.role}; this needs one with ${needed}`,
      )
    : problem(
        401,
        'UNAUTHORIZED',
        `this needs a token with ${needed}, and the gateway has none: give it one (FACILITATOR_GATEWAY_ADMIN_TOKEN, or ` +
          'the option tokens)',
      )
}

const optionNames = [
  'tokens',
  'allowedHosts',
  'basePath',
  'statusPath',
  'maxBodyBytes',
  'rateLimit',
  'trustedProxies',
  'connectionAddress',
  'idempotencyMs',
  'answers',
]

/** @throws {TypeError} for what would leave the gateway open, or shut, without anybody noticing */
function checkOptions(options: GatewayOptions): void {
  const unknown = Object.keys(options).find(name => !optionNames.includes(name))
  if (unknown !== undefined) throw new TypeError(`createGateway: ${unknownName(unknown, optionNames)}`)
  for (const name of ['maxBodyBytes', 'idempotencyMs'] as const) {
    const value = options[name]
    if (value !== undefined && !(Number.isInteger(value) && value > 0))
      throw new TypeError(`createGateway: ${name}: expected a whole number above 0, got ${value}`)
  }
  for (const name of ['allowedHosts', 'trustedProxies'] as const) {
    const value: unknown = options[name]
    if (value !== undefined && !(Array.isArray(value) && value.every(text => typeof text === 'string')))
      throw new TypeError(`createGateway: ${name}: expected a list of texts`)
  }
}

function send(context: Context, { status, body, headers }: Answer): Response {
  const complete = { ...body, ...('error' in body && { requestId: context.get('requestId') }) }
  return context.body(writeJson(complete), status, {
    'content-type': 'application/json',
    'cache-control': 'no-store',
    ...headers,
  })
}
