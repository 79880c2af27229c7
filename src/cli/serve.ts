/** `x402-aggregator serve`: a gateway with its status, which ends gracefully. */
import { readFile } from 'node:fs/promises'
import { aggregatorFromEnv, type Environment, InvalidEnvironmentError, optionsFromEnv } from '../env/index.ts'
import { networkOfRpc } from '../env/names.ts'
import { Variables } from '../env/variables.ts'
import type { Logger } from '../observe/log.ts'
import { readArguments } from './arguments.ts'
import { readConfiguration } from './configuration.ts'
import { readGatewayOptions } from './gateway-options.ts'
import { defaultLedger, hasDefaultLedger, type NamedLedger, openLedger } from './ledger.ts'
import { printable } from './printable.ts'
import { dayMs, pruneDaily } from './prune.ts'
import { UsageError } from './usage-error.ts'

const help = `usage: x402-aggregator serve [options]

Answers POST /verify, POST /settle, GET /supported and GET /discovery/resources as one facilitator, with
GET /healthz, GET /readyz and /api/facilitator-status beside them. Ends on SIGTERM and SIGINT: accepts no more,
finishes what is in flight, lists what stays unresolved or is lost; a second signal exits at once.

options:
  --port <n>                PORT or 4020 by default, 0 for a free one
  --host <name>             HOST or 127.0.0.1 by default
  --tls-cert <file>         serves HTTPS with this certificate and its chain (PEM), read at the start
  --tls-key <file>          and its key (PEM)
  --max-connections <n>     500 by default; then a new one takes the place of an idle or slow one
  --ledger <address>        where payments are recorded: sqlite:<file>, postgres://user:password@host/database,
                            redis://user:password@host:6379/0 (rediss:// with TLS), or memory, which a restart forgets;
                            sqlite:./x402.db by default, memory without SQLite
  --keep-days <n>           forgets payments that are over after so many days, 30 by default; memory forgets sooner
  --config <file>           JSON with the names of the variables; variables win
  --grace <seconds>         for what is in flight when a signal comes, 25 by default, as Kubernetes gives 30 in all;
                            Docker gives 10: --grace 6, or docker stop --time 30
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
  FACILITATOR_LEDGER                as --ledger; a password is better kept here
  FACILITATOR_GATEWAY_ALLOWED_HOSTS, FACILITATOR_GATEWAY_RATE_LIMIT, FACILITATOR_GATEWAY_TRUSTED_PROXIES
                                    as the options above, with commas
  ENABLE_FACILITATOR_AGGREGATOR     true by default here
  and those of the README: FACILITATOR_<n>_URL, RPC_URL_<chain id>, RPC_URL_SOLANA, …

example:
  FACILITATOR_GATEWAY_TOKEN=secret x402-aggregator serve`

