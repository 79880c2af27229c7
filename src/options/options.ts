/** The options of `FacilitatorAggregator`: what they mean, their defaults, and what is wrong with them. */

import { InvalidOptionsError } from '../errors.ts'
import type { FacilitatorClientLike } from '../facilitator/client.ts'
import { type AuthHeaders, httpFacilitatorClient } from '../facilitator/http-client.ts'
import { forEachOperation, type Operation } from '../observe/attempt-report.ts'
import type { Logger, LogLevel } from '../observe/log.ts'
import type { MemberOptions } from '../pool/member.ts'
import type { Strategy } from '../pool/strategy.ts'
import { longestTimerMs } from '../runtime/clock.ts'
import { sortedBy } from '../runtime/sorted-by.ts'
import { runtimeWithoutTimers } from '../runtime/without-timers.ts'
import type { SettlementLedger } from '../settlement/ledger.ts'
import { MemoryLedger } from '../settlement/memory-ledger.ts'
import type { SettlementProbe } from '../settlement/probe.ts'
import { findProblems } from './checks.ts'

/** One number for every operation, or one for each; in milliseconds. */
export type PerOperation = number | Partial<Record<Operation, number>>

interface FacilitatorCommon {
  /** Names the facilitator in errors, events, logs and statistics. Unique. */
  id: string
  /**
   * Lower numbers are asked first; equal ones take turns.
   * @default its place in the list, from 1
   */
  priority?: number
  /**
   * Share of the traffic with `strategy: 'weighted'`.
   * @default 1
   */
  weight?: number
  /**
   * A disabled facilitator is not asked and not checked.
   * @default true
   */
  enabled?: boolean
  /** Overrides the aggregator's `timeoutMs` for this facilitator (ms). */
  timeoutMs?: PerOperation
  /** Overrides the aggregator's `retries` for this facilitator. */
  retries?: number
}

/** A facilitator at a URL; `known` of `x402-facilitator-aggregator/known` makes public ones. */
export interface FacilitatorByUrl extends FacilitatorCommon {
  /** Where it answers, such as `https://facilitator.example`; `/verify` and so on are added. */
  url: string
  client?: never
  /**
   * Headers keyed by operation, as in upstream's `FacilitatorConfig`. Called afresh for each request, so that
   * short-lived tokens work.
   */
  createAuthHeaders?: () => AuthHeaders | Promise<AuthHeaders>
  /**
   * Another `fetch`, for runtimes that bind one to an environment.
   * @default the global one
   */
  fetch?: typeof fetch
}

/** A facilitator given by a client object. */
export interface FacilitatorByClient extends FacilitatorCommon {
  /** Upstream's `HTTPFacilitatorClient`, Coinbase CDP's client, an in-process `x402Facilitator`, or your own. */
  client: FacilitatorClientLike
  url?: never
  createAuthHeaders?: never
  fetch?: never
}

export type FacilitatorOptions = FacilitatorByUrl | FacilitatorByClient

export interface HealthCheckOptions {
  /**
   * Milliseconds between checks of a facilitator (`GET /supported`), give or take a tenth at random.
   * @default 30000
   */
  intervalMs?: number
  /**
   * Failures in a row that open a lane's circuit.
   * @default 3
   */
  maxConsecutiveFailures?: number
  /**
   * Milliseconds from opening a circuit to the one trial that may close it.
   * @default intervalMs
   */
  coolDownMs?: number
  /**
   * `interval`: checks by a timer. `lazy`: beside a request, when the last check is older than `intervalMs`;
   * for runtimes that allow no timers between requests.
   * @default 'lazy' on Cloudflare Workers and the Edge runtime, where 'interval' is refused; 'interval' elsewhere
   */
  mode?: 'interval' | 'lazy'
}

