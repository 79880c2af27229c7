/** Headers for Coinbase CDP's facilitator, signed by CDP's own SDK (`@coinbase/cdp-sdk`, an optional peer). */
import type { AuthHeaders } from '../facilitator/http-client.ts'
import { knownFacilitators } from '../known/index.ts'

/** A secret API key of the Coinbase Developer Platform. */
export interface CdpCredentials {
  readonly apiKeyId: string
  readonly apiKeySecret: string
}

const requests = {
  verify: ['POST', '/verify'],
  settle: ['POST', '/settle'],
  supported: ['GET', '/supported'],
  list: ['GET', '/discovery/resources'],
} as const

/**
 * `createAuthHeaders` for Coinbase CDP: a token for each operation, good for two minutes, made afresh for each
 * request. The SDK is loaded with the first.
 *
 * @example
 * ```ts
 * const facilitators = [known('coinbase-cdp', { createAuthHeaders: cdpAuthHeaders({ apiKeyId, apiKeySecret }) })]
 * ```
 */
export function cdpAuthHeaders(credentials: CdpCredentials): () => Promise<AuthHeaders> {
  const { host, pathname } = new URL(knownFacilitators['coinbase-cdp'].url)
  return async () => {
    const { generateJwt } = await loadSdk()
    const tokens = Object.entries(requests).map(async ([operation, [requestMethod, path]]) => {
      const target = { requestMethod, requestHost: host, requestPath: `${pathname}${path}` }
      return [operation, { Authorization: `Bearer ${await generateJwt({ ...credentials, ...target })}` }]
    })
    return Object.fromEntries(await Promise.all(tokens))
  }
}

async function loadSdk() {
  // Bundlers take an import that may fail for optional only inside a `try`.
  try {
    return await import('@coinbase/cdp-sdk/auth')
  } catch (cause) {
    throw new Error('Coinbase CDP needs its SDK: npm install @coinbase/cdp-sdk', { cause })
  }
}
