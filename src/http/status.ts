/** The status of an aggregator as JSON, and the few things that an operator may do to it. */
import type { AggregatorConfig, FacilitatorAggregator } from '../aggregator.ts'
import { AggregatorError } from '../errors.ts'
import type { LogEntry } from '../observe/log.ts'
import { safeMessageOf } from '../observe/redact.ts'
import type { HealthStatus, Statistics } from '../pool/status.ts'
import { readText } from '../runtime/read-text.ts'
import type { UnresolvedSettlement } from '../settlement/resolver.ts'
import { Access } from './access.ts'

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
  /** Payments that may have been charged and were not delivered. */
  unresolvedSettlements?: UnresolvedSettlement[]
  /** Why the ledger could not tell them. */
  ledgerProblem?: string
}

export interface StatusHandlerOptions {
  /** `POST` needs `Authorization: Bearer <token>`. Without a token, `POST` is refused. */
  token?: string | undefined
  /** Decides who may `POST`, instead of a token. */
  isAuthorized?: ((request: Request) => boolean | Promise<boolean>) | undefined
}

const parts = ['health', 'stats', 'logs', 'config', 'settlements'] as const
type Part = (typeof parts)[number]
const parameters = ['include', 'logLimit']
const actions = ['check-health', 'enable', 'disable', 'close-settlement'] as const
const defaultLogLimit = 100
const maxBodyBytes = 65_536

class BadRequest extends Error {}

/**
 * `GET` shows health, statistics, logs, configuration and unresolved settlements (`?include=health,stats`,
 * `&logLimit=50`); `POST` takes `{ "action": "check-health" | "enable" | "disable", "facilitator": "<id>" }` and, after
 * a payment was delivered or refunded by hand, `{ "action": "close-settlement", "key": "<key>" }`. It looks at no path,
 * so that it can be mounted anywhere.
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
  return async request => {
    try {
      switch (request.method) {
        case 'GET':
        case 'HEAD':
          return json(200, await statusOf(aggregator, new URL(request.url).searchParams))
        case 'POST':
          if (!(await mayPost(request, options)))
            return json(
              401,
              {
                error: 'UNAUTHORIZED',
                message:
                  'POST needs a token: set one (FACILITATOR_GATEWAY_TOKEN, or the option), and send Authorization: Bearer …',
              },
              { 'www-authenticate': 'Bearer' },
            )
          // Who breaks off has sent nothing.
          return json(
            200,
            await act(aggregator, (await readText(request.body, maxBodyBytes).catch(() => '')) ?? ''),
          )
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
}

async function statusOf(aggregator: FacilitatorAggregator, query: URLSearchParams): Promise<Status> {
  for (const name of query.keys())
    if (!parameters.includes(name))
      throw new BadRequest(`${name} is not a parameter; there are ${parameters.join(', ')}`)
  const wanted = readParts(query.get('include'))
  const logLimit = readLogLimit(query.get('logLimit'))
  const config = aggregator.getConfig()
  return {
    enabled: config.enabled,
    timestamp: new Date().toISOString(),
    ...(wanted.has('health') && { health: aggregator.getHealthStatus() }),
    ...(wanted.has('stats') && { statistics: aggregator.getStatistics() }),
    ...(wanted.has('logs') && { logs: aggregator.getRecentLogs(logLimit) }),
    ...(wanted.has('config') && { config }),
    ...(wanted.has('settlements') && (await settlementsOf(aggregator))),
  }
}

/** The status is needed most when something is down. */
async function settlementsOf(
  aggregator: FacilitatorAggregator,
): Promise<Pick<Status, 'unresolvedSettlements' | 'ledgerProblem'>> {
  try {
    return { unresolvedSettlements: await aggregator.getUnresolvedSettlements() }
  } catch (error) {
    return { ledgerProblem: safeMessageOf(error) }
  }
}

function readParts(include: string | null): Set<Part> {
  if (include === null) return new Set(parts)
  const wanted = include.split(',').map(part => part.trim())
  const unknown = wanted.find(part => !parts.includes(part as Part))
  if (unknown === undefined) return new Set(wanted as Part[])
  throw new BadRequest(`include: "${unknown}" is not a part; there are ${parts.join(', ')}`)
}

function readLogLimit(limit: string | null): number {
  if (limit === null) return defaultLogLimit
  if (/^\d{1,9}$/.test(limit)) return Number(limit)
  throw new BadRequest(`logLimit: expected a whole number from 0, got "${limit}"`)
}

async function mayPost(request: Request, { token, isAuthorized }: StatusHandlerOptions): Promise<boolean> {
  if (isAuthorized !== undefined) return isAuthorized(request)
  if (token === undefined || token === '') return false
  return (await new Access([token]).check(request)).isAllowed
}

async function act(aggregator: FacilitatorAggregator, text: string): Promise<object> {
  const { action, facilitator, key } = readAction(text)
  switch (action) {
    case 'check-health':
      return { action, health: await aggregator.checkHealth(facilitator) }
    case 'enable':
    case 'disable':
      if (facilitator === undefined)
        throw new BadRequest(`facilitator: expected the id of the one to ${action}`)
      aggregator.setFacilitatorEnabled(facilitator, action === 'enable')
      return { action, health: aggregator.getHealthStatus() }
    case 'close-settlement':
      if (key === undefined)
        throw new BadRequest('key: expected the key of an unresolved settlement, as GET shows it')
      return { action, isClosed: await aggregator.closeSettlement(key) }
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

function json(status: number, body: object, headers: Record<string, string> = {}): Response {
  return Response.json(body, { status, headers: { 'cache-control': 'no-store', ...headers } })
}
