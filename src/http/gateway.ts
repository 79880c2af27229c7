/** A facilitator to the outside, an aggregator inside: for servers in any language. */

import { type Context, Hono } from 'hono'
import { requestId } from 'hono/request-id'
import { secureHeaders } from 'hono/secure-headers'
import type { FacilitatorAggregator } from '../aggregator.ts'
import type { DiscoveryQuery } from '../facilitator/client.ts'
import { unknownOption } from '../options/unknown-option.ts'
import { writeJson } from '../runtime/json.ts'
import { readText } from '../runtime/read-text.ts'
import { Access } from './access.ts'
import { type Answer, answerTo, problem, readBody } from './answers.ts'
import { IdempotentAnswers } from './idempotency.ts'
import { RateLimit } from './rate-limit.ts'
import { readiness } from './readiness.ts'
import { createStatusHandler } from './status.ts'

export interface GatewayOptions {
  /** Who may ask: `Authorization: Bearer <one of these>`. Without any, everybody who reaches the gateway may. */
  tokens?: readonly string[]
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
   * How many requests one client may make: `perSecond` in the long run, and `burst` at once. A client is a token,
   * or without tokens an address, where `@hono/node-server` tells it. A settle with a token is never limited. `false`
   * for no limit.
   * @default { perSecond: 100, burst: 500 }
   */
  rateLimit?: { perSecond: number; burst: number } | false
  /**
   * Milliseconds for which the answer to a settle with an `Idempotency-Key` is kept, in memory.
   * @default 86400000
   */
  idempotencyMs?: number
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
  checkOptions(options)
  const access = new Access(options.tokens ?? [])
  const limit =
    options.rateLimit === false
      ? undefined
      : new RateLimit(options.rateLimit ?? { perSecond: 100, burst: 500 })
  const answers = new IdempotentAnswers(options.idempotencyMs ?? 86_400_000)
  const maxBodyBytes = options.maxBodyBytes ?? 262_144
  let isDraining = false

  const app = new Hono<{ Variables: { client: string } }>().basePath(options.basePath ?? '/')
  app.use(requestId(), secureHeaders())
  // A connection that is kept busy would keep the server from closing.
  app.use(async (context, next) => {
    await next()
    if (isDraining) context.header('connection', 'close')
  })
  app.get('/healthz', context => context.json({ status: 'alive' }))
  app.get('/readyz', context => {
    const { isReady, reasons } = readiness(aggregator.getHealthStatus(), isDraining)
    return context.json({ status: isReady ? 'ready' : 'not ready', reasons }, isReady ? 200 : 503)
  })

  app.use(async (context, next) => {
    const { client, isAllowed } = await access.check(context.req.raw, context.env)
    // A settle of one who was let through at verify is not refused: the goods are made by then.
    const isExempt = access.isProtected && isAllowed && context.req.path.endsWith('/settle')
    const waitMs = isExempt ? 0 : (limit?.take(client) ?? 0)
    if (waitMs > 0) return send(context, problem(429, 'RATE_LIMITED', 'too many requests', waitMs))
    if (!isAllowed)
      return send(context, problem(401, 'UNAUTHORIZED', 'give a token: Authorization: Bearer …'))
    if (isDraining) return send(context, problem(503, 'SHUTTING_DOWN', 'the gateway is shutting down', 1_000))
    context.set('client', client)
    return next()
  })
  if (options.statusPath !== false) {
    const status = createStatusHandler(aggregator, { isAuthorized: () => access.isProtected })
    app.all(options.statusPath ?? '/api/facilitator-status', context => status(context.req.raw))
  }

  // Not hono's bodyLimit: it copies a request without a length, and that of @hono/node-server cannot be copied.
  // Who breaks off has sent nothing.
  const bodyOf = async ({ req: { raw } }: Context) =>
    Number(raw.headers.get('content-length')) > maxBodyBytes
      ? undefined
      : readText(raw.body, maxBodyBytes).catch(() => '')
  const tooLarge = problem(413, 'TOO_LARGE', `the body is longer than ${maxBodyBytes} bytes`)
  const pay = (operation: 'verify' | 'settle', text: string) =>
    answerTo(async () => {
      const { paymentPayload, paymentRequirements } = readBody(text)
      return aggregator[operation](paymentPayload, paymentRequirements)
    })
  app.post('/verify', async context => {
    const text = await bodyOf(context)
    return send(context, text === undefined ? tooLarge : await pay('verify', text))
  })
  app.post('/settle', async context => {
    const text = await bodyOf(context)
    if (text === undefined) return send(context, tooLarge)
    const key = context.req.header('idempotency-key')
    if (key === undefined) return send(context, await pay('settle', text))
    if (key === '' || key.length > longestKey)
      return send(
        context,
        problem(400, 'INVALID_REQUEST', `Idempotency-Key: expected 1 to ${longestKey} characters`),
      )
    const scope = `${context.get('client')} ${key}`
    return send(context, await answers.once(scope, text, () => pay('settle', text)))
  })
  app.get('/supported', async context => send(context, await answerTo(() => aggregator.getSupported())))
  app.get('/discovery/resources', async context =>
    send(context, await answerTo(() => aggregator.list(context.req.query() as DiscoveryQuery))),
  )

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
  }
}

const optionNames = ['tokens', 'basePath', 'statusPath', 'maxBodyBytes', 'rateLimit', 'idempotencyMs']

/** @throws {TypeError} for what would leave the gateway open, or shut, without anybody noticing */
function checkOptions(options: GatewayOptions): void {
  const unknown = Object.keys(options).find(name => !optionNames.includes(name))
  if (unknown !== undefined) throw new TypeError(`createGateway: ${unknownOption(unknown, optionNames)}`)
  for (const name of ['maxBodyBytes', 'idempotencyMs'] as const) {
    const value = options[name]
    if (value !== undefined && !(Number.isInteger(value) && value > 0))
      throw new TypeError(`createGateway: ${name}: expected a whole number above 0, got ${value}`)
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
