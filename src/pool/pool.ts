/** The facilitators together: their order, what they advertise, and which of them may serve a payment. */
import type { SupportedResponse } from '@x402/core/types'
import type { SupportedAnswer } from '../facilitator/client.ts'
import type { Operation } from '../observe/attempt-report.ts'
import type { ObserverEvents } from '../observe/events.ts'
import type { Observer } from '../observe/observer.ts'
import type { Payment } from '../payment/payment.ts'
import { now } from '../runtime/clock.ts'
import { sortedBy } from '../runtime/sorted-by.ts'
import { uniteCapabilities } from './capabilities.ts'
import type { CircuitChange, CircuitOptions } from './circuit.ts'
import { Member, type MemberOptions } from './member.ts'
import { BindingIndex, findRoute, isEligible, type Route } from './route.ts'
import { type Order, orderBy, priorityOf, type Strategy } from './strategy.ts'

export interface PoolOptions {
  readonly members: readonly MemberOptions[]
  readonly strategy: Strategy
  readonly whenAllUnhealthy: 'try' | 'refuse'
  readonly healthCheck: CircuitOptions
}

/** What is emitted about facilitators. */
export interface PoolEvents extends ObserverEvents {
  /** A facilitator has become healthy (not quarantined, no lane's circuit open) or unhealthy. */
  'health:change': { readonly facilitator: string; readonly isHealthy: boolean }
  'circuit:change': CircuitChange
}

/** What the verify of a payment tells its settle. */
interface Verification {
  readonly verifier: Member
  /** Those that were asked and gave no answer. */
  readonly unanswered: readonly Member[]
}

export class Pool {
  readonly members: readonly Member[]
  readonly #order: Order
  readonly #whenAllUnhealthy: 'try' | 'refuse'
  #bindings: BindingIndex
  /** How a payment was verified; keyed by its `accepted` part, which upstream keeps when it adds to a payload. */
  readonly #verifications = new WeakMap<object, Verification>()
  readonly #unhealthy = new Set<Member>()
  readonly #hasEquals: boolean

  constructor(
    options: PoolOptions,
    private readonly observer: Observer<PoolEvents>,
    /** Called when what the pool advertises may have changed. */
    private readonly onChange: () => void,
  ) {
    this.members = options.members.map(
      one => new Member(one, options.healthCheck, (member, change) => this.#laneChanged(member, change)),
    )
    this.#order = orderBy(options.strategy, this.members, error =>
      this.observer.fault('strategy', 'the strategy failed, priorities decide', error),
    )
    this.#whenAllUnhealthy = options.whenAllUnhealthy
    this.#bindings = new BindingIndex(this.members)
    this.#hasEquals =
      options.strategy !== 'priority' || new Set(this.members.map(priorityOf)).size < this.members.length
  }

  /** The facilitators that may serve this request now, in order. */
  route(operation: Operation, payment?: Payment): Route {
    const isSettle = operation === 'settle' && payment !== undefined
    const verified = isSettle ? this.#verifications.get(paymentIdentity(payment)) : undefined
    const request = { operation, payment, whenAllUnhealthy: this.#whenAllUnhealthy }
    const route = findRoute(this.#order(operation, verified?.verifier), this.#bindings, request, now())
    return verified?.unanswered.length
      ? {
          ...route,
          preferred: sortedBy(route.preferred, member => Number(verified.unanswered.includes(member))),
        }
      : route
  }

  /** Whether any enabled facilitator could serve the payment, were it healthy. */
  couldServe(payment: Payment): boolean {
    return this.members.some(member => isEligible(member, payment, this.#bindings))
  }

  /**
   * @param verifier goes first among equals when the payment is settled
   * @param unanswered those that gave no answer to its verify go last then, the verifier excepted
   */
  rememberVerifier(payment: Payment, verifier: Member, unanswered: readonly Member[]): void {
    if (!this.#hasEquals && unanswered.length === 0) return
    const others = unanswered.filter(member => member !== verifier)
    this.#verifications.set(paymentIdentity(payment), { verifier, unanswered: others })
  }

  /** Takes a facilitator out of service that claimed a success that the chain does not know. */
  quarantine(member: Member): void {
    member.quarantine()
    this.#changed(member)
  }

  /** Takes a facilitator out of service, or back into it, out of quarantine too. */
  setEnabled(member: Member, enabled: boolean): void {
    member.setEnabled(enabled)
    this.#changed(member)
  }

  /** Takes what a facilitator has just advertised. */
  learn(member: Member, answer: SupportedAnswer): void {
    member.learned(answer)
    this.#bindings = new BindingIndex(this.members)
  }

  /**
   * What the pool advertises: the kinds of the members that answer, each with the `extra` of the member that
   * the next payment would go to.
   *
   * @param keepSilent also the kinds that only members offer which have stopped answering: upstream's server
   * answers 500 on a route of which one option is missing, where the others could still be sold
   */
  supported(keepSilent: boolean): SupportedResponse {
    const time = now()
    const isSilent = (member: Member) => member.circuit('supported')?.state === 'open'
    return uniteCapabilities(
      sortedBy(this.members, priorityOf).filter(
        member => member.isInService && (keepSilent || !isSilent(member)),
      ),
      (member, key) =>
        Number(isSilent(member)) * 3 +
        Number(member.isTroubled('verify', key, time)) +
        Number(member.isTroubled('settle', key, time)),
    )
  }

  member(id: string): Member | undefined {
    return this.members.find(member => member.id === id)
  }

  #laneChanged(member: Member, change: CircuitChange): void {
    this.observer.emit(
      'circuit:change',
      change,
      change.to === 'open' ? 'warn' : 'info',
      ({ facilitator, operation, network, from, to }) =>
        `${facilitator}: circuit of ${operation}${network === undefined ? '' : ` on ${network}`} ${from} → ${to}`,
    )
    this.#changed(member)
  }

  #changed(member: Member): void {
    const { isHealthy } = member
    if (isHealthy === this.#unhealthy.has(member)) {
      if (isHealthy) this.#unhealthy.delete(member)
      else this.#unhealthy.add(member)
      this.observer.emit(
        'health:change',
        { facilitator: member.id, isHealthy },
        isHealthy ? 'info' : 'warn',
        change => `${change.facilitator} is ${change.isHealthy ? '' : 'un'}healthy`,
      )
    }
    this.onChange()
  }
}

function paymentIdentity({ payload }: Payment): object {
  return payload.accepted ?? payload.payload
}