export interface SettlementOptions {
  /**
   * Ask chains what became of payments: `evmSettlementProbe(…)`, or `settlementProbe(reader)` of
   * `x402-facilitator-aggregator/probe`. Of several, the first that supports a payment is asked. Without one, doubt ends
   * in a 502.
   * @default []
   */
  probes?: readonly SettlementProbe[]
  /**
   * Where settlements are recorded. Give all replicas of one seller the same.
   * @default a `MemoryLedger`
   */
  ledger?: SettlementLedger
  /**
   * Whether to look a facilitator's claim of success up on the chain: `off`, `sample` (a tenth) or `always`.
   * A facilitator whose claim is false is quarantined, and the payment goes on to the next. Needs a probe.
   * @default 'off'
   */
  audit?: 'off' | 'sample' | 'always'
  /**
   * Whether to ask the chain when a facilitator rejects a payment for a reason that the chain can check, such as its
   * signature or the buyer's balance. Where the chain takes the payment, the next facilitator is asked. At most 20
   * questions per network and second. Needs a probe that can try payments, such as `evmSettlementProbe`.
   * @default true
   */
  crossExamine?: boolean
  /**
   * What to do when a buyer sends a payment again whose settlement was left unresolved and undelivered: `deliver`
   * what the chain says was paid for, once, or `reject` it.
   * @default 'deliver'
   */
  onRetry?: 'deliver' | 'reject'
  /**
   * How often a payment may be delivered again whose reply was lost, within 10 minutes each. Lost replies are those that
   * `trackDelivery` sees, or that `replyReports` is told of.
   * @default 1
   */
  redeliveries?: number
  /**
   * Whether a payer's new payment for the same thing (payee, asset, amount, resource) uses an earlier charge of his that was
   * not delivered, and is not sent. While nobody can tell whether he was charged, it is refused with a 502: without a
   * probe for 10 minutes. It costs one read of the ledger by an index for each settle, and one `verify` where such a charge
   * is found. With `onRetry: 'reject'` there is none.
   * @default true
   */
  credit?: boolean
  /**
   * Milliseconds after which the chain is asked beside a settle that has not answered; `failoverAfterMs` at the latest, as
   * nobody is overtaken before the chain was asked. Needs a probe.
   * @default 2000
   */
  probeAfterMs?: number
  /**
   * Milliseconds after which a settle that has not answered is overtaken by the next facilitator, if the chain
   * says that the authorization is unused. Needs a probe.
   * @default 5000
   */
  failoverAfterMs?: number
  /**
   * Milliseconds between questions to the chain about settlements that were left unresolved. Needs a probe.
   * @default 10000
   */
  watchIntervalMs?: number
}

export interface AggregatorOptions {
  /** The pool. At least one. */
  facilitators: readonly FacilitatorOptions[]
  /**
   * `false` switches the aggregation off: only the first enabled facilitator (by priority) is used, as if it were
   * alone.
   * @default true
   */
  enabled?: boolean
  /**
   * Milliseconds until one attempt is given up.
   * @default { verify: 5000, settle: 30000, supported: 5000, list: 5000 }
   */
  timeoutMs?: PerOperation
  /**
   * Milliseconds for a whole operation, all its attempts and pauses together; twice the longest `timeoutMs` where that is
   * more than the default.
   * @default { verify: 10000, settle: 60000, supported: 10000, list: 10000 }
   */
  deadlineMs?: PerOperation
  /**
   * More tries at the same facilitator before the next is asked. A settle is tried again only where the request did
   * not arrive, or after a 429 with `Retry-After` at the last facilitator.
   * @default 1
   */
  retries?: number
  /**
   * Milliseconds before the first retry; doubles with each, times a random factor from 1 to 2.
   * @default 200
   */
  backoffMs?: number
  /**
   * Asks the next facilitator to verify as well when one has not answered after `afterMs` (ms); the first verdict
   * counts. Only `verify` is hedged: it can be asked twice without harm.
   * @default none
   */
  hedge?: { afterMs: number }
  /**
   * In which order to ask: `priority`, `latency`, `weighted`, or a function of your own.
   * @default 'priority'
   */
  strategy?: Strategy
  /**
   * What to do with a payment while every facilitator that could take it is in trouble: `try` them all the
   * same, or `refuse` at once (502).
   * @default 'try'
   */
  whenAllUnhealthy?: 'try' | 'refuse'
  /** How a settlement stays safe while facilitators fail. */
  settlement?: SettlementOptions
  /** Checks of the facilitators' health; `false` for none. */
  healthCheck?: HealthCheckOptions | false
  /**
   * Keeps the runtime alive for work that outlasts a request, where it would end with it: a settle whose caller has
   * left, a lazy health check, a question about what is unresolved. `waitUntil` of `cloudflare:workers`, of
   * `@vercel/functions`, or of an event.
   */
  waitUntil?: (work: Promise<unknown>) => void
  /**
   * Start the health checks with the first operation.
   * @default true
   */
  autoStart?: boolean
  /**
   * pino, console, or anything with `debug`, `info`, `warn` and `error`; `false` for none.
   * @default warnings and errors to the console
   */
  logger?: Logger | false
  /**
   * The least level that is kept and passed to `logger`.
   * @default 'info'
   */
  logLevel?: LogLevel
  /**
   * How many log entries `getRecentLogs` can give; 0 keeps none.
   * @default 1000
   */
  maxLogEntries?: number
}

interface SettlementSettings {
  readonly ledger: SettlementLedger
  readonly probes: readonly SettlementProbe[]
  readonly audit: 'off' | 'sample' | 'always'
  readonly crossExamine: boolean
  readonly onRetry: 'deliver' | 'reject'
  readonly redeliveries: number
  readonly credit: boolean
  readonly probeAfterMs: number
  readonly failoverAfterMs: number
  readonly watchIntervalMs: number
  /** Where no timers run between requests, what they would do is done beside requests. */
  readonly isLazy: boolean
}

