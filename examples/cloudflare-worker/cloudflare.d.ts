/** What is used of it; `npx wrangler types` describes it all. */
declare module 'cloudflare:workers' {
  export const env: Record<string, string | undefined> & {
    SETTLEMENTS: import('x402-facilitator-aggregator/durable-object').ObjectNamespace
  }
  export function waitUntil(work: Promise<unknown>): void
}