export async function serve(args: string[]): Promise<number> {
  const { values } = readArguments({
    args,
    options: {
      port: { type: 'string' },
      host: { type: 'string' },
      'tls-cert': { type: 'string' },
      'tls-key': { type: 'string' },
      'max-connections': { type: 'string', default: '500' },
      ledger: { type: 'string' },
      'keep-days': { type: 'string', default: '30' },
      config: { type: 'string' },
      grace: { type: 'string', default: '25' },
      'allow-unauthenticated': { type: 'boolean', default: false },
      'allowed-host': { type: 'string', multiple: true },
      'rate-limit': { type: 'string' },
      'trusted-proxy': { type: 'string', multiple: true },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const env = withDefaults(await readConfiguration(values.config))
  const variables = new Variables(env)
  const port = readNumber(
    values.port === undefined ? 'PORT' : '--port',
    values.port ?? variables.text('PORT') ?? '4020',
    { most: 65_535 },
  )
  const hostname = values.host ?? variables.text('HOST') ?? '127.0.0.1'
  const graceMs = readNumber('--grace', values.grace.replace(/s$/, ''), { most: 86_400 }) * 1000
  const maxConnections = readNumber('--max-connections', values['max-connections'], {
    least: 1,
    most: 1_000_000,
  })
  const keepDays = readNumber('--keep-days', values['keep-days'], { least: 1, most: 36_500 })
  const gatewayOptions = readAllVariables(env, {
    ...env,
    ...(values['allowed-host'] && { FACILITATOR_GATEWAY_ALLOWED_HOSTS: values['allowed-host'].join() }),
    ...(values['rate-limit'] && { FACILITATOR_GATEWAY_RATE_LIMIT: values['rate-limit'] }),
    ...(values['trusted-proxy'] && { FACILITATOR_GATEWAY_TRUSTED_PROXIES: values['trusted-proxy'].join() }),
  })
  const tls = await readTls(values['tls-cert'], values['tls-key'])
  // Not before: the help and the checks of the options need no optional peers.
  const [{ createGateway }, { isLoopback, listen }, { shutDownOnSignals }] = await Promise.all([
    import('../http/index.ts'),
    import('../node/listen.ts'),
    import('../node/shutdown.ts'),
  ])

  // A log that nobody reads any more must not end the gateway.
  process.stderr.on('error', () => {})
  const log = (message: string) => console.error(`x402-aggregator: ${printable(message)}`)
  const isVerbose = variables.flag('FACILITATOR_LOGGING') ?? false
  const {
    ledger,
    name: ledgerName,
    answers,
  } = await prepareLedger(values.ledger ?? variables.text('FACILITATOR_LEDGER'), keepDays, log)
  const aggregator = aggregatorFromEnv(env, {
    ...(ledger !== undefined && { settlement: { ledger } }),
    // Which facilitator served a payment is kept for the status, whatever is printed.
    logger: isVerbose ? lineLogger : { ...lineLogger, info: () => {} },
    logLevel: isVerbose ? 'debug' : 'info',
  })
  const gateway = createGateway(aggregator, {
    ...gatewayOptions,
    ...(answers !== undefined && { answers }),
  })
  if (!gateway.isProtected && !isLoopback(hostname) && !values['allow-unauthenticated'])
    throw new UsageError(
      `${values.host === undefined ? 'HOST' : '--host'} ${hostname} lets others reach the gateway: set FACILITATOR_GATEWAY_TOKEN, or give --allow-unauthenticated`,
    )
  const server = await listen(gateway, {
    port,
    hostname,
    maxConnections,
    log,
    ...(tls !== undefined && { tls }),
    allowUnauthenticated: values['allow-unauthenticated'],
  })
  shutDownOnSignals(server, aggregator, { graceMs, log })

  const { facilitators } = aggregator.getConfig()
  log(
    `listening on ${server.url} (${gateway.isProtected ? 'token needed' : 'no token needed'}), ` +
      `facilitators: ${facilitators.map(({ id }) => id).join(', ')}`,
  )
  for (const [one, other] of sharedUrls(facilitators))
    log(`${one} and ${other} are one facilitator, at the same URL: where it fails, both do`)
  const { tokens } = gatewayOptions
  if (tokens.length > 0) log(`tokens: ${tokens.map(({ name, role }) => `${name} (${role})`).join(', ')}`)
  log(`takes ${gateway.rateLimit}`)
  log(`records payments in ${ledgerName}`)
  if (ledger !== undefined) pruneDaily(ledger, keepDays, log)
  const chains = [...new Set(Object.keys(env).flatMap(name => networkOfRpc(name) ?? []))]
  log(
    chains.length > 0
      ? `looks payments up on ${chains.join(', ')}`
      : 'looks payments up on no chain: set RPC_URL_<chain id> or RPC_URL_SOLANA, or a settle whose answer is lost stays indeterminate',
  )
  const { summary } = await aggregator.checkHealth()
  if (summary.healthy < summary.total)
    log(`${summary.unhealthy} of ${summary.total} facilitators are unhealthy`)
  return 0
}

/** Ready for the first payment: what is wrong with a ledger is known before the gateway listens. */
async function prepareLedger(
  given: string | undefined,
  keepDays: number,
  log: (message: string) => void,
): Promise<NamedLedger> {
  const prepared = async (address: string) => {
    const named = await openLedger(address, { keepMs: keepDays * dayMs, log })
    await named.prepare()
    return named
  }
  if (given !== undefined) return prepared(given)
  if (!(await hasDefaultLedger())) {
    log(
      'payments are recorded in memory, and a restart forgets them: npm install better-sqlite3, use Node.js 22.13 or ' +
        'newer, or give --ledger',
    )
    return openLedger('memory')
  }
  return prepared(defaultLedger).catch(error => {
    throw new UsageError(`${(error as Error).message} Give --ledger another file, or memory.`)
  })
}

/** @throws {InvalidEnvironmentError} with the problems of the gateway's variables and of the facilitators' together */
function readAllVariables(env: Environment, ofGateway: Environment): ReturnType<typeof readGatewayOptions> {
  const problemsOf = (read: () => unknown): readonly string[] => {
    try {
      read()
    } catch (error) {
      if (error instanceof InvalidEnvironmentError) return error.problems
      throw error
    }
    return []
  }
  const problems = [() => readGatewayOptions(ofGateway), () => optionsFromEnv(env)].flatMap(problemsOf)
  if (problems.length > 0) throw new InvalidEnvironmentError(problems)
  return readGatewayOptions(ofGateway)
}

/** The ids of two facilitators at one URL, which were meant to be two. */
function sharedUrls(facilitators: readonly { id: string; url?: string | undefined }[]): [string, string][] {
  const ids = new Map<string, string>()
  return facilitators.flatMap(({ id, url = id }) => {
    const place = url.replace(/\/+$/, '').toLowerCase()
    const first = ids.get(place)
    ids.set(place, first ?? id)
    return first === undefined ? [] : [[first, id]]
  })
}

/** Who starts a gateway wants failover. */
function withDefaults(env: Environment): Environment {
  const { ENABLE_FACILITATOR_AGGREGATOR: given } = env
  return given === undefined || given === '' ? { ...env, ENABLE_FACILITATOR_AGGREGATOR: 'true' } : env
}

function readNumber(
  name: string,
  text: string,
  { least = 0, most }: { least?: number; most: number },
): number {
  const number = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (number >= least && number <= most) return number
  throw new UsageError(`${name}: expected a whole number from ${least} to ${most}, got "${text}"`)
}

async function readTls(
  certPath: string | undefined,
  keyPath: string | undefined,
): Promise<{ cert: string; key: string } | undefined> {
  if (certPath === undefined && keyPath === undefined) return undefined
  if (certPath === undefined || keyPath === undefined)
    throw new UsageError('--tls-cert and --tls-key go together')
  return { cert: await readPem('--tls-cert', certPath), key: await readPem('--tls-key', keyPath) }
}

async function readPem(option: string, path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (error) {
    throw new UsageError(`${option} ${path}: cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
}

const write =
  (level: string) =>
  (message: unknown): void =>
    console.error(`${new Date().toISOString()} ${level} ${printable(`${message}`)}`)

const lineLogger: Logger = {
  debug: write('debug'),
  info: write('info'),
  warn: write('warn'),
  error: write('error'),
}
