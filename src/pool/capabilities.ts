/** What one facilitator advertises at `/supported`. */
import type { SupportedKind, SupportedResponse } from '@x402/core/types'
import { maxFamilies, maxKinds, type SupportedAnswer } from '../facilitator/client.ts'
import { foldAddress } from '../payment/address.ts'
import { isNetwork, isPlain } from '../payment/names.ts'
import { kindKey } from '../payment/payment.ts'

/** Keys of `extra` whose value names the one facilitator that can serve the payment. */
export const bindingKeys: readonly string[] = ['feePayer', 'facilitatorAddress', 'receiverAuthorizer']

/** Characters of a kind's `extra`, written as JSON. */
const longestExtra = 2_048

export class Capabilities {
  /** By their key. */
  readonly kinds: ReadonlyMap<string, SupportedKind>
  readonly extensions: readonly string[]
  readonly signers: Readonly<Record<string, readonly string[]>>

  /**
   * What is beyond the bounds, or cannot be a name, is left out.
   *
   * @param previous what the same facilitator advertised before: one with several keys names a random one of
   * them at each call, and its choice is kept while it holds, so that nothing seems to have changed
   */
  constructor(answer: SupportedAnswer, previous?: Capabilities) {
    this.extensions = namesIn(answer.extensions)
    this.signers = Object.fromEntries(
      Object.entries(answer.signers ?? {})
        .slice(0, maxFamilies)
        .filter(([family]) => isPlain(family))
        .map(([family, addresses]) => [family, namesIn(addresses)]),
    )
    const allSigners = new Set(Object.values(this.signers).flat().map(foldAddress))
    const kinds = new Map<string, SupportedKind>()
    for (const kind of (answer.kinds as SupportedKind[]).slice(0, maxKinds).filter(isReadable)) {
      const key = kindKey(kind)
      const before = previous?.kinds.get(key)?.extra
      if (!kinds.has(key)) kinds.set(key, before && kind.extra ? keepChoice(kind, before, allSigners) : kind)
    }
    this.kinds = kinds
  }

  /** @param key of a kind, whose network may be one of those that a `*` stands for */
  supports(key: string): boolean {
    return this.kinds.has(key) || this.kinds.has(key.replace(/:.*/, ':*'))
  }

  /** Everything that a payment's `extra` could name this facilitator by. */
  names(): Set<string> {
    const names = Object.values(this.signers).flat()
    for (const { extra } of this.kinds.values())
      for (const key of bindingKeys) if (typeof extra?.[key] === 'string') names.push(extra[key])
    return new Set(names.map(foldAddress))
  }
}

function namesIn(list: readonly string[] | undefined): string[] {
  return (list ?? []).slice(0, maxKinds).filter(name => isPlain(name))
}

function isReadable({ scheme, network, extra = {} }: SupportedKind): boolean {
  try {
    return (
      isPlain(scheme) &&
      isNetwork(network.replace(/:\*$/, ':0')) &&
      JSON.stringify(extra).length <= longestExtra
    )
  } catch {
    // Nested too deep to be written.
    return false
  }
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

/** The union of what `advertisers` offer, each kind with the `extra` of the one that `choose` takes. */
export function uniteCapabilities<A extends Advertiser>(
  advertisers: readonly A[],
  choose: (key: string, candidates: A[]) => A | undefined,
): SupportedResponse {
  const offers = new Map<string, A[]>()
  const signers = new Map<string, Set<string>>()
  const extensions = new Set<string>()
  const addTo = <T>(map: Map<string, T>, key: string, empty: T): T => {
    const known = map.get(key) ?? empty
    map.set(key, known)
    return known
  }
  for (const advertiser of advertisers) {
    const { capabilities } = advertiser
    for (const key of capabilities?.kinds.keys() ?? []) addTo(offers, key, []).push(advertiser)
    for (const extension of capabilities?.extensions ?? []) extensions.add(extension)
    for (const [family, addresses] of Object.entries(capabilities?.signers ?? {}))
      for (const address of addresses) addTo(signers, family, new Set()).add(address)
  }
  return {
    kinds: [...offers].flatMap(
      ([key, candidates]) => choose(key, candidates)?.capabilities?.kinds.get(key) ?? [],
    ),
    extensions: [...extensions],
    signers: Object.fromEntries([...signers].map(([family, addresses]) => [family, [...addresses]])),
  }
}
