/** The status of an aggregator as JSON, and the few things that an operator may do to it. */
import type { AggregatorConfig, FacilitatorAggregator, HealthStatus } from '../aggregator.ts'
import { AggregatorError } from '../errors.ts'
import type { LogEntry } from '../observe/log.ts'
import { safeMessageOf } from '../observe/redact.ts'
import { unknownName } from '../options/unknown-name.ts'
import type { Statistics } from '../pool/status.ts'
import { readText } from '../runtime/read-text.ts'
import type { UnresolvedSettlement } from '../settlement/events.ts'
import { Access } from './access.ts'
import { type Answer, problem } from './answers.ts'
import { crossSite, wrongContentType } from './request-checks.ts'

/** What `GET` answers; the parts that `include` leaves out are absent. */
export interface Status {
  /** Whether there is more than the first facilitator. */
  enabled: boolean
  /** ISO 8601. */
  timestamp: string
  health?: HealthStatus
  statistics?: Statistics
  logs?: LogEntry[]
  config?: AggregatorConfig
  /** Payments that may have been charged and were not delivered: one page of them. */
  unresolvedSettlements?: UnresolvedSettlement[]
  /** How many there are on all pages. */
  unresolvedTotal?: number
  /** The value of `settlementsAfter` that shows the next page; absent on the last. */
  nextSettlementsAfter?: string
  /** Why the ledger could not list them. */
  ledgerProblem?: string
}

export interface StatusHandlerOptions {
  /**
   * `Authorization: Bearer <token>` is needed, or `sha256:` and the token's digest. Without a token everything is refused,
   * but for what `public` and `isAuthorized` allow.
   */
  token?: string | undefined
  /** Decides who may ask, instead of a token: `true`, or the operator's name, which is logged with what was done. */
  isAuthorized?: ((request: Request) => boolean | string | Promise<boolean | string>) | undefined
  /**
   * Shows the status (`GET`) to everybody: payers, amounts and facilitators. `POST` still needs the token.
   * @default false
   */
  public?: boolean | undefined
}

type Permission = boolean | string

const optionNames = ['token', 'isAuthorized', 'public']
const parts = ['health', 'stats', 'logs', 'config', 'settlements'] as const
type Part = (typeof parts)[number]
const parameters = ['include', 'logLimit', 'settlementLimit', 'settlementsAfter']
const actions = ['check-health', 'enable', 'disable', 'close-settlement'] as const
const defaultLimit = 100
const maxSettlements = 1_000
const maxBodyBytes = 65_536

class BadRequest extends Error {}

/**
 * `GET` shows health, statistics, logs, configuration and unresolved settlements (`?include=health,stats`,
 * `&logLimit=50`, 100 by default, `&settlementLimit=50&settlementsAfter=<key>`); `POST` takes
 * `{ "action": "check-health" | "enable" | "disable", "facilitator": "<id>" }` and, after a payment was delivered or
 * refunded by hand, `{ "action": "close-settlement", "key": "<key>" }`. Both need the token. It looks at no path, so that
 * it can be mounted anywhere.
 *
 * @throws {TypeError} for an option that does not exist
 *
 * @example
 * ```ts
 * // app/api/facilitator-status/route.ts
 * const handler = createStatusHandler(aggregator, { token: process.env.STATUS_TOKEN })
 * export { handler as GET, handler as POST }
 * ```
 */
export function createStatusHandler(
  aggregator: FacilitatorAggregator,
  options: StatusHandlerOptions = {},
): (request: Request) => Promise<Response> {
  const unknown = Object.keys(options).find(name => !optionNames.includes(name))
  if (unknown !== undefined) throw new TypeError(`createStatusHandler: ${unknownName(unknown, optionNames)}`)
  const { token, isAuthorized, public: isPublic = false } = options
  const access = new Access(token ? [{ token, role: 'admin', name: 'status' }] : [])
  const permissionOf = async (request: Request): Promise<Permission> => {
    if (isAuthorized !== undefined) return isAuthorized(request)
    const caller = await access.callerOf(request)
    return caller.kind === 'token' && caller.name
  }
  return async request => {
    const permission = await permissionOf(request)
    const isPost = request.method === 'POST'
    if (!permission && (isPost || !isPublic)) return send(unauthorized)
    // A browser adds the cookies that an app may tell its operators by.
    const refusal = isPost ? (crossSite(request, []) ?? wrongContentType(request)) : undefined
    if (refusal !== undefined) return send(refusal)
    return answerStatus(aggregator, request, typeof permission === 'string' ? permission : undefined)
  }
}

const unauthorized = problem(
  401,
  'UNAUTHORIZED',
  'the status needs its token: set one (createStatusHandler(aggregator, { token })), and send ' +
    'Authorization: Bearer …; GET is open with { public: true }',
)

/**
 * Answers who may see the status or, by POST, change it.
 *
 * @param by their name, for the log
 */
export async function answerStatus(
  aggregator: FacilitatorAggregator,
  request: Request,
  by = 'an operator',
): Promise<Response> {
  try {
    switch (request.method) {
      case 'GET':
      case 'HEAD':
        return json(200, await statusOf(aggregator, new URL(request.url).searchParams))
      case 'POST':
        return json(200, await act(aggregator, (await readText(request.body, maxBodyBytes)) ?? '', by))
      default:
        return json(
          405,
          { error: 'METHOD_NOT_ALLOWED', message: 'there are GET and POST' },
          { allow: 'GET, POST' },
        )
    }
  } catch (error) {
    if (error instanceof BadRequest) return json(400, { error: 'INVALID_REQUEST', message: error.message })
    if (error instanceof AggregatorError)
      return json(error.code === 'INVALID_OPTIONS' ? 400 : 503, {
        error: error.code,
        message: error.message,
      })
    return json(500, { error: 'INTERNAL_ERROR', message: 'the status met a fault of its own' })
  }
}

