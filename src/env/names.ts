/** The names of the environment variables, but for the numbers in them. */
import { caip2 } from '../payment/networks.ts'
import { nearest } from './nearest.ts'

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

/** The chain id is in its parentheses. */
export const rpcVariable = /^RPC_URL_(\d+)$/

/** Whether a variable of this name may be set; the fields of a facilitator are checked when they are read. */
export function isVariable(name: string): boolean {
  return (
    poolVariables.concat(others, ofServe).includes(name) ||
    rpcVariable.test(name) ||
    /^FACILITATOR_\d+_\w+$/.test(name)
  )
}

/**
 * The variable that a name which is none was meant to be. Others may have variables whose names begin like ours, such
 * as `FACILITATOR_PRIVATE_KEY` or `RPC_URL`, so only what is close to one of ours counts.
 */
export function meantBy(name: string): string | undefined {
  const chain = /^RPC_URL_(\D.*)$/i.exec(name)?.[1]
  const [namespace, chainId] = caip2((chain ?? '').toLowerCase().replaceAll('_', '-')).split(':')
  if (namespace === 'eip155') return `RPC_URL_${chainId}`
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
