/** What this runtime cannot do. */

/** The runtime's name, where it runs timers, and keeps promises, only while it answers a request. */
export function runtimeWithoutTimers(): string | undefined {
  const { EdgeRuntime, navigator } = globalThis as {
    EdgeRuntime?: unknown
    navigator?: { userAgent?: string }
  }
  if (EdgeRuntime !== undefined) return 'the Edge runtime'
  return navigator?.userAgent === 'Cloudflare-Workers' ? 'Cloudflare Workers' : undefined
}
