/** Whether the nodes that are asked about payments answer, and for the right chain. */
import { LazyEvmProbe } from '../env/lazy-evm-probe.ts'
import { networkProblem } from '../facilitator/classify.ts'
import type { AggregatorOptions } from '../options/options.ts'
import { withoutKeys } from './printable.ts'

export interface NodeFinding {
  network: string
  /** Without its path, which may hold a key. */
  node: string
  status: 'ok' | 'failed'
  /** Why it cannot be used. */
  reason?: string
  latencyMs: number
}

const timeoutMs = 5_000

export function askNodes({ settlement }: AggregatorOptions): Promise<NodeFinding[]> {
  const chains = (settlement?.probes ?? []).flatMap(probe =>
    probe instanceof LazyEvmProbe ? Object.entries(probe.chains) : [],
  )
  return Promise.all(
    chains.flatMap(([network, { rpcUrl = [] }]) => [rpcUrl].flat().map(url => askNode(network, url))),
  )
}

async function askNode(network: string, url: string): Promise<NodeFinding> {
  const begunAt = performance.now()
  const reason = await whatIsWrong(network, new URL(url))
  const latencyMs = Math.round(performance.now() - begunAt)
  const { host } = new URL(url)
  return reason === undefined
    ? { network, node: host, status: 'ok', latencyMs }
    : { network, node: host, status: 'failed', reason, latencyMs }
}

async function whatIsWrong(network: string, { href, username, password }: URL): Promise<string | undefined> {
  const headers: Record<string, string> = { 'content-type': 'application/json' }
  // `fetch` takes no credentials in a URL, and quotes it when it says so.
  const withoutUser = Object.assign(new URL(href), { username: '', password: '' })
  const user = decodeURIComponent(`${username}:${password}`)
  if (user !== ':') headers.authorization = `Basic ${Buffer.from(user).toString('base64')}`
  let response: Response
  try {
    response = await fetch(withoutUser, {
      method: 'POST',
      headers,
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] }),
      signal: AbortSignal.timeout(timeoutMs),
    })
  } catch (error) {
    return `does not answer (${withoutKeys(networkProblem(error))})`
  }
  const body = (await response.json().catch(() => undefined)) as { result?: unknown } | null | undefined
  if (typeof body?.result !== 'string' || !/^0x[\da-f]+$/i.test(body.result))
    return `is not a node of an EVM chain, or refuses us (HTTP ${response.status})`
  const chain = `eip155:${BigInt(body.result)}`
  return chain === network ? undefined : `is of the chain ${chain}`
}
