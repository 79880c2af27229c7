/** The names of the environment variables, but for the numbers in them. */

import { nearest } from '../options/nearest.ts'
import { caip2 } from '../payment/networks.ts'

/** Of `FACILITATOR_<n>_…`. */
export const facilitatorFields = ['URL', 'ENABLED', 'ID', 'PRIORITY', 'TIMEOUT_MS', 'AUTH_HEADER']

/** `FACILITATOR_…`, for the pool as a whole. */
export const poolVariables = [
  'TIMEOUT_MS',
  'SETTLE_TIMEOUT_MS',
  'RETRIES',
  'HEALTH_CHECK',
  'HEALTH_CHECK_INTERVAL_MS',
  'MAX_CONSECUTIVE_FAILURES',
  'LOGGING',
  'LEDGER',
  'GATEWAY_TOKEN',
  'GATEWAY_READ_TOKEN',
  'GATEWAY_ADMIN_TOKEN',
  'GATEWAY_RATE_LIMIT',
  'GATEWAY_ALLOWED_HOSTS',
  'GATEWAY_TRUSTED_PROXIES',
].map(name => `FACILITATOR_${name}`)

/** What is less was meant in seconds; the options refuse it too. */
export const leastTimeoutMs = 100

const others = ['ENABLE_FACILITATOR_AGGREGATOR', 'CDP_API_KEY_ID', 'CDP_API_KEY_SECRET']

/** Of `x402-aggregator serve` alone, as hosting platforms set them. */
const ofServe = ['PORT', 'HOST']

/** Of Solana's clusters, by the names of protocol version 1. */
const solanaVariables = ['RPC_URL_SOLANA', 'RPC_URL_SOLANA_DEVNET', 'RPC_URL_SOLANA_TESTNET']

const spelledOut = /^(?:(?:eip155[:_])?(\d+)|solana[:_]([1-9A-HJ-NP-Za-km-z]{32}))$/i

/**
 * The chain (CAIP-2) whose node a variable names: by chain id, by a name, or as CAIP-2 spells it, with `_` instead of the
 * colon where a shell takes none.
 */
export function networkOfRpc(name: string): string | undefined {
  const chain = /^RPC_URL_(.+)$/.exec(name)?.[1] ?? ''
  if (solanaVariables.includes(name)) return caip2(versionOneName(chain))
  const [, chainId, cluster] = spelledOut.exec(chain) ?? []
  if (chainId !== undefined) return `eip155:${chainId}`
  return cluster === undefined ? undefined : `solana:${cluster}`
}

function versionOneName(chain: string): string {
  return chain.toLowerCase().replaceAll('_', '-')
}

/** Whether a variable of this name may be set; the fields of a facilitator are checked when they are read. */
export function isVariable(name: string): boolean {
  return (
    poolVariables.concat(others, ofServe).includes(name) ||
    networkOfRpc(name) !== undefined ||
    /^FACILITATOR_\d+_\w+$/.test(name)
  )
}

/**
 * The variable that a name which is none was meant to be. Others may have variables whose names begin like ours, such
 * as `FACILITATOR_PRIVATE_KEY` or `RPC_URL`, so only what is close to one of ours counts.
 */
export function meantBy(name: string): string | undefined {
  const chain = /^RPC_URL_(\D.*)$/i.exec(name)?.[1]
  const [namespace, chainId] = caip2(versionOneName(chain ?? '')).split(':')
  if (namespace === 'eip155') return `RPC_URL_${chainId}`
  if (/^solana/i.test(chain ?? ''))
    return solanaVariables.findLast(variable => name.toUpperCase().startsWith(variable))
  const number = /\d+/.exec(name)?.[0]
  const numbered =
    number === undefined
      ? []
      : [`RPC_URL_${number}`, ...facilitatorFields.map(field => `FACILITATOR_${number}_${field}`)]
  return nearest(name.toUpperCase(), [...numbered, ...poolVariables, ...others]) ?? sharingItsStart(name)
}

function sharingItsStart(name: string): string | undefined {
  if (!/^FACILITATOR_[A-Z]/.test(name)) return undefined
  return (
    poolVariables.find(other => other.startsWith(name)) ?? poolVariables.find(other => name.startsWith(other))
  )
}
