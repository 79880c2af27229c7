/** Whether the nodes that are asked about payments answer, and for the right chain. */
import { LazyEvmProbe } from '../env/lazy-evm-probe.ts'
import { networkProblem } from '../facilitator/classify.ts'
import type { AggregatorOptions } from '../options/options.ts'

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
  const reason = await whatIsWrong(network, url)
  const latencyMs = Math.round(performance.now() - begunAt)
  const { host } = new URL(url)
  return reason === undefined
    ? { network, node: host, status: 'ok', latencyMs }
    : { network, node: host, status: 'failed', reason, latencyMs }
}

async function whatIsWrong(network: string, url: string): Promise<string | undefined> {
  let response: Response
  try {
    response = await fetch(url, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: 'eth_chainId', params: [] }),
      signal: AbortSignal.timeout(timeoutMs),
    })
  } catch (error) {
    return `does not answer (${networkProblem(error)})`
  }
  const body = (await response.json().catch(() => undefined)) as { result?: unknown } | null | undefined
  if (typeof body?.result !== 'string' || !/^0x[\da-f]+$/i.test(body.result))
    return `is not a node of an EVM chain, or refuses us (HTTP ${response.status})`
  const chain = `eip155:${BigInt(body.result)}`
  return chain === network ? undefined : `is of the chain ${chain}`
}
