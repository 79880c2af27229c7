/** One operation on its way through the pool: the route, the deadline, and a report of each attempt. */

import { attempt, type Request } from '../facilitator/attempt.ts'
import type { Outcome, Responses } from '../facilitator/outcome.ts'
import { meaningOf } from '../facilitator/reasons.ts'
import type { AttemptReport, Operation } from '../observe/attempt-report.ts'
import type { Payment } from '../payment/payment.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import type { Member } from '../pool/member.ts'
import { MemberAttempt } from '../pool/member-attempt.ts'
import type { Route } from '../pool/route.ts'
import { never, now } from '../runtime/clock.ts'
import type { Context } from './context.ts'

/**
 * The share of the deadline that is kept for each facilitator still to be asked, so that two that hang do not
 * leave nothing for a third that works.
 */
const reservedShare = 0.1

export interface RunRequest extends Request {
  /** Other facilitators than the pool would ask, or in another order. */
  readonly route?: Route | undefined
  /** What the chain may be asked about, once, if a facilitator rejects the payment. */
  readonly examinable?: SettlementQuery | undefined
  /** Monotonic time (ms), where the operation has begun before. */
  readonly deadline?: number | undefined
}

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
  /** Until it has been examined. */
  #examinable: SettlementQuery | undefined
  readonly deadline: number
  /** Of now: a `start()` that follows a `stop()` at once makes a new one. */
  readonly #signal: AbortSignal
  #isEnded = false
  /** When a facilitator was asked last. */
  #askedAt = 0
  #last: { readonly member: Member; readonly outcome: Outcome } | undefined

  constructor(
    readonly context: Context,
    readonly operation: O,
    private readonly request: RunRequest,
  ) {
    this.#route = request.route ?? context.pool.route(operation, request.payment)
    this.#examinable = request.examinable
    this.#signal = context.alarms.signal
    this.deadline = request.deadline ?? now() + context.deadlineMs[operation]
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
    for (member = take(preferred); member; member = take(preferred)) {
      if (this.#lane(member).isAvailable(time)) break
      lastResort?.push(member)
    }
    member ??= lastResort && take(lastResort)
    if (member && this.#last) this.#reportFailover(this.#last, member)
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
    this.#askedAt = now()
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
    const answer = await attempt(member.options.client, this.operation, this.request, timeoutMs, alarms)
    const endedAt = now()
    const outcome = answer.reason ? await this.#examine(member, answer) : answer
    this.#open.splice(this.#open.indexOf(open), 1)
    const report = open.end(outcome, endedAt, this.isAborted)
    this.reports.push(report)
    if (outcome.kind === 'declined' && outcome.cause === 'ability' && outcome.response)
      this.#lacking.push(outcome.response)
    if (outcome.kind === 'unreachable' || outcome.kind === 'unknown') this.unanswered.push(member)
    const isRefusal = outcome.kind === 'declined' && outcome.cause === 'credentials'
    observer.attempt(report, isRefusal ? 'debug' : undefined)
    // A fault of the configuration: reported loudly once, not per payment.
    if (member.refusesNow(outcome)) observer.credentials(member.id, outcome.reason)
    return outcome
  }

  /** Asks the chain, once, whether a facilitator that rejects the payment is right. */
  async #examine(member: Member, outcome: Outcome<O>): Promise<Outcome<O>> {
    const { operation, context, payment, reports } = this
    const query = this.#examinable
    const isSettle = operation === 'settle'
    // While a settle may be on its way, by an attempt or by another process, the chain is asked about that alone; and while
    // another one may answer, or when nobody waits any more, a verdict is not examined.
    if (
      !query ||
      !payment ||
      // A reason that nobody has listed may be about anything.
      !meaningOf(outcome.reason ?? '') ||
      this.#isEnded ||
      this.#open.length > 1 ||
      (outcome.kind !== 'answered' && (isSettle || outcome.kind !== 'spent')) ||
      (isSettle && reports.some(({ outcome }) => outcome !== 'unreachable'))
    )
      return outcome
    this.#examinable = undefined
    // A verdict is not shopped while it is examined: that ends before the next facilitator is asked beside this one.
    const patienceMs = isSettle ? context.settlement.failoverAfterMs : (context.hedgeAfterMs ?? never)
    const timeoutMs = Math.min(
      this.#remainingMs / (isSettle ? 4 : 2),
      this.#askedAt + patienceMs * 0.9 - now(),
    )
    const examined = { ...payment, query }
    return (
      (await context.chains?.crossExamine(outcome, {
        facilitator: member.id,
        operation,
        payment: examined,
        timeoutMs,
      })) ?? outcome
    )
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
  for (let member = queue.shift(); member; member = queue.shift()) if (member.isInService) return member
  return undefined
}

function retryAfterMs(outcome: Outcome): number | undefined {
  return 'retryAfterMs' in outcome ? outcome.retryAfterMs : undefined
}

/** Whether only the facilitator's word says that it did nothing. */
function isUnconfirmedDenial(outcome: Outcome): boolean {
  return outcome.kind === 'declined' ? outcome.isUnsent !== true : outcome.isUnconfirmed === true
}
