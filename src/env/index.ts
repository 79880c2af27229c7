/** An aggregator configured by environment variables. */
import { FacilitatorAggregator } from '../aggregator.ts'
import { passOn } from '../observe/log.ts'
import { type AggregatorOptions, defaults } from '../options/options.ts'
import type { SettlementProbe } from '../settlement/probe.ts'
import { LazyEvmProbe } from './lazy-evm-probe.ts'
import { LazySvmProbe } from './lazy-svm-probe.ts'
import { isVariable, leastTimeoutMs, meantBy, networkOfRpc } from './names.ts'
import { readFacilitators } from './read-facilitators.ts'
import { type Environment, Variables } from './variables.ts'

export { type CdpCredentials, cdpAuthHeaders } from './cdp.ts'
export { type Environment, InvalidEnvironmentError } from './variables.ts'

/** Options that no variable can hold; they win over the variables. */
export type EnvironmentOverrides = Partial<Omit<AggregatorOptions, 'facilitators'>>

/**
 * The aggregator that the variables describe: which facilitators, in which order, and how patient. Unless
 * `ENABLE_FACILITATOR_AGGREGATOR` is `true`, it is its first facilitator alone, with the same interface, and a warning.
 *
 * @param env `process.env`, a Worker's `env`, or any record of strings
 * @param overrides what no variable can hold, such as a `logger` or a `settlement.ledger`
 * @throws {InvalidEnvironmentError} that lists every variable that is wrong, without its secrets
 *
 * @example
 * ```ts
 * const aggregator = aggregatorFromEnv(process.env)
 * ```
 */
export function aggregatorFromEnv(
  env: Environment,
  overrides: EnvironmentOverrides = {},
): FacilitatorAggregator {
  const options = optionsFromEnv(env)
  const settlement = { ...options.settlement, ...overrides.settlement }
  const all = { ...options, ...overrides, settlement }
  const aggregator = new FacilitatorAggregator(all)
  warnOfNoFailover(all, aggregator)
  for (const probe of settlement.probes ?? [])
    if (probe instanceof LazyEvmProbe || probe instanceof LazySvmProbe)
      aggregator.once('attempt', () => probe.load())
  return aggregator
}

function warnOfNoFailover(
  { enabled, facilitators, logger = console }: AggregatorOptions,
  aggregator: FacilitatorAggregator,
) {
  const usable = facilitators.filter(facilitator => facilitator.enabled !== false).length
  if (enabled || usable < 2 || !logger) return
  const [first] = aggregator.getConfig().facilitators
  passOn(logger, {
    timestamp: new Date().toISOString(),
    level: 'warn',
    event: 'configuration',
    message: `ENABLE_FACILITATOR_AGGREGATOR is not true: ${first?.id} is used alone, without failover`,
  })
}

/**
 * The options that the variables describe, to be changed before use.
 *
 * @throws {InvalidEnvironmentError} that lists every variable that is wrong, without its secrets
 */
export function optionsFromEnv(env: Environment): AggregatorOptions {
  const variables = new Variables(env)
  const timeoutMs = variables.milliseconds(
    'FACILITATOR_TIMEOUT_MS',
    defaults.timeoutMs.verify,
    leastTimeoutMs,
  )
  const settleMs = variables.milliseconds(
    'FACILITATOR_SETTLE_TIMEOUT_MS',
    defaults.timeoutMs.settle,
    leastTimeoutMs,
  )
  const isVerbose = variables.flag('FACILITATOR_LOGGING') ?? false
  const hasHealthCheck = variables.flag('FACILITATOR_HEALTH_CHECK') ?? true
  const intervalMs = variables.milliseconds('FACILITATOR_HEALTH_CHECK_INTERVAL_MS', defaults.intervalMs)
  const maxConsecutiveFailures = variables.wholeNumber(
    'FACILITATOR_MAX_CONSECUTIVE_FAILURES',
    defaults.maxConsecutiveFailures,
    { least: 1 },
  )
  const options: AggregatorOptions = {
    enabled: variables.flag('ENABLE_FACILITATOR_AGGREGATOR') ?? false,
    facilitators: readFacilitators(variables),
    timeoutMs: { verify: timeoutMs, supported: timeoutMs, list: timeoutMs, settle: settleMs },
    retries: variables.wholeNumber('FACILITATOR_RETRIES', defaults.retries),
    healthCheck: hasHealthCheck && { intervalMs, maxConsecutiveFailures },
    settlement: { probes: readProbes(variables) },
    ...(isVerbose && { logger: console, logLevel: 'debug' as const }),
  }
  rejectMistyped(variables)
  variables.throwIfWrong()
  return options
}

/** Settings that are thought to hold, and read by nobody. */
function rejectMistyped(variables: Variables): void {
  for (const { name } of variables.matching(/./)) {
    const meant = isVariable(name) ? undefined : meantBy(name)
    // A node by name beside the one by chain id is somebody else's.
    const isForeign = /^RPC_/i.test(name) && variables.text(meant ?? '') !== undefined
    if (meant !== undefined && !isForeign) variables.wrong(name, `is not a variable; did you mean ${meant}?`)
  }
  // Upstream's examples read it: where the facilitators are named, it may be meant for other middleware.
  const isAnyNamed = variables.matching(/^FACILITATOR_(\d+)_/).length > 0
  if (!isAnyNamed && variables.text('FACILITATOR_URL') !== undefined)
    variables.wrong('FACILITATOR_URL', 'is not read; did you mean FACILITATOR_1_URL?')
}

function readProbes(variables: Variables): SettlementProbe[] {
  const evm: Record<string, { rpcUrl: string[] }> = {}
  const svm: typeof evm = {}
  for (const { name } of variables.matching(/^RPC_URL_(.+)$/)) {
    const network = networkOfRpc(name)
    if (network === undefined) continue
    const isSvm = network.startsWith('solana:')
    const example = isSvm ? 'https://api.mainnet-beta.solana.com' : 'https://mainnet.base.org'
    const rpcUrl = variables.urls(name, example)
    const chains = isSvm ? svm : evm
    // Two variables may name one chain.
    if (rpcUrl !== undefined) chains[network] = { rpcUrl: [...(chains[network]?.rpcUrl ?? []), ...rpcUrl] }
  }
  const probes: SettlementProbe[] = []
  if (Object.keys(evm).length > 0) probes.push(new LazyEvmProbe(evm))
  if (Object.keys(svm).length > 0) probes.push(new LazySvmProbe(svm))
  return probes
}
