/** What is used of it; `npx wrangler types` describes it all. */
declare module 'cloudflare:workers' {
  export const env: Record<string, string | undefined>
  export function waitUntil(work: Promise<unknown>): void
}
