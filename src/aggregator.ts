/** The face of the library: one facilitator client made of many. */
import type { FacilitatorClient } from '@x402/core/server'
import type { SettleResponse, SupportedResponse, VerifyResponse } from '@x402/core/types'
import { AggregatorStoppedError, InvalidOptionsError } from './errors.ts'
import { type AggregatorEvents, type EventName, eventNames, type Listener } from './events.ts'
import type { DiscoveryQuery, DiscoveryResponse } from './facilitator/client.ts'
import type { Context } from './flows/context.ts'
import { list } from './flows/list.ts'
import { settle } from './flows/settle.ts'
import { Supported } from './flows/supported.ts'
import { verify } from './flows/verify.ts'
import type { Operation } from './observe/attempt-report.ts'
import type { LogEntry } from './observe/log.ts'
import { Observer } from './observe/observer.ts'
import { redact } from './observe/redact.ts'
import { type AggregatorOptions, readOptions, type Settings } from './options/options.ts'
import { unknownName } from './options/unknown-name.ts'
import type { AnyPaymentPayload, AnyPaymentRequirements } from './payment/payment.ts'
import { readPayment } from './payment/payment.ts'
import { HealthChecker } from './pool/health-checker.ts'
import type { Member } from './pool/member.ts'
import { Pool } from './pool/pool.ts'
import { type PoolHealth, poolHealth, type Statistics, statistics } from './pool/status.ts'
import { Alarms, never } from './runtime/clock.ts'
import { Books, ledgerError } from './settlement/books.ts'
import type { UnresolvedSettlement } from './settlement/events.ts'
import type { LedgerUsage } from './settlement/ledger.ts'
import { MemoryLedger } from './settlement/memory-ledger.ts'
import { silenceNotes } from './settlement/silence.ts'
import { listUnresolved, reportUnresolved } from './settlement/unresolved.ts'

/** An upstream `x402ResourceServer`, or an `x402HTTPResourceServer`. */
export interface ReinitializableServer {
  initialize(): Promise<void>
}

export interface HealthStatus extends PoolHealth {
  /** How full the ledger is; absent where it does not tell. */
  ledger?: LedgerUsage | undefined
}

/** The configuration in use, without secrets. */
export interface AggregatorConfig {
  /** Whether there is more than the first facilitator. */
  enabled: boolean
  facilitators: {
    id: string
    /** Absent for a facilitator given by a client object. */
    url?: string | undefined
    priority: number
    weight: number
    enabled: boolean
    timeoutMs: Record<Operation, number>
    retries: number
  }[]
  deadlineMs: Record<Operation, number>
  backoffMs: number
  strategy: string
  whenAllUnhealthy: 'try' | 'refuse'
  healthCheck:
    | false
    | { intervalMs: number; maxConsecutiveFailures: number; coolDownMs: number; mode: 'interval' | 'lazy' }
  /** Whether a probe can tell what became of a payment in doubt. */
  hasProbe: boolean
  /** Whether the ledger ends with this process. */
  isLedgerInMemory: boolean
  logLevel: string
  maxLogEntries: number
}

/**
 * One reliable facilitator client made of many unreliable ones. Give it to an upstream resource server as its
 * facilitator.
 *
 * @example
 * ```ts
 * const aggregator = new FacilitatorAggregator({
 *   facilitators: [
 *     { id: 'x402-rs', url: 'https://facilitator.x402.rs' },
 *     { id: 'payai', url: 'https://facilitator.payai.network' },
 *   ],
 * })
 * const server = new x402ResourceServer(aggregator)
 * ```
 */
export class FacilitatorAggregator implements FacilitatorClient {
  readonly #settings: Settings
  readonly #observer: Observer<AggregatorEvents>
  readonly #pool: Pool
  readonly #alarms = new Alarms()
  readonly #context: Context
  readonly #books: Books
  readonly #supported: Supported
  readonly #healthChecker: HealthChecker
  readonly #inFlight = new Set<Promise<unknown>>()
  #state: 'new' | 'started' | 'stopped' = 'new'
  #stopping: Promise<void> | undefined

