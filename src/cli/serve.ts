/** `x402-aggregator serve`: a gateway with its status, which ends gracefully. */

import { parseArgs } from 'node:util'
import { aggregatorFromEnv, type Environment } from '../env/index.ts'
import { rpcVariable } from '../env/names.ts'
import { Variables } from '../env/variables.ts'
import type { Logger } from '../observe/log.ts'
import { readConfiguration } from './configuration.ts'
import { UsageError } from './usage-error.ts'

const help = `usage: x402-aggregator serve [options]

Answers POST /verify, POST /settle, GET /supported and GET /discovery/resources as one facilitator, with
GET /healthz, GET /readyz and /api/facilitator-status beside them. Ends on SIGTERM and SIGINT: accepts no more,
finishes what is in flight, lists what stays unresolved; a second signal exits at once.

options:
  --port <n>                4020 by default, 0 for a free one
  --host <name>             127.0.0.1 by default
  --config <file>           JSON with the names of the variables; variables win
  --grace <seconds>         for what is in flight when a signal comes, 30 by default
  --allow-unauthenticated   listen without tokens where others can reach it
  --help

variables:
  FACILITATOR_GATEWAY_TOKEN   tokens that callers must send (Authorization: Bearer …), with commas between them
  and those of the README: ENABLE_FACILITATOR_AGGREGATOR, FACILITATOR_<n>_URL, RPC_URL_<chain id>, …

example:
  ENABLE_FACILITATOR_AGGREGATOR=true FACILITATOR_GATEWAY_TOKEN=secret x402-aggregator serve`

export async function serve(args: string[]): Promise<number> {
  const { values } = parseArgs({
    args,
    options: {
      port: { type: 'string', default: '4020' },
      host: { type: 'string', default: '127.0.0.1' },
      config: { type: 'string' },
      grace: { type: 'string', default: '30' },
      'allow-unauthenticated': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const port = readNumber('--port', values.port, 65_535)
  const graceMs = readNumber('--grace', values.grace.replace(/s$/, ''), 86_400) * 1000
  const env = await readConfiguration(values.config)
  // Not before: the help and the checks of the options need no optional peers.
  const [{ createGateway }, { isLoopback, listen }, { shutDownOnSignals }] = await Promise.all([
    import('../http/index.ts'),
    import('../node/listen.ts'),
    import('../node/shutdown.ts'),
  ])

  // A log that nobody reads any more must not end the gateway.
  process.stderr.on('error', () => {})
  const log = (message: string) => console.error(`x402-aggregator: ${message}`)
  const isVerbose = new Variables(env).flag('FACILITATOR_LOGGING') ?? false
  const aggregator = aggregatorFromEnv(env, {
    // Which facilitator served a payment is kept for the status, whatever is printed.
    logger: isVerbose ? lineLogger : { ...lineLogger, info: () => {} },
    logLevel: isVerbose ? 'debug' : 'info',
  })
  const gateway = createGateway(aggregator, { tokens: readTokens(env) })
  if (!gateway.isProtected && !isLoopback(values.host) && !values['allow-unauthenticated'])
    throw new UsageError(
      `--host ${values.host} lets others reach the gateway: set FACILITATOR_GATEWAY_TOKEN, or give --allow-unauthenticated`,
    )
  const server = await listen(gateway, {
    port,
    hostname: values.host,
    allowUnauthenticated: values['allow-unauthenticated'],
  })
  shutDownOnSignals(server, aggregator, { graceMs, log })

  const { enabled, facilitators } = aggregator.getConfig()
  if (!enabled)
    log(`ENABLE_FACILITATOR_AGGREGATOR is not true: ${facilitators[0]?.id} is used alone, without failover`)
  log(
    `listening on ${server.url} (${gateway.isProtected ? 'token needed' : 'no token needed'}), ` +
      `facilitators: ${facilitators.map(({ id }) => id).join(', ')}`,
  )
  const chains = Object.keys(env).flatMap(name => rpcVariable.exec(name)?.[1] ?? [])
  log(
    chains.length > 0
      ? `looks payments up on eip155:${chains.join(', eip155:')}`
      : 'looks payments up on no chain: a settle in doubt ends there (RPC_URL_<chain id>)',
  )
  const { summary } = await aggregator.checkHealth()
  if (summary.healthy < summary.total)
    log(`${summary.unhealthy} of ${summary.total} facilitators are unhealthy`)
  return 0
}

function readNumber(option: string, text: string, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (number <= most) return number
  throw new UsageError(`${option}: expected a whole number from 0 to ${most}, got "${text}"`)
}

function readTokens(env: Environment): string[] {
  return String(env.FACILITATOR_GATEWAY_TOKEN ?? '')
    .split(',')
    .map(token => token.trim())
    .filter(token => token !== '')
}

const write =
  (level: string) =>
  (message: unknown): void =>
    console.error(`${new Date().toISOString()} ${level} ${message}`)

const lineLogger: Logger = {
  debug: write('debug'),
  info: write('info'),
  warn: write('warn'),
  error: write('error'),
}
