/** The nodes of a cluster, each asked nothing before it has shown that it is of that cluster. */
import type { PendingRpcRequest, Rpc, SolanaRpcApi } from '@solana/kit'
import { now, within } from '../runtime/clock.ts'
import { kit } from './kit.ts'

/** Milliseconds for which a node that did not answer is passed over: a question has no time to wait for it twice. */
const restMs = 10_000

export interface Node {
  readonly restsUntil: number
  /**
   * One request.
   *
   * @throws {Error} when the node does not answer in time, refuses, or is of another cluster
   */
  ask<T>(request: (rpc: Rpc<SolanaRpcApi>) => PendingRpcRequest<T>): Promise<T>
}

/**
 * A node of another cluster knows nothing of a payment, and would call it unspent. It is asked for its genesis hash
 * once, and anew when it has failed; a CAIP-2 name has the first 32 letters of it.
 */
export function connectTo(url: string, network: string, timeoutMs: number): Node {
  let opened: ReturnType<typeof open> | undefined
  let isOfCluster = false
  let restsUntil = 0
  return {
    get restsUntil() {
      return restsUntil
    },
    async ask(request) {
      opened ??= open(url, timeoutMs)
      const { rpc, send } = opened
      try {
        if (!isOfCluster) {
          const cluster = `solana:${(await send(rpc.getGenesisHash())).slice(0, 32)}`
          if (cluster !== network) throw new Error(`the node is of the cluster ${cluster}`)
          isOfCluster = true
        }
        return await send(request(rpc))
      } catch (error) {
        if (isDown(error)) {
          restsUntil = now() + restMs
          isOfCluster = false
        }
        throw error
      }
    },
  }
}

function open(url: string, timeoutMs: number) {
  // `fetch` takes no credentials in a URL.
  const { username, password, ...parts } = credentialsOf(url)
  const headers = username + password && { authorization: `Basic ${btoa(`${username}:${password}`)}` }
  const transport = kit.createDefaultRpcTransport({ url: parts.href, ...(headers && { headers }) })
  return {
    rpc: kit.createSolanaRpcFromTransport(transport) as Rpc<SolanaRpcApi>,
    send: <T>(request: PendingRpcRequest<T>) =>
      within(timeoutMs, abortSignal => request.send({ abortSignal })),
  }
}

function credentialsOf(url: string) {
  const parsed = new URL(url)
  const { username, password } = parsed
  parsed.username = ''
  parsed.password = ''
  return {
    username: decodeURIComponent(username),
    password: decodeURIComponent(password),
    href: parsed.href,
  }
}

/** Whether the node has failed, and not the request. */
function isDown(error: unknown): boolean {
  return !kit.isSolanaError(error) || kit.isSolanaError(error, kit.SOLANA_ERROR__RPC__TRANSPORT_HTTP_ERROR)
}
