/** Whether the nodes that are asked about payments answer, and for the right chain. */
import { LazyEvmProbe } from '../env/lazy-evm-probe.ts'
import { LazySvmProbe } from '../env/lazy-svm-probe.ts'
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

/** How a node is asked for its chain, which differs between the kinds of chains, by their namespace in CAIP-2. */
const questions: Readonly<Record<string, Question>> = {
  eip155: {
    method: 'eth_chainId',
    kind: 'an EVM chain',
    chainOf: result => (/^0x[\da-f]+$/i.test(result) ? `eip155:${BigInt(result)}` : undefined),
  },
  solana: {
    method: 'getGenesisHash',
    kind: 'a Solana cluster',
    chainOf: result => (/^\w{43,44}$/.test(result) ? `solana:${result.slice(0, 32)}` : undefined),
  },
}

interface Question {
  readonly method: string
  readonly kind: string
  chainOf(result: string): string | undefined
}

export function askNodes({ settlement }: AggregatorOptions): Promise<NodeFinding[]> {
  const chains = (settlement?.probes ?? []).flatMap(probe =>
    probe instanceof LazyEvmProbe || probe instanceof LazySvmProbe ? Object.entries(probe.chains) : [],
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
  const question = questions[network.split(':')[0] ?? ''] as Question
  let response: Response
  try {
    response = await fetch(withoutUser, {
      method: 'POST',
      headers,
      body: JSON.stringify({ jsonrpc: '2.0', id: 1, method: question.method, params: [] }),
      signal: AbortSignal.timeout(timeoutMs),
    })
  } catch (error) {
    return `does not answer (${withoutKeys(networkProblem(error))})`
  }
  const body = (await response.json().catch(() => undefined)) as { result?: unknown } | null | undefined
  const chain = typeof body?.result === 'string' ? question.chainOf(body.result) : undefined
  if (chain === undefined) return `is not a node of ${question.kind}, or refuses us (HTTP ${response.status})`
  return chain === network ? undefined : `is of the chain ${chain}`
}
