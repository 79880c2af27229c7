/** One operation on its way through the pool: the route, the deadline, and a report of each attempt. */

import type { SettleResponse } from '@x402/core/types'
import { attempt, type Request } from '../facilitator/attempt.ts'
import type { Outcome, Responses } from '../facilitator/outcome.ts'
import type { AttemptReport, Operation } from '../observe/attempt-report.ts'
import type { Observer } from '../observe/observer.ts'
import type { Payment } from '../payment/payment.ts'
import type { Member } from '../pool/member.ts'
import { MemberAttempt } from '../pool/member-attempt.ts'
import type { Pool } from '../pool/pool.ts'
import type { Route } from '../pool/route.ts'
import { type Alarms, never, now } from '../runtime/clock.ts'
import type { Books } from '../settlement/books.ts'
import type { Chains } from '../settlement/chain-view.ts'
import type { Resolver } from '../settlement/resolver.ts'

/** How far a settlement goes before the chain is asked, and the next facilitator. */
export interface SettlementRules {
  readonly audit: 'off' | 'sample' | 'always'
  readonly probeAfterMs: number
  readonly failoverAfterMs: number
}

/** What every flow works with. */
export interface Context {
  readonly pool: Pool
  readonly observer: Observer
  readonly alarms: Alarms
  readonly deadlineMs: Readonly<Record<Operation, number>>
  readonly backoffMs: number
  /** Milliseconds after which a verify is asked of the next facilitator as well. */
  readonly hedgeAfterMs: number | undefined
  readonly settlement: SettlementRules
  readonly books: Books
  readonly chains: Chains
  readonly resolver: Resolver
  /** The settlements that run in this process, by key. */
  readonly settling: Map<string, Promise<SettleResponse>>
}

/**
 * The share of the deadline that is kept for each facilitator still to be asked, so that two that hang do not
 * leave nothing for a third that works.
 */
const reservedShare = 0.1

export class Run<O extends Operation> {
  readonly reports: AttemptReport[] = []
  /** Whether a request is sent again that by the word of a client did not get through: not where two may charge twice. */
  mayRepeatUnconfirmed = true
  /** Those that have let an attempt go without an answer, or for too long. */
  readonly unanswered: Member[] = []
  /** Answers of facilitators that lack an ability. */
  readonly #lacking: Responses[O][] = []
  #route: Route
  /** The attempts that have not ended. */
  readonly #open: MemberAttempt[] = []
  readonly deadline: number
  /** Of now: a `start()` that follows a `stop()` at once makes a new one. */
  readonly #signal: AbortSignal
  #isEnded = false
  #last: { readonly member: Member; readonly outcome: Outcome } | undefined

  constructor(
    readonly context: Context,
    readonly operation: O,
    private readonly request: Request,
    route: Route = context.pool.route(operation, request.payment),
  ) {
    this.#route = route
    this.#signal = context.alarms.signal
    this.deadline = now() + context.deadlineMs[operation]
  }

