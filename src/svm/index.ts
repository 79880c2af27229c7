/** Asks Solana clusters what became of payments. Needs @solana/kit. */
import { connect } from '../chain/connect.ts'
import { unknownName } from '../options/unknown-name.ts'
import { caip2 } from '../payment/networks.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { now, untilAborted } from '../runtime/clock.ts'
import type { SettlementProbe } from '../settlement/probe.ts'
import type { ProbeAnswer } from '../settlement/probe-answer.ts'
import { loadKit } from './kit.ts'
import { connectTo } from './nodes.ts'
import { type ClusterAccess, lookUp } from './payment-search.ts'

export type { SettlementQuery } from '../payment/payment-key.ts'
export type { DryRun, SettlementProbe, SignedPayment } from '../settlement/probe.ts'
export type { ProbeAnswer } from '../settlement/probe-answer.ts'

/** How to reach one cluster. */
export interface SvmClusterOptions {
  /**
   * One or more nodes; the next is asked when one fails, lags, has not kept the history, or turns out to be of another
   * cluster.
   */
  rpcUrl: string | readonly string[]
  /**
   * Of the block of a payment, before it counts. Two thirds of the stake have voted for a confirmed block; a finalized
   * one, some 13 s later, cannot be dropped any more.
   * @default 'confirmed'
   */
  commitment?: 'confirmed' | 'finalized'
  /**
   * Transactions of the buyer, counted back from the newest, among which a payment is looked for.
   * @default 2000
   */
  searchSignatures?: number
  /**
   * Milliseconds until one request to a node is given up.
   * @default 4000
   */
  timeoutMs?: number
}

/**
 * A probe for payments on Solana: of SPL Token and Token-2022, by transactions that a facilitator pays the fee of.
 *
 * @param clusters by CAIP-2 name, or by that of protocol version 1: `solana`, `solana-devnet`
 * @throws {TypeError} when a cluster is given wrongly
 *
 * @example
 * ```ts
 * const probe = svmSettlementProbe({
 *   'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp': { rpcUrl: 'https://api.mainnet-beta.solana.com' },
 * })
 * ```
 */
export function svmSettlementProbe(clusters: Readonly<Record<string, SvmClusterOptions>>): SettlementProbe {
  const access = new Map<string, ClusterAccess>()
  for (const [name, options] of Object.entries(clusters ?? {})) {
    const network = caip2(name)
    if (access.has(network)) throw new TypeError(`svmSettlementProbe: ${name}: ${network} is given twice`)
    access.set(network, reach(name, network, options))
  }
  if (access.size === 0)
    throw new TypeError(
      "svmSettlementProbe: expected a cluster, such as { 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp': { rpcUrl: 'https://…' } }",
    )
  return {
    supports: (network, method) => method === 'svm' && access.has(network),
    async ask(query, { signal, since }) {
      const cluster = access.get(query.network)
      if (cluster === undefined) return { state: 'cannot-tell', reason: `no node for ${query.network}` }
      const answer = loadKit().then(() => askInTurn(cluster, query, since))
      return untilAborted(answer, signal).catch(cannotTell)
    },
    connect,
  }
}

/** Seconds by which the newest block that a node knows may be older than our clock before another node is asked too. */
const maxLagSeconds = 30

/** Asks one node after the other until one of them knows; those that have just failed only when all have. */
async function askInTurn(
  cluster: ClusterAccess,
  query: SettlementQuery,
  since: number | undefined,
): Promise<ProbeAnswer> {
  const awake = cluster.nodes.filter(({ restsUntil }) => restsUntil <= now())
  let best: ProbeAnswer | undefined
  for (const node of awake.length > 0 ? awake : cluster.nodes) {
    const answer = await lookUp({ node, cluster, query, since }).catch(cannotTell)
    if (isKnown(answer)) return answer
    best = best === undefined ? answer : better(best, answer)
  }
  return best ?? cannotTell('no node')
}

/** A node that is stuck knows nothing of what was paid since. */
function isKnown(answer: ProbeAnswer): boolean {
  if (answer.state === 'unspent') return answer.asOf > Date.now() / 1000 - maxLagSeconds
  return answer.state !== 'cannot-tell' || answer.isMined !== undefined
}

/** What was seen unspent last. */
function better(one: ProbeAnswer, other: ProbeAnswer): ProbeAnswer {
  if (other.state !== 'unspent') return one
  return one.state === 'unspent' && one.asOf >= other.asOf ? one : other
}

function cannotTell(error: unknown): ProbeAnswer {
  return { state: 'cannot-tell', reason: error instanceof Error ? error.message : String(error) }
}

function reach(name: string, network: string, options: SvmClusterOptions): ClusterAccess {
  const { rpcUrl, commitment = 'confirmed', ...numbers } = options
  const { searchSignatures = 2_000, timeoutMs = 4_000 } = numbers
  const checked = { searchSignatures, timeoutMs }
  const wrong = (problem: string) => new TypeError(`svmSettlementProbe: ${name}: ${problem}`)
  if (!/^solana:[1-9A-HJ-NP-Za-km-z]{32}$/.test(network))
    throw wrong('expected a CAIP-2 name such as solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp')
  const unknown = Object.keys(numbers).find(option => !(option in checked))
  if (unknown) throw wrong(unknownName(unknown, ['rpcUrl', 'commitment', ...Object.keys(checked)]))
  if (commitment !== 'confirmed' && commitment !== 'finalized')
    throw wrong(`commitment: expected 'confirmed' or 'finalized', got ${commitment}`)
  for (const [option, value] of Object.entries(checked))
    if (!Number.isInteger(value) || value < 1)
      throw wrong(`${option}: expected a whole number from 1, got ${value}`)
  const urls = typeof rpcUrl === 'string' ? [rpcUrl] : (rpcUrl ?? [])
  if (urls.length === 0) throw wrong('rpcUrl: give the URL of a node')
  for (const url of urls) if (!/^https?:\/\//.test(url)) throw wrong('rpcUrl: expected https:// or http://')
  return {
    nodes: urls.map(url => connectTo(url, network, timeoutMs)),
    commitment,
    searchSignatures,
    sightings: new Map(),
    messages: new Map(),
  }
}
