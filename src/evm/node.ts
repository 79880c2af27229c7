/** One node of a chain, asked nothing before it has shown that it is of that chain. */
import { BaseError, hexToNumber, http, type Transport } from 'viem'

/**
 * A node of another chain knows nothing of a payment, and would call it unspent: Permit2, and many a token, have the
 * same address everywhere.
 *
 * @throws {BaseError} by its requests, when the node is of another chain
 */
export function node(url: string, chainId: number, timeoutMs: number): Transport {
  const transport = http(url, { timeout: timeoutMs, retryCount: 1, retryDelay: 100 })
  return parameters => {
    const { config, value, request } = transport(parameters)
    let whose: Promise<number> | undefined
    const idOfNode = () => {
      whose ??= request({ method: 'eth_chainId' }).then(id => hexToNumber(id as `0x${string}`))
      // What a node that was down did not say is asked again.
      whose.catch(() => {
        whose = undefined
      })
      return whose
    }
    return {
      config,
      ...(value && { value }),
      request: (async asked => {
        const id = await idOfNode()
        if (id !== chainId) throw new BaseError(`the node is of the chain eip155:${id}`)
        return request(asked)
      }) as typeof request,
    }
  }
}
