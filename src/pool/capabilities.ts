/** What one facilitator advertises at `/supported`. */
import type { SupportedKind, SupportedResponse } from '@x402/core/types'
import { networkMatchesPattern } from '@x402/core/utils'
import type { SupportedAnswer } from '../facilitator/client.ts'
import { foldAddress } from '../payment/address.ts'
import { type Kind, kindKey, type Payment } from '../payment/payment.ts'

/** Keys of a kind's `extra` whose value names the one facilitator that can serve the payment. */
const bindingKeys = ['feePayer', 'facilitatorAddress', 'receiverAuthorizer'] as const

export class Capabilities {
  readonly kinds: readonly SupportedKind[]
  readonly extensions: readonly string[]
  readonly signers: Readonly<Record<string, readonly string[]>>
  readonly #exact = new Set<string>()
  readonly #patterns: SupportedKind[] = []

  /**
   * @param previous what the same facilitator advertised before: one with several keys names a random one of
   * them at each call, and its choice is kept while it holds, so that nothing seems to have changed
   */
  constructor(answer: SupportedAnswer, previous?: Capabilities) {
    this.extensions = answer.extensions ?? []
    this.signers = answer.signers ?? {}
    const allSigners = new Set(Object.values(this.signers).flat().map(foldAddress))
    this.kinds = (answer.kinds as SupportedKind[]).map(kind => {
      const before = previous?.kinds.find(other => kindKey(other) === kindKey(kind))?.extra
      return before && kind.extra ? keepChoice(kind, before, allSigners) : kind
    })
    for (const kind of this.kinds) {
      if (kind.network.includes('*')) this.#patterns.push(kind)
      else this.#exact.add(kindKey(kind))
    }
  }

  supports(payment: Payment): boolean {
    return this.#exact.has(payment.kindKey) || this.#patterns.some(pattern => matches(pattern, payment))
  }

  /** Everything that a payment's `extra` could name this facilitator by. */
  names(): Set<string> {
    const names = Object.values(this.signers).flat()
    for (const { extra } of this.kinds)
      for (const key of bindingKeys) if (typeof extra?.[key] === 'string') names.push(extra[key])
    return new Set(names.map(foldAddress))
  }
}

function matches(pattern: SupportedKind, kind: Kind): boolean {
  return (
    pattern.x402Version === kind.x402Version &&
    pattern.scheme === kind.scheme &&
    networkMatchesPattern(pattern.network, kind.network as SupportedKind['network'])
  )
}

function keepChoice(
  kind: SupportedKind,
  before: Record<string, unknown>,
  signers: ReadonlySet<string>,
): SupportedKind {
  const extra = { ...kind.extra }
  for (const key of bindingKeys) {
    const choice = before[key]
    if (key in extra && typeof choice === 'string' && signers.has(foldAddress(choice))) extra[key] = choice
  }
  return { ...kind, extra }
}

/** Somebody who may advertise something. */
interface Advertiser {
  readonly capabilities: Capabilities | undefined
}

/** The union of what `advertisers` offer, each kind with the `extra` of the first in its order that has it. */
export function uniteCapabilities(
  orderFor: (kind: SupportedKind) => readonly Advertiser[],
  advertisers: readonly Advertiser[],
): SupportedResponse {
  const all = advertisers.flatMap(({ capabilities }) => capabilities ?? [])
  const kinds = new Map<string, SupportedKind>()
  const signers: Record<string, string[]> = {}
  for (const capabilities of all) {
    for (const kind of capabilities.kinds) {
      const key = kindKey(kind)
      if (!kinds.has(key))
        kinds.set(key, kindsOf(orderFor(kind)).find(other => kindKey(other) === key) ?? kind)
    }
    for (const [family, addresses] of Object.entries(capabilities.signers))
      signers[family] = [...new Set([...(signers[family] ?? []), ...addresses])]
  }
  const extensions = new Set(all.flatMap(capabilities => capabilities.extensions))
  return { kinds: [...kinds.values()], extensions: [...extensions], signers }
}

function kindsOf(advertisers: readonly Advertiser[]): SupportedKind[] {
  return advertisers.flatMap(({ capabilities }) => capabilities?.kinds ?? [])
}