async function statusOf(aggregator: FacilitatorAggregator, query: URLSearchParams): Promise<Status> {
  for (const name of query.keys())
    if (!parameters.includes(name))
      throw new BadRequest(`${name} is not a parameter; there are ${parameters.join(', ')}`)
  const wanted = readParts(query.get('include'))
  const logLimit = readLimit(query, 'logLimit')
  const settlementLimit = readLimit(query, 'settlementLimit', maxSettlements)
  const config = aggregator.getConfig()
  return {
    enabled: config.enabled,
    timestamp: new Date().toISOString(),
    ...(wanted.has('health') && { health: usedHealth(aggregator) }),
    ...(wanted.has('stats') && { statistics: aggregator.getStatistics() }),
    ...(wanted.has('logs') && { logs: aggregator.getRecentLogs(logLimit) }),
    ...(wanted.has('config') && { config }),
    ...(wanted.has('settlements') &&
      (await settlementsOf(aggregator, settlementLimit, query.get('settlementsAfter') ?? ''))),
  }
}

/** Health without the lanes that no attempt has used: a route that was only planned makes lanes too. */
function usedHealth(aggregator: FacilitatorAggregator): HealthStatus {
  const health = aggregator.getHealthStatus()
  const { facilitators: counts } = aggregator.getStatistics()
  return {
    ...health,
    facilitators: health.facilitators.map((facilitator, place) => ({
      ...facilitator,
      lanes: facilitator.lanes.filter(
        ({ operation, circuit, consecutiveFailures }) =>
          circuit !== 'closed' || consecutiveFailures > 0 || counts[place]?.operations[operation] !== 0,
      ),
    })),
  }
}

/** One page, in the order of the keys, so that what is resolved meanwhile moves no other to another page. */
async function settlementsOf(
  aggregator: FacilitatorAggregator,
  limit: number,
  after: string,
): Promise<Partial<Status>> {
  let all: UnresolvedSettlement[]
  try {
    all = await aggregator.getUnresolvedSettlements()
  } catch (error) {
    // The status is needed most when something is down.
    return { ledgerProblem: safeMessageOf(error) }
  }
  const left = all.filter(({ key }) => key > after).sort((one, other) => (one.key < other.key ? -1 : 1))
  const page = left.slice(0, limit)
  const last = page.at(-1)?.key
  return {
    unresolvedSettlements: page,
    unresolvedTotal: all.length,
    ...(last !== undefined && page.length < left.length && { nextSettlementsAfter: last }),
  }
}

function readParts(include: string | null): Set<Part> {
  if (include === null) return new Set(parts)
  const wanted = include.split(',').map(part => part.trim())
  const unknown = wanted.find(part => !parts.includes(part as Part))
  if (unknown === undefined) return new Set(wanted as Part[])
  throw new BadRequest(`include: "${unknown}" is not a part; there are ${parts.join(', ')}`)
}

function readLimit(query: URLSearchParams, name: string, most?: number): number {
  const limit = query.get(name)
  if (limit === null) return defaultLimit
  if (/^\d{1,9}$/.test(limit) && (most === undefined || Number(limit) <= most)) return Number(limit)
  const range = most === undefined ? 'from 0' : `from 0 to ${most}`
  throw new BadRequest(`${name}: expected a whole number ${range}, got "${limit}"`)
}

async function act(aggregator: FacilitatorAggregator, text: string, by: string): Promise<object> {
  const { action, facilitator, key } = readAction(text)
  switch (action) {
    case 'check-health':
      return { action, health: await aggregator.checkHealth(facilitator, by) }
    case 'enable':
    case 'disable':
      if (facilitator === undefined)
        throw new BadRequest(`facilitator: expected the id of the one to ${action}`)
      aggregator.setFacilitatorEnabled(facilitator, action === 'enable', by)
      return { action, health: aggregator.getHealthStatus() }
    case 'close-settlement':
      if (key === undefined)
        throw new BadRequest('key: expected the key of an unresolved settlement, as GET shows it')
      return (await aggregator.closeSettlement(key, by))
        ? { action, isClosed: true }
        : { action, isClosed: false, message: 'no unresolved settlement has this key' }
  }
}

interface Action {
  action: (typeof actions)[number]
  facilitator: string | undefined
  key: string | undefined
}

function readAction(text: string): Action {
  let body: Record<string, unknown>
  try {
    body = Object(JSON.parse(text))
  } catch {
    throw new BadRequest(`the body is not JSON; expected {"action": "${actions[0]}"}`)
  }
  const { action, facilitator, key, ...others } = body
  const [unknown] = Object.keys(others)
  if (unknown !== undefined)
    throw new BadRequest(`${unknown} is not a field; there are action, facilitator and key`)
  const known = actions.find(name => name === action)
  if (known === undefined)
    throw new BadRequest(`action: ${JSON.stringify(action)} is not one; there are ${actions.join(', ')}`)
  if (facilitator !== undefined && typeof facilitator !== 'string')
    throw new BadRequest('facilitator: expected an id')
  if (key !== undefined && typeof key !== 'string') throw new BadRequest('key: expected a text')
  return { action: known, facilitator, key }
}

function send({ status, body, headers }: Answer): Response {
  return json(status, body, headers)
}

function json(status: number, body: object, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { 'cache-control': 'no-store', ...headers } })
}
