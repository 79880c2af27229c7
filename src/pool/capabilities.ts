/** What one facilitator advertises at `/supported`. */
import type { SupportedKind, SupportedResponse } from '@x402/core/types'
import type { SupportedAnswer } from '../facilitator/client.ts'
import { foldAddress } from '../payment/address.ts'
import { networkName, plainName } from '../payment/names.ts'
import { kindKey } from '../payment/payment.ts'
import { never } from '../runtime/clock.ts'

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
   * A kind that cannot be one is left out.
   *
   * @param previous what the same facilitator advertised before: one with several keys names a random one of
   * them at each call, and its choice is kept while it holds, so that nothing seems to have changed
   */
  constructor(answer: SupportedAnswer, previous?: Capabilities) {
    this.extensions = answer.extensions
    this.signers = answer.signers
    const allSigners = new Set(Object.values(this.signers).flat().map(foldAddress))
    const kinds = new Map<string, SupportedKind>()
    for (const kind of (answer.kinds as SupportedKind[]).filter(isReadable)) {
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

function isReadable({ scheme, network, extra = {} }: SupportedKind): boolean {
  try {
    return (
      plainName.test(scheme) &&
      networkName.test(network.replace(/:\*$/, ':0')) &&
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

/** The union of what `advertisers` offer, each kind with the `extra` of the first of least rank that has it. */
export function uniteCapabilities<A extends Advertiser>(
  advertisers: readonly A[],
  rankOf: (advertiser: A, key: string) => number,
): SupportedResponse {
  const kinds = new Map<string, { kind: SupportedKind; rank: number }>()
  const extensions = new Set<string>()
  const signers = new Map<string, string[]>()
  for (const advertiser of advertisers) {
    const { capabilities } = advertiser
    if (!capabilities) continue
    for (const [key, kind] of capabilities.kinds) {
      const rank = rankOf(advertiser, key)
      if (rank < (kinds.get(key)?.rank ?? never)) kinds.set(key, { kind, rank })
    }
    for (const extension of capabilities.extensions) extensions.add(extension)
    for (const [family, addresses] of Object.entries(capabilities.signers))
      signers.set(family, [...new Set([...(signers.get(family) ?? []), ...addresses])])
  }
  return {
    kinds: [...kinds.values()].map(({ kind }) => kind),
    extensions: [...extensions],
    signers: Object.fromEntries(signers),
  }
}
