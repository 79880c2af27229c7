/** Public facilitators by name. What they support today, they say themselves at `/supported`. */
import { InvalidOptionsError } from '../errors.ts'
import type { FacilitatorByUrl } from '../options/options.ts'

/** The main networks of a public facilitator (CAIP-2), where it answers, and what it wants to know of its callers. */
export interface KnownFacilitator {
  readonly url: string
  readonly networks: readonly string[]
  /** `none`: anybody may ask. `cdp`: `createAuthHeaders` must sign with a Coinbase CDP API key. */
  readonly auth: 'none' | 'cdp'
}

const solana = 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp'
const solanaDevnet = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'

export const knownFacilitators = {
  /** Source: the README of github.com/x402-rs/x402-rs. */
  'x402-rs': {
    url: 'https://facilitator.x402.rs',
    networks: ['eip155:8453', 'eip155:84532'],
    auth: 'none',
  },
  /** Source: docs.payai.network/x402/supported-networks. */
  payai: {
    url: 'https://facilitator.payai.network',
    networks: ['eip155:8453', 'eip155:137', 'eip155:42161', 'eip155:43114', 'eip155:1329', solana],
    auth: 'none',
  },
  /** Source: docs.cdp.coinbase.com/x402/network-support. */
  'coinbase-cdp': {
    url: 'https://api.cdp.coinbase.com/platform/v2/x402',
    networks: ['eip155:8453', 'eip155:137', 'eip155:42161', 'eip155:143', 'eip155:480', solana],
    auth: 'cdp',
  },
  /** Test networks only. Source: docs.x402.org, and the default of upstream's clients. */
  'x402-org': {
    url: 'https://x402.org/facilitator',
    networks: ['eip155:84532', solanaDevnet],
    auth: 'none',
  },
  /** Source: docs.monad.xyz/guides/x402. */
  monad: {
    url: 'https://x402-facilitator.molandak.org',
    networks: ['eip155:143', 'eip155:10143'],
    auth: 'none',
  },
} as const satisfies Record<string, KnownFacilitator>

export type KnownFacilitatorName = keyof typeof knownFacilitators

/**
 * A public facilitator as a member of the pool.
 *
 * @param name one of `knownFacilitators`; also the `id`, unless `options` give another
 * @param options any option of a facilitator, but for its `url`
 * @throws {InvalidOptionsError} for a name that is not in the table, a `url` of one's own, or a facilitator that wants
 * `createAuthHeaders` and gets none
 *
 * @example
 * ```ts
 * const aggregator = new FacilitatorAggregator({ facilitators: [known('x402-rs'), known('payai', { retries: 2 })] })
 * ```
 */
export function known(
  name: KnownFacilitatorName,
  options: Partial<Omit<FacilitatorByUrl, 'url'>> & { url?: never } = {},
): FacilitatorByUrl {
  const problems: string[] = []
  const table: Readonly<Record<string, KnownFacilitator>> = knownFacilitators
  const { url = '', auth } = (Object.hasOwn(table, name) && table[name]) || {}
  if (url === '')
    problems.push(`there is no known facilitator "${name}"; there are ${Object.keys(table).join(', ')}`)
  if (options.url !== undefined) problems.push(`known("${name}"): url is given beside the name`)
  if (auth === 'cdp' && options.createAuthHeaders === undefined)
    problems.push(`known("${name}"): createAuthHeaders is missing: cdpAuthHeaders of /env makes it`)
  if (problems.length > 0) throw new InvalidOptionsError(problems)
  return { ...options, id: options.id ?? name, url }
}
