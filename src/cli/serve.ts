/** `x402-aggregator serve`: a gateway with its status, which ends gracefully. */

import { parseArgs } from 'node:util'
import { aggregatorFromEnv } from '../env/index.ts'
import { rpcVariable } from '../env/names.ts'
import { Variables } from '../env/variables.ts'
import type { Logger } from '../observe/log.ts'
import { readConfiguration } from './configuration.ts'
import { readGatewayOptions } from './gateway-options.ts'
import { UsageError } from './usage-error.ts'

const help = `usage: x402-aggregator serve [options]

Answers POST /verify, POST /settle, GET /supported and GET /discovery/resources as one facilitator, with
GET /healthz, GET /readyz and /api/facilitator-status beside them. Ends on SIGTERM and SIGINT: accepts no more,
finishes what is in flight, says what stays unresolved; a second signal exits at once.

options:
  --port <n>                4020 by default, 0 for a free one
  --host <name>             127.0.0.1 by default
  --config <file>           JSON with the names of the variables; variables win
  --grace <seconds>         for what is in flight when a signal comes, 30 by default
  --allow-unauthenticated   listen without tokens where others can reach it
  --allowed-host <name>     take requests for this name, as a proxy in front sends them; may be repeated
  --rate-limit <n>          requests a second of one client, or off; 100 by default, off for those with a token
  --trusted-proxy <range>   take the address of a client from this proxy's X-Forwarded-For; may be repeated
  --help

variables:
  FACILITATOR_GATEWAY_TOKEN         tokens that callers must send to pay (Authorization: Bearer …), with commas between
                                    them; <name>=<token> names one in the log, sha256:<hex> gives its digest alone
  FACILITATOR_GATEWAY_READ_TOKEN    the same to see the status
  FACILITATOR_GATEWAY_ADMIN_TOKEN   the same to do everything
  FACILITATOR_GATEWAY_ALLOWED_HOSTS, FACILITATOR_GATEWAY_RATE_LIMIT, FACILITATOR_GATEWAY_TRUSTED_PROXIES
                                    as the options above, with commas
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
      'allowed-host': { type: 'string', multiple: true },
      'rate-limit': { type: 'string' },
      'trusted-proxy': { type: 'string', multiple: true },
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
  const gatewayOptions = readGatewayOptions({
    ...env,
    ...(values['allowed-host'] && { FACILITATOR_GATEWAY_ALLOWED_HOSTS: values['allowed-host'].join() }),
    ...(values['rate-limit'] && { FACILITATOR_GATEWAY_RATE_LIMIT: values['rate-limit'] }),
    ...(values['trusted-proxy'] && { FACILITATOR_GATEWAY_TRUSTED_PROXIES: values['trusted-proxy'].join() }),
  })
  // Not before: the help and the checks of the options need no optional peers.
  const [{ createGateway }, { isLoopback, listen }, { shutDownOnSignals }] = await Promise.all([
    import('../http/index.ts'),
    import('../node/listen.ts'),
    import('../node/shutdown.ts'),
  ])

  // A log that nobody reads any more must not end the gateway.
  process.stderr.on('error', () => {})
  const say = (message: string) => console.error(`x402-aggregator: ${message}`)
  const isVerbose = new Variables(env).flag('FACILITATOR_LOGGING') ?? false
  const aggregator = aggregatorFromEnv(env, {
    // Which facilitator served a payment is kept for the status, whatever is printed.
    logger: isVerbose ? lineLogger : { ...lineLogger, info: () => {} },
    logLevel: isVerbose ? 'debug' : 'info',
  })
  const gateway = createGateway(aggregator, gatewayOptions)
  if (!gateway.isProtected && !isLoopback(values.host) && !values['allow-unauthenticated'])
    throw new UsageError(
      `--host ${values.host} lets others reach the gateway: set FACILITATOR_GATEWAY_TOKEN, or say --allow-unauthenticated`,
    )
  const server = await listen(gateway, {
    port,
    hostname: values.host,
    allowUnauthenticated: values['allow-unauthenticated'],
  })
  shutDownOnSignals(server, aggregator, { graceMs, log: say })

  const { enabled, facilitators } = aggregator.getConfig()
  if (!enabled)
    say(`ENABLE_FACILITATOR_AGGREGATOR is not true: ${facilitators[0]?.id} is used alone, without failover`)
  say(
    `listening on ${server.url} (${gateway.isProtected ? 'token needed' : 'no token needed'}), ` +
      `facilitators: ${facilitators.map(({ id }) => id).join(', ')}`,
  )
  const { tokens } = gatewayOptions
  if (tokens.length > 0) say(`tokens: ${tokens.map(({ name, role }) => `${name} (${role})`).join(', ')}`)
  say(`takes ${gateway.rateLimit}`)
  const chains = Object.keys(env).flatMap(name => rpcVariable.exec(name)?.[1] ?? [])
  say(
    chains.length > 0
      ? `looks payments up on eip155:${chains.join(', eip155:')}`
      : 'looks payments up on no chain: a settle in doubt ends there (RPC_URL_<chain id>)',
  )
  const { summary } = await aggregator.checkHealth()
  if (summary.healthy < summary.total)
    say(`${summary.unhealthy} of ${summary.total} facilitators are unhealthy`)
  return 0
}

function readNumber(option: string, text: string, most: number): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (number <= most) return number
  throw new UsageError(`${option}: expected a whole number from 0 to ${most}, got "${text}"`)
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
