/** What people write when they want failover: the next facilitator on any error and on any failure. */
import { type FacilitatorClient, HTTPFacilitatorClient } from '@x402/core/server'

export function naiveFallback(urls: readonly string[], timeoutMs: number): FacilitatorClient {
  const clients = urls.map(url => new HTTPFacilitatorClient({ url, timeoutMs }))

  async function first<T>(call: (client: FacilitatorClient) => Promise<T>, isGood: (answer: T) => boolean) {
    let last: unknown = new Error('no facilitators')
    for (const client of clients) {
      try {
        const answer = await call(client)
        if (isGood(answer)) return answer
        last = answer
      } catch (error) {
        last = error
      }
    }
    if (last instanceof Error) throw last
    return last as T
  }

  return {
    verify: (payload, requirements) =>
      first(
        client => client.verify(payload, requirements),
        answer => answer.isValid,
      ),
    settle: (payload, requirements) =>
      first(
        client => client.settle(payload, requirements),
        answer => answer.success,
      ),
    getSupported: () =>
      first(
        client => client.getSupported(),
        () => true,
      ),
  }
}