  /**
   * The facilitator to ask now; `undefined` when none is left, or no time.
   *
   * A half-open lane whose trial another request has taken since goes to the back of the route.
   */
  next(): Member | undefined {
    const { preferred, lastResort } = this.#route
    const time = now()
    if (time >= this.deadline || this.isAborted) return undefined
    let member: Member | undefined
    for (member = take(preferred); member !== undefined; member = take(preferred)) {
      if (this.#lane(member).isAvailable(time)) break
      lastResort?.push(member)
    }
    member ??= lastResort && take(lastResort)
    if (member !== undefined && this.#last !== undefined) this.#reportFailover(this.#last, member)
    return member
  }

  /** From now on no attempt begins, not even as the retry of one that is still open. */
  end(): void {
    this.#isEnded = true
  }

  /** Begins the route anew, as the facilitators' health is now, without some of them. */
  startOver(without: readonly Member[]): void {
    const { preferred, lastResort } = this.context.pool.route(this.operation, this.payment)
    const isLeft = (member: Member) => !without.includes(member)
    this.#route = { preferred: preferred.filter(isLeft), lastResort: lastResort?.filter(isLeft) }
  }

  get payment(): Payment | undefined {
    return this.request.payment
  }

  get isAborted(): boolean {
    return this.#signal.aborted
  }

  /** Calls back after `delayMs` (ms), or as soon as the aggregator aborts its work; returns what ends the wait. */
  wait(callback: () => void, delayMs: number): () => void {
    const { alarms } = this.context
    const alarm = alarms.setTimeout(callback, delayMs)
    return () => alarms.clearTimeout(alarm)
  }

  /** Calls back at `time` (monotonic, ms; may be never), or as soon as the aggregator aborts its work. */
  waitUntil(time: number, callback: () => void): () => void {
    if (time === never) return () => {}
    return this.wait(callback, this.isAborted ? 0 : Math.max(0, Math.ceil(time - now())))
  }

  /**
   * Notes that the route goes on although `member` has not answered yet. That is not counted against its lane: a hedge
   * does not wait long enough to tell a slow facilitator from a broken one.
   */
  hedge(member: Member, afterMs: number): void {
    this.#last = { member, outcome: { kind: 'unknown', reason: `no answer within ${afterMs} ms` } }
    this.unanswered.push(member)
  }

  /** The same after the longest wait that is acceptable: its lane takes a failure, now and not again when it ends. */
  overtake(member: Member, afterMs: number): void {
    this.hedge(member, afterMs)
    for (const attempt of this.#open) if (attempt.member === member) attempt.overtake()
  }

  /**
   * Asks `member`, again if it is worth it. The outcome of the last attempt counts; it is `isUnconfirmed` where only the
   * facilitator's word says that an earlier attempt did nothing.
   */
  async ask(member: Member): Promise<Outcome<O>> {
    const first = await this.#attempt(member)
    const isEnough = member.options.retries === 0 || !this.#isWorthARetry(first, member)
    const outcome = isEnough ? first : await this.#askAgain(member, first)
    this.#last = { member, outcome }
    return outcome
  }

  /** After pauses that double, each times a random factor from 1 to 2; or after what `Retry-After` says. */
  async #askAgain(member: Member, first: Outcome<O>): Promise<Outcome<O>> {
    let outcome = first
    let isUnconfirmed = false
    for (let retries = 0; retries < member.options.retries; retries++) {
      const backoffMs = this.context.backoffMs * 2 ** retries * (1 + Math.random())
      await this.#pause(Math.min(retryAfterMs(outcome) ?? backoffMs, this.#remainingMs))
      if (!this.#mayBegin) break
      isUnconfirmed ||= isUnconfirmedDenial(outcome)
      outcome = await this.#attempt(member)
      if (!this.#isWorthARetry(outcome, member)) break
    }
    return isUnconfirmed ? { ...outcome, isUnconfirmed } : outcome
  }

  #pause(delayMs: number): Promise<void> {
    return new Promise(resolve => {
      const end = this.wait(() => {
        end()
        resolve()
      }, delayMs)
    })
  }

  /**
   * When every facilitator declined the payment for its abilities, the last such answer is the verdict: the
   * server then tells the buyer, who may pay otherwise. That is no outage.
   */
  get verdictOnAbilities(): Responses[O] | undefined {
    return this.#lacking.length === this.reports.length ? this.#lacking.at(-1) : undefined
  }

  async #attempt(member: Member): Promise<Outcome<O>> {
    const { observer, alarms } = this.context
    const open = new MemberAttempt(member, this.operation, this.payment)
    this.#open.push(open)
    const timeoutMs = this.#timeoutFor(member)
    const outcome = await attempt(member.options.client, this.operation, this.request, timeoutMs, alarms)
    this.#open.splice(this.#open.indexOf(open), 1)
    const report = open.end(outcome, this.isAborted)
    this.reports.push(report)
    if (outcome.kind === 'declined' && outcome.cause === 'ability' && outcome.response !== undefined)
      this.#lacking.push(outcome.response)
    if (outcome.kind === 'unreachable' || outcome.kind === 'unknown') this.unanswered.push(member)
    const isRefusal = outcome.kind === 'declined' && outcome.cause === 'credentials'
    observer.attempt(report, isRefusal ? 'debug' : undefined)
    // A fault of the configuration: reported loudly once, not per payment.
    if (member.refusesNow(outcome)) observer.credentials(member.id, outcome.reason)
    return outcome
  }

  #reportFailover({ member, outcome }: { member: Member; outcome: Outcome }, to: Member): void {
    this.context.observer.failover({
      operation: this.operation,
      network: this.payment?.network,
      from: member.id,
      to: to.id,
      outcome: outcome.kind,
      reason: outcome.reason,
    })
  }

  #isWorthARetry(outcome: Outcome<O>, member: Member): boolean {
    const isLast = this.#left === 0
    const pauseMs = retryAfterMs(outcome) ?? 0
    if (pauseMs >= this.#remainingMs - this.#reservedMs || this.#remainingMs <= 0) return false
    if (!isLast && !this.#lane(member).isAvailable(now())) return false
    switch (outcome.kind) {
      case 'unreachable':
        return this.mayRepeatUnconfirmed || !outcome.isUnconfirmed
      case 'unknown':
        // A settle is never repeated blindly; who hangs is given up for the next, or for the next health check.
        if (this.operation === 'settle') return false
        return outcome.timedOut !== true || (isLast && this.operation !== 'supported')
      case 'declined':
        return outcome.transient === true || (outcome.cause === 'rate-limit' && isLast && pauseMs > 0)
      case 'answered':
      case 'pending':
      case 'spent':
        return false
    }
  }

  #timeoutFor(member: Member): number {
    return Math.max(
      1,
      Math.min(member.options.timeoutMs[this.operation], this.#remainingMs - this.#reservedMs),
    )
  }

  get #mayBegin(): boolean {
    return this.#remainingMs > 0 && !this.#isEnded && !this.isAborted
  }

  get #remainingMs(): number {
    return this.deadline - now()
  }

  /** However many are left, the one that is asked keeps its share of the time. */
  get #reservedMs(): number {
    const left = this.#left
    const share = this.context.deadlineMs[this.operation] * reservedShare
    return left * Math.min(share, this.#remainingMs / (left + 1))
  }

  get #left(): number {
    return this.#route.preferred.length + (this.#route.lastResort?.length ?? 0)
  }

  #lane(member: Member) {
    return member.lane(this.operation, this.payment)
  }
}

/** The first that has not been taken out of service since the route was made. */
function take(queue: Member[]): Member | undefined {
  for (let member = queue.shift(); member !== undefined; member = queue.shift())
    if (member.isInService) return member
  return undefined
}

function retryAfterMs(outcome: Outcome): number | undefined {
  return 'retryAfterMs' in outcome ? outcome.retryAfterMs : undefined
}

/** Whether only the facilitator's word says that it did nothing. */
function isUnconfirmedDenial(outcome: Outcome): boolean {
  return outcome.kind === 'declined' ? outcome.isUnsent !== true : outcome.isUnconfirmed === true
}