  /**
   * @throws {InvalidOptionsError} that lists everything that is wrong with the options
   */
  constructor(options: AggregatorOptions) {
    this.#settings = readOptions(options)
    const { deadlineMs, backoffMs, hedgeAfterMs, healthCheck } = this.#settings
    this.#observer = new Observer(this.#settings)
    this.#pool = new Pool(this.#settings, this.#observer, () => this.#supported.noticeChange())
    const { probes, ...settlement } = this.#settings.settlement
    this.#books = new Books(settlement, this.#observer)
    const host = {
      pool: this.#pool,
      observer: this.#observer,
      alarms: this.#alarms,
      settlement,
      books: this.#books,
      noteSilence: silenceNotes(this.#observer),
    }
    this.#context = {
      ...host,
      chains: probes[0]?.connect(probes, host),
      settling: new Map(),
      deadlineMs,
      backoffMs,
      hedgeAfterMs,
    }
    this.#supported = new Supported(this.#context, healthCheck.intervalMs)
    this.#healthChecker = new HealthChecker(
      this.#pool.members,
      member => this.#contain(() => this.#supported.refresh(member)),
      healthCheck,
    )
  }

  /**
   * Asks the facilitators, one after the other, whether a payment is valid. The first verdict counts.
   *
   * @throws {AllFacilitatorsFailedError} when none gave a verdict; upstream's middleware answers 502
   * @throws {SettlementInProgressError} when another request settles this payment; upstream answers 502
   * @throws {InvalidPaymentError} when the payment is not in the protocol's shape, or its identity is in doubt; upstream
   * answers 402
   * @throws {AggregatorStoppedError} after `stop()`
   */
  verify(payload: AnyPaymentPayload, requirements: AnyPaymentRequirements): Promise<VerifyResponse> {
    return this.#operate('verify', () => verify(this.#context, readPayment(payload, requirements)))
  }

  /**
   * Settles a payment once, at the first facilitator that can. After an attempt that may have charged, another one is
   * asked only when the chain shows the payment unspent and would not accept it twice. With a probe a failure is
   * reported, some 3 s after the last attempt, when a new block shows the payment unspent.
   *
   * @throws {SettlementIndeterminateError} when the buyer may have been charged; upstream answers 502
   * @throws {AllFacilitatorsFailedError} when nobody settled, and nobody seems to have charged; upstream answers 502
   * @throws {SettlementInProgressError} when another request settles this payment; upstream answers 502
   * @throws {LedgerError} when the settlement could not be recorded, so that nothing was sent; upstream answers 502
   * @throws {InvalidPaymentError} when the payment is not in the protocol's shape, or its identity is in doubt; upstream
   * answers 402
   * @throws {AggregatorStoppedError} after `stop()`
   */
  settle(payload: AnyPaymentPayload, requirements: AnyPaymentRequirements): Promise<SettleResponse> {
    return this.#operate('settle', () => settle(this.#context, readPayment(payload, requirements)))
  }

  /**
   * What the facilitators support together: the union of their kinds, each with the `extra` of the facilitator
   * that the next payment would go to. From a cache that the health checks refresh.
   *
   * @throws {AllFacilitatorsFailedError} when no facilitator has ever answered
   * @throws {AggregatorStoppedError} after `stop()`
   */
  getSupported(): Promise<SupportedResponse> {
    return this.#operate('supported', () =>
      this.#supported.get(work => this.#keepAlive(this.#contain(() => work))),
    )
  }

  /**
   * The resources that a facilitator's discovery service lists (`GET /discovery/resources`), from the first
   * facilitator that answers.
   *
   * @throws {AllFacilitatorsFailedError} when none answered
   * @throws {AggregatorStoppedError} after `stop()`
   */
  list(query?: DiscoveryQuery): Promise<DiscoveryResponse> {
    return this.#operate('list', () => list(this.#context, query))
  }

  /**
   * The settlements that may have been charged and were not delivered: deliver or refund them. One that was in flight when
   * its process died is among them when its claim has lapsed, `deadlineMs.settle` and 30 s after it was made.
   *
   * @throws {LedgerError} when the ledger does not answer
   */
  getUnresolvedSettlements(): Promise<UnresolvedSettlement[]> {
    return listUnresolved(this.#books, this.#context.chains)
  }

  /**
   * Closes an unresolved settlement that you have delivered or refunded: from now on the payment is a duplicate, so that
   * the buyer's retry does not deliver it once more.
   *
   * @param key from `getUnresolvedSettlements()` or the event `settlement:resolved`
   * @param by who closes it, for the log
   * @returns false when there is no such settlement, or it is being settled now
   * @throws {LedgerError} when the ledger does not answer
   */
  async closeSettlement(key: string, by?: string): Promise<boolean> {
    try {
      const entry = await this.#books.findUnresolved(key)
      const isClosed = entry !== undefined && (await this.#books.close(entry))
      if (isClosed) this.#logAction('closed', { key, by })
      return isClosed
    } catch (error) {
      throw ledgerError(error)
    }
  }

  /**
   * For the other entry points of this package: work beside the operations, which `stop()` waits for. What it throws is
   * logged.
   *
   * @internal
   */
  attend(work: (context: Context) => Promise<unknown>): Promise<void> {
    const done = this.#contain(() => this.#track(() => work(this.#context)))
    this.#keepAlive(done)
    return done
  }

  /** The health of each facilitator, with the circuit of each of its lanes. */
  getHealthStatus(): HealthStatus {
    return { ...poolHealth(this.#pool.members), ledger: this.#books.usage }
  }

  /** Counts and durations per facilitator and operation. */
  getStatistics(): Statistics {
    return statistics(this.#pool.members)
  }

  /**
   * The newest log entries, oldest first.
   *
   * @param limit at most this many; all that are kept by default
   */
  getRecentLogs(limit = never): LogEntry[] {
    return this.#observer.recentLogs(limit)
  }

  /** The configuration in use, without secrets. */
  getConfig(): AggregatorConfig {
    const { enabled, deadlineMs, backoffMs, strategy, whenAllUnhealthy, logLevel, maxLogEntries } =
      this.#settings
    const { enabled: isChecked, ...healthCheck } = this.#settings.healthCheck
    const { probes, ledger } = this.#settings.settlement
    return {
      enabled,
      facilitators: this.#pool.members.map(({ enabled, options: { client: _, url, ...options } }) => ({
        ...options,
        url: url && redact(url),
        enabled,
        timeoutMs: { ...options.timeoutMs },
      })),
      deadlineMs: { ...deadlineMs },
      backoffMs,
      strategy: typeof strategy === 'function' ? 'function' : strategy,
      whenAllUnhealthy,
      healthCheck: isChecked && healthCheck,
      hasProbe: probes.length > 0,
      isLedgerInMemory: ledger instanceof MemoryLedger,
      logLevel,
      maxLogEntries,
    }
  }

  /**
   * Asks every enabled facilitator now (`GET /supported`).
   *
   * @param id asks only this one, even if it is disabled
   * @param by who asks; the check is logged then
   * @returns the health after it
   * @throws {InvalidOptionsError} when there is no facilitator with this id
   * @throws {AggregatorStoppedError} after `stop()`
   */
  checkHealth(id?: string, by?: string): Promise<HealthStatus> {
    return this.#operate('supported', async () => {
      await (id === undefined ? this.#healthChecker.checkAll() : this.#supported.refresh(this.#member(id)))
      if (by) this.#logAction('checked', { facilitator: id, by })
      return this.getHealthStatus()
    })
  }

  /**
   * Takes a facilitator out of the pool, or back into it, out of quarantine too. Calls in flight are not disturbed.
   *
   * @param by who does it, for the log
   * @throws {InvalidOptionsError} when there is no facilitator with this id
   */
  setFacilitatorEnabled(id: string, enabled: boolean, by?: string): void {
    const member = this.#member(id)
    this.#logAction(enabled ? 'enabled' : 'disabled', { facilitator: id, by })
    this.#pool.setEnabled(member, enabled)
  }

  /**
   * Re-initializes an upstream server whenever what the pool advertises changes, so that new 402 answers name
   * a living facilitator. Kinds that only silent facilitators offer stay, as upstream answers 500 on a route
   * of which one option is missing.
   *
   * @returns ends the binding
   */
  bindResourceServer(server: ReinitializableServer): () => void {
    this.#supported.keepSilent = true
    const reinitialize = () => this.#contain(() => server.initialize())
    this.on('supported:change', reinitialize)
    return () => this.off('supported:change', reinitialize)
  }

  /**
   * Calls `listener` at each event. What it throws is logged, and hurts nobody.
   *
   * @throws {TypeError} when there is no such event, or the listener is no function
   */
  on<E extends EventName>(event: E, listener: Listener<E>): this {
    return this.#listen(event, listener, false)
  }

  /**
   * Calls `listener` at the next event only.
   *
   * @throws {TypeError} when there is no such event, or the listener is no function
   */
  once<E extends EventName>(event: E, listener: Listener<E>): this {
    return this.#listen(event, listener, true)
  }

  /** Ends what `on` or `once` began. */
  off<E extends EventName>(event: E, listener: Listener<E>): this {
    this.#observer.emitter.remove(event, listener)
    return this
  }

  /**
   * Begins the health checks; the first operation does it too, unless `autoStart` is `false`. Starting twice
   * is starting once. After `stop()` it makes the aggregator usable again.
   */
  start(): void {
    if (this.#state === 'started') return
    this.#state = 'started'
    this.#stopping = undefined
    this.#alarms.reset()
    this.#context.chains?.watcher.start()
    if (this.#settings.healthCheck.enabled) this.#healthChecker.start()
  }

  /**
   * Ends the health checks and takes no new work. What was in flight ends by its deadline at the latest. The timers keep
   * no process alive, stopped or not.
   *
   * @param options `inFlight: 'finish'` (default) waits for the calls in flight; `'abort'` gives them up: a
   * settle that may have been sent ends in a `SettlementIndeterminateError`
   * @throws {TypeError} for another option
   */
  stop(options: { inFlight?: 'finish' | 'abort' } = {}): Promise<void> {
    for (const name of Object.keys(options))
      if (name !== 'inFlight') throw new TypeError(unknownName(name, ['inFlight']))
    if (options.inFlight === 'abort') this.#alarms.ringAll()
    if (this.#stopping) return this.#stopping
    this.#state = 'stopped'
    this.#healthChecker.stop()
    const stopping = Promise.allSettled(this.#inFlight).then(async () => {
      // It may have been started again meanwhile.
      if (this.#stopping !== stopping) return
      // Attempts that were overtaken, and that nobody waits for any more.
      this.#alarms.ringAll()
      this.#context.chains?.watcher.stop()
      await reportUnresolved(this.#books, this.#observer)
      this.#observer.emitter.emit('stop', {})
    })
    this.#stopping = stopping
    return stopping
  }

  #listen<E extends EventName>(event: E, listener: Listener<E>, isOnce: boolean): this {
    if (!eventNames.includes(event)) throw new TypeError(unknownName(event, eventNames, 'an event'))
    this.#observer.emitter.add(event, listener, isOnce)
    return this
  }

  #member(id: string): Member {
    const member = this.#pool.member(id)
    if (member) return member
    const ids = this.#pool.members.map(other => other.id)
    throw new InvalidOptionsError([unknownName(id, ids, 'a facilitator')], 'no such facilitator')
  }

  /** What an operator does changes what becomes of payments: it is a warning, so that it is printed by default. */
  #logAction(
    event: string,
    fields: { facilitator?: string | undefined; key?: string; by: string | undefined },
  ) {
    this.#observer.log(
      'warn',
      event,
      fields,
      ({ facilitator = 'every facilitator', key = facilitator, by }) =>
        `${key} was ${event}${by ? ` by ${by}` : ''}`,
    )
  }

  #operate<T>(operation: Operation, work: () => Promise<T>): Promise<T> {
    if (this.#state === 'stopped') return Promise.reject(new AggregatorStoppedError(operation))
    if (this.#state === 'new' && this.#settings.autoStart) this.start()
    const running = this.#track(work)
    if (this.#settings.healthCheck.mode === 'lazy') this.#workBeside()
    // A settle goes on when its caller has left: the money may be on its way.
    if (operation === 'settle') this.#keepAlive(running)
    return running
  }

  /** What timers do elsewhere. */
  #workBeside(): void {
    const { enabled } = this.#settings.healthCheck
    for (const work of [enabled && this.#healthChecker.runIfDue(), this.#context.chains?.watcher.runIfDue()])
      if (work) this.#keepAlive(work)
  }

  #keepAlive(work: Promise<unknown>): void {
    const { waitUntil } = this.#settings
    if (waitUntil) void this.#contain(async () => waitUntil(work.catch(() => undefined)))
  }

  async #track<T>(work: () => Promise<T>): Promise<T> {
    const running = work()
    this.#inFlight.add(running)
    try {
      return await running
    } finally {
      this.#inFlight.delete(running)
    }
  }

  /** Work that nobody waits for must not end in an unhandled rejection. */
  async #contain(work: () => Promise<unknown>): Promise<void> {
    try {
      await work()
    } catch (error) {
      this.#observer.fault('background', 'background work failed', error)
    }
  }
}