/** The options with every default in its place. */
export interface Settings {
  readonly enabled: boolean
  readonly members: readonly MemberOptions[]
  readonly deadlineMs: Readonly<Record<Operation, number>>
  readonly backoffMs: number
  readonly hedgeAfterMs: number | undefined
  readonly strategy: Strategy
  readonly whenAllUnhealthy: 'try' | 'refuse'
  readonly settlement: SettlementSettings
  readonly healthCheck: Readonly<Required<HealthCheckOptions>> & { readonly enabled: boolean }
  readonly waitUntil: ((work: Promise<unknown>) => void) | undefined
  readonly autoStart: boolean
  readonly logger: Logger | false | undefined
  readonly logLevel: LogLevel
  readonly maxLogEntries: number
}

/** What the environment variables start from as well. */
export const defaults = {
  timeoutMs: { verify: 5_000, settle: 30_000, supported: 5_000, list: 5_000 },
  retries: 1,
  intervalMs: 30_000,
  maxConsecutiveFailures: 3,
} as const

/**
 * @throws {InvalidOptionsError} that lists every problem, each with the option and the facilitator's id
 */
export function readOptions(options: AggregatorOptions): Settings {
  const problems = findProblems(options)
  if (problems.length > 0) throw new InvalidOptionsError(problems)

  const {
    enabled = true,
    backoffMs = 200,
    strategy = 'priority',
    whenAllUnhealthy = 'try',
    waitUntil,
    autoStart = true,
    logger,
    logLevel = 'info',
    maxLogEntries = 1_000,
  } = options
  const healthCheck = readHealthCheck(options.healthCheck)
  const members = options.facilitators.map((facilitator, index) =>
    readFacilitator(facilitator, index, options),
  )
  return {
    enabled,
    members: enabled ? members : firstOf(members),
    deadlineMs: perOperation(options.deadlineMs, deadlinesFor(members)),
    backoffMs,
    hedgeAfterMs: options.hedge?.afterMs,
    strategy,
    whenAllUnhealthy,
    settlement: readSettlement(options.settlement, healthCheck.mode === 'lazy'),
    healthCheck,
    waitUntil,
    autoStart,
    logger,
    logLevel,
    maxLogEntries,
  }
}

/** Twice the longest patience with one facilitator, which leaves time for another; of the defaults at least. */
function deadlinesFor(members: readonly MemberOptions[]): Readonly<Record<Operation, number>> {
  return forEachOperation(operation =>
    Math.max(
      ...[defaults, ...members].map(({ timeoutMs }) => Math.min(2 * timeoutMs[operation], longestTimerMs)),
    ),
  )
}

function readSettlement(options: SettlementOptions | undefined, isLazy: boolean): SettlementSettings {
  const {
    probes = [],
    ledger = new MemoryLedger(),
    audit = 'off',
    crossExamine = true,
    onRetry = 'deliver',
    redeliveries = 1,
    credit = true,
    probeAfterMs = 2_000,
    failoverAfterMs = 5_000,
    watchIntervalMs = 10_000,
  } = options ?? {}
  return {
    probes,
    ledger,
    audit,
    crossExamine,
    onRetry,
    redeliveries,
    credit: credit && onRetry === 'deliver',
    probeAfterMs: Math.min(probeAfterMs, failoverAfterMs),
    failoverAfterMs,
    watchIntervalMs,
    isLazy,
  }
}

function readHealthCheck(options: HealthCheckOptions | false = {}): Settings['healthCheck'] {
  const {
    intervalMs = defaults.intervalMs,
    maxConsecutiveFailures = defaults.maxConsecutiveFailures,
    coolDownMs = intervalMs,
    mode = runtimeWithoutTimers() ? 'lazy' : 'interval',
  } = options || {}
  return { enabled: options !== false, intervalMs, maxConsecutiveFailures, coolDownMs, mode }
}

function readFacilitator(
  facilitator: FacilitatorOptions,
  index: number,
  all: AggregatorOptions,
): MemberOptions {
  const { id, url, client } = facilitator
  return {
    id,
    url,
    priority: facilitator.priority ?? index + 1,
    weight: facilitator.weight ?? 1,
    enabled: facilitator.enabled ?? true,
    client: client ?? httpFacilitatorClient(facilitator),
    timeoutMs: perOperation(facilitator.timeoutMs, perOperation(all.timeoutMs, defaults.timeoutMs)),
    retries: facilitator.retries ?? all.retries ?? defaults.retries,
  }
}

/** The first enabled one by priority; a disabled one where all are. */
function firstOf(members: readonly MemberOptions[]): MemberOptions[] {
  const sorted = sortedBy(members, ({ priority }) => priority)
  return sortedBy(sorted, ({ enabled }) => Number(!enabled)).slice(0, 1)
}

function perOperation(
  given: PerOperation | undefined,
  otherwise: Readonly<Record<Operation, number>>,
): Record<Operation, number> {
  return forEachOperation(
    operation => (typeof given === 'object' ? given[operation] : given) ?? otherwise[operation],
  )
}
