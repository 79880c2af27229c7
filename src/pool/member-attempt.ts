/** One attempt as its facilitator's lane sees it: from its beginning, over being overtaken, to what it has shown. */

import type { DeclineCause, Outcome } from '../facilitator/outcome.ts'
import type { AttemptReport, Operation } from '../observe/attempt-report.ts'
import type { Payment } from '../payment/payment.ts'
import { now } from '../runtime/clock.ts'
import type { Circuit, LaneSign, Trial } from './circuit.ts'
import type { Member } from './member.ts'

/** A 429 without `Retry-After` keeps a lane at the back of the route this long; one with it, at most an hour. */
const defaultPauseMs = 1_000
const longestPauseMs = 3_600_000

export class MemberAttempt {
  readonly #startedAt = now()
  readonly #lane: Circuit
  readonly #trial: Trial | undefined
  #isOvertaken = false

  constructor(
    readonly member: Member,
    private readonly operation: Operation,
    private readonly payment: Payment | undefined,
  ) {
    this.#lane = member.lane(operation, payment)
    this.#trial = this.#lane.enter(this.#startedAt)
  }

  /** The route goes on without it, after the longest wait that is acceptable: that is a failure, counted once. */
  overtake(): void {
    if (this.#isOvertaken) return
    this.#isOvertaken = true
    this.#lane.leave(this.#trial, 'failure', now())
  }

  /**
   * @param endedAt monotonic time (ms) at which the facilitator answered, or was given up
   * @param isAborted the aggregator has ended it, which says nothing about the facilitator
   */
  end(outcome: Outcome, endedAt: number, isAborted: boolean): AttemptReport {
    const sign = isAborted || outcome.isOurs ? 'nothing' : signOf(outcome)
    // Its failure has been counted, and the authorization may have been used by the one that overtook it.
    const isCounted = this.#isOvertaken && (sign === 'failure' || outcome.kind === 'spent')
    this.#lane.leave(this.#trial, isCounted ? 'nothing' : sign, endedAt)
    if (outcome.kind === 'declined' && outcome.cause === 'rate-limit')
      this.#lane.pause(Math.min(outcome.retryAfterMs ?? defaultPauseMs, longestPauseMs), endedAt)
    const report: AttemptReport = {
      facilitator: this.member.id,
      operation: this.operation,
      network: this.payment?.network,
      outcome: outcome.kind,
      reason: outcome.reason,
      durationMs: endedAt - this.#startedAt,
    }
    this.member.recorded(report, sign === 'success')
    return report
  }
}

/** Causes that say nothing of a facilitator's health: a buyer's malformed payload must not be able to open a circuit. */
const sayNothing: readonly DeclineCause[] = ['request', 'simulation', 'rate-limit']

/** What an outcome says of a facilitator's health (README, "How failover decides"). */
function signOf(outcome: Outcome): LaneSign {
  switch (outcome.kind) {
    case 'answered':
    case 'pending':
    case 'spent':
      return 'success'
    case 'declined':
      if (outcome.cause === 'ability') return 'success'
      return sayNothing.includes(outcome.cause) ? 'nothing' : 'failure'
    case 'unreachable':
      return 'failure'
    case 'unknown':
      // A buyer can make a transaction fail.
      return outcome.isReverted && outcome.transaction !== undefined ? 'nothing' : 'failure'
  }
}
