/** The names of the environment variables, but for the numbers in them. */

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
  'GATEWAY_TOKEN',
  'GATEWAY_READ_TOKEN',
  'GATEWAY_ADMIN_TOKEN',
  'GATEWAY_RATE_LIMIT',
  'GATEWAY_ALLOWED_HOSTS',
  'GATEWAY_TRUSTED_PROXIES',
].map(name => `FACILITATOR_${name}`)

const others = ['ENABLE_FACILITATOR_AGGREGATOR', 'CDP_API_KEY_ID', 'CDP_API_KEY_SECRET']

/** The chain id is in its parentheses. */
export const rpcVariable = /^RPC_URL_(\d+)$/

/** Whether a variable of this name may be set; the fields of a facilitator are checked when they are read. */
export function isVariable(name: string): boolean {
  return (
    poolVariables.concat(others).includes(name) ||
    rpcVariable.test(name) ||
    /^FACILITATOR_\d+_\w+$/.test(name)
  )
}
