/** The nodes of a chain, each asked nothing before it has shown that it is of that chain. */
import { BaseError, fallback, HttpRequestError, hexToNumber, http, TimeoutError, type Transport } from 'viem'
import { now } from '../clock.ts'

/** Milliseconds for which a node that did not answer is passed over: a question has no time to wait for it twice. */
const restMs = 10_000

/** Asks one node after the other; those that have just failed only when all have. */
export function nodes(urls: readonly string[], chainId: number, timeoutMs: number): Transport {
  const restsUntil = new Map<string, number>()
  const isResting = (url: string) => (restsUntil.get(url) ?? 0) > now()
  const each = urls.map((url): Transport => {
    const transport = node(url, chainId, timeoutMs, urls.length > 1 ? 0 : 1)
    return parameters => {
      const made = transport(parameters)
      const request = (async asked => {
        if (isResting(url) && !urls.every(isResting)) throw new BaseError('the node has just failed')
        try {
          return await made.request(asked)
        } catch (error) {
          if (error instanceof HttpRequestError || error instanceof TimeoutError)
            restsUntil.set(url, now() + restMs)
          throw error
        }
      }) as typeof made.request
      return { ...made, request }
    }
  })
  return fallback(each, { retryCount: 0 })
}

/**
 * A node of another chain knows nothing of a payment, and would call it unspent: Permit2, and many a token, have the
 * same address everywhere.
 *
 * @throws {BaseError} by its requests, when the node is of another chain
 */
function node(url: string, chainId: number, timeoutMs: number, retryCount: number): Transport {
  const transport = http(url, { timeout: timeoutMs, retryCount, retryDelay: 100 })
  return parameters => {
    const made = transport(parameters)
    let whose: Promise<number> | undefined
    const idOfNode = () => {
      whose ??= made.request({ method: 'eth_chainId' }).then(id => hexToNumber(id as `0x${string}`))
      // What a node that was down did not say is asked again.
      whose.catch(() => {
        whose = undefined
      })
      return whose
    }
    const request = (async asked => {
      const id = await idOfNode()
      if (id !== chainId) throw new BaseError(`the node is of the chain eip155:${id}`)
      return made.request(asked)
    }) as typeof made.request
    return { ...made, request }
  }
}
