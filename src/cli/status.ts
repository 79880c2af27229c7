/** `x402-aggregator status`: a running gateway, as a table that keeps itself up to date. */
import { setTimeout as sleep } from 'node:timers/promises'
import { networkProblem } from '../facilitator/classify.ts'
import type { Status } from '../http/index.ts'
import { readArguments } from './arguments.ts'
import { readingToken } from './gateway-options.ts'
import { printable, printableJson } from './printable.ts'
import { table } from './table.ts'
import { UsageError } from './usage-error.ts'

const help = `usage: x402-aggregator status <url> [options]

Shows health and statistics of a running gateway, anew every few seconds until Ctrl-C; once where the output is not a
terminal. FACILITATOR_GATEWAY_READ_TOKEN, or FACILITATOR_GATEWAY_ADMIN_TOKEN, holds the token, if the gateway needs one.

options:
  --interval <seconds>   2 by default
  --once                 show it once
  --json                 the status as JSON, once
  --help

example:
  x402-aggregator status http://127.0.0.1:4020`

export async function status(args: string[]): Promise<number> {
  const { values, positionals } = readArguments({
    args,
    allowPositionals: true,
    options: {
      interval: { type: 'string', default: '2' },
      once: { type: 'boolean', default: false },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const url = readUrl(positionals)
  const seconds = Number(values.interval)
  if (!(seconds > 0 && seconds <= 86_400))
    throw new UsageError(`--interval: expected seconds above 0, got "${values.interval}"`)

  if (values.json) {
    console.log(printableJson(await fetchStatus(url)))
    return 0
  }
  // The table shows their number only.
  url.searchParams.set('settlementLimit', '0')
  const isLive = process.stdout.isTTY && !values.once
  do {
    const text = readable(url, await fetchStatus(url))
    console.log(isLive ? `\x1b[2J\x1b[H${text}` : text)
    if (isLive) await sleep(seconds * 1000)
  } while (isLive)
  return 0
}

function readUrl([text, ...others]: string[]): URL {
  if (text === undefined || others.length > 0)
    throw new UsageError('status: give one URL, such as http://127.0.0.1:4020')
  let url: URL
  try {
    url = new URL(text)
  } catch {
    throw new UsageError(`status: "${text}" is not a URL; expected something like http://127.0.0.1:4020`)
  }
  if (url.username + url.password !== '')
    throw new UsageError(
      'status: the URL carries credentials: give the token by FACILITATOR_GATEWAY_READ_TOKEN',
    )
  if (url.pathname === '/') url.pathname = '/api/facilitator-status'
  url.search = '?include=health,stats,settlements'
  return url
}

async function fetchStatus(url: URL): Promise<Status> {
  const given = readingToken(process.env)
  let response: Response
  try {
    response = await fetch(url, {
      headers: given ? { authorization: `Bearer ${given.token}` } : {},
      signal: AbortSignal.timeout(10_000),
    })
  } catch (error) {
    const problem = networkProblem(error)
    throw new UsageError(
      /CERT|ISSUER|SIGNATURE/.test(problem)
        ? `the certificate of ${url.origin} is not trusted (${problem}): set NODE_EXTRA_CA_CERTS to a file with it, or with its authority's`
        : `${url.origin} does not answer (${problem}): is the gateway running there?`,
    )
  }
  if (response.status === 401 || response.status === 403)
    throw new UsageError(
      given
        ? `${url.origin} does not show its status for the token in ${given.variable} (HTTP ${response.status})`
        : `${url.origin} needs a token that may read: set FACILITATOR_GATEWAY_READ_TOKEN to it (a digest cannot be sent)`,
    )
  const body: unknown = await response.json().catch(() => undefined)
  if (response.ok && typeof body === 'object' && body !== null && 'health' in body) return body as Status
  throw new UsageError(
    `${url.origin}${url.pathname} is not the status of a gateway (HTTP ${response.status})`,
  )
}

function readable(url: URL, answer: Status): string {
  try {
    return describe(url, answer)
  } catch {
    throw new UsageError(`${url.origin} answers with a status of another shape; --json shows it`)
  }
}

function describe(url: URL, { timestamp, enabled, health, statistics, unresolvedTotal = 0 }: Status): string {
  const rows = (health?.facilitators ?? []).map(facilitator => {
    const numbers = statistics?.facilitators.find(({ id }) => id === facilitator.id)
    const open = facilitator.lanes.filter(({ circuit }) => circuit !== 'closed')
    return [
      facilitator.id,
      stateOf(facilitator),
      facilitator.successRate,
      `${facilitator.averageResponseTimeMs} ms`,
      `${numbers?.performance.p95Ms ?? 0} ms`,
      `${numbers?.operations.verify ?? 0}`,
      `${numbers?.operations.settle ?? 0}`,
      open.map(({ operation, network = '', circuit }) => `${operation} ${network} ${circuit}`).join(', ') ||
        '-',
    ]
  })
  const header = ['FACILITATOR', 'STATE', 'SUCCESS', 'AVERAGE', 'P95', 'VERIFY', 'SETTLE', 'CIRCUITS']
  return [
    printable(`${url.origin} at ${timestamp}${enabled ? '' : ' (aggregation is switched off)'}`),
    table([header, ...rows], process.stdout.columns),
    printable(
      `${health?.summary.healthy} of ${health?.summary.total} healthy, ${unresolvedTotal} unresolved settlements`,
    ),
  ].join('\n')
}

function stateOf({
  isEnabled,
  isQuarantined,
  isHealthy,
}: {
  isEnabled: boolean
  isQuarantined: boolean
  isHealthy: boolean
}): string {
  if (!isEnabled) return 'disabled'
  if (isQuarantined) return 'quarantined'
  return isHealthy ? 'healthy' : 'unhealthy'
}
