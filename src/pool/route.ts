/** Which facilitators may serve a request now, and in which order (README, "How failover decides"). */

import type { Operation } from '../observe/attempt-report.ts'
import { foldAddress } from '../payment/address.ts'
import type { Payment } from '../payment/payment.ts'
import { bindingKeys } from './capabilities.ts'
import type { Member } from './member.ts'

/** The extension that describes a resource to the world. A payment is as good at a facilitator without it. */
const descriptiveExtension = 'bazaar'

/** Facilitators in trouble come last, not never. */
export interface Route {
  /** In the order of the strategy, those whose capabilities are not known yet behind the others. */
  readonly preferred: Member[]
  /** The same for lanes whose circuit is open, or which a 429 has paused; none with `'refuse'`. */
  readonly lastResort: Member[] | undefined
}

/** What the pool advertises, looked up by what a payment may name. Made anew when capabilities change. */
export class BindingIndex {
  readonly #byName = new Map<string, Set<Member>>()
  readonly #byExtension = new Map<string, Set<Member>>()

  constructor(members: readonly Member[]) {
    for (const member of members) {
      for (const name of member.capabilities?.names() ?? []) add(this.#byName, name, member)
      for (const extension of member.capabilities?.extensions ?? [])
        if (extension !== descriptiveExtension) add(this.#byExtension, extension, member)
    }
  }

  /**
   * Whether the payment may be sent to `member`: each value of the requirements' `extra` that names a
   * facilitator of the pool, and each extension that somebody here supports, must be this one's too. Values
   * that name nobody exclude nobody. Equality with the `extra` of a facilitator's kind would not do: one with several
   * keys names another of them each time.
   *
   * Under a binding key any value counts, and that of a facilitator out of service too: the payment was made for it.
   * Under another key only an address does, and an address or an extension only of one in service: anybody may advertise
   * the token's contract as its own.
   */
  agrees(member: Member, payment: Payment): boolean {
    const { extra } = payment.requirements
    for (const key in extra) {
      const value = extra[key]
      if (typeof value !== 'string') continue
      const isBinding = bindingKeys.includes(key)
      if (
        (isBinding || address.test(value)) &&
        isOthers(this.#byName.get(foldAddress(value)), member, isBinding)
      )
        return false
    }
    for (const extension in payment.payload.extensions)
      if (isOthers(this.#byExtension.get(extension), member)) return false
    return true
  }
}

/** Of an EVM chain, or of Solana. */
const address = /^\w{32,44}$/

/** Whether it names others, and not `member`. */
function isOthers(named: ReadonlySet<Member> | undefined, member: Member, isBinding = false): boolean {
  return named?.has(member) === false && (isBinding || [...named].some(other => other.isInService))
}

export interface RouteRequest {
  readonly operation: Operation
  /** Absent for `list`, which any facilitator may answer. */
  readonly payment: Payment | undefined
  readonly whenAllUnhealthy: 'try' | 'refuse'
}

/** @param ordered all facilitators, in the order of the strategy */
export function findRoute(
  ordered: readonly Member[],
  bindings: BindingIndex,
  request: RouteRequest,
  now: number,
): Route {
  const { operation, payment } = request
  const known: Member[] = []
  const unknown: Member[] = []
  const troubled: Member[] = []
  for (const member of ordered) {
    if (!isEligible(member, payment, bindings)) continue
    if (member.isTroubled(operation, payment?.kindKey, now)) troubled.push(member)
    else if (!member.capabilities) unknown.push(member)
    else known.push(member)
  }
  return {
    preferred: unknown.length === 0 ? known : known.concat(unknown),
    lastResort: request.whenAllUnhealthy === 'refuse' ? undefined : troubled,
  }
}

/** Whether the facilitator could serve the request, whatever its health. */
export function isEligible(member: Member, payment: Payment | undefined, bindings: BindingIndex): boolean {
  if (!member.isInService) return false
  if (!payment) return true
  return member.capabilities?.supports(payment.kindKey) !== false && bindings.agrees(member, payment)
}

function add(index: Map<string, Set<Member>>, key: string, member: Member): void {
  index.set(key, (index.get(key) ?? new Set()).add(member))
}
