/** Asks EVM chains what became of payments by EIP-3009 and Permit2. Needs viem. */
import { createPublicClient, type PublicClient } from 'viem'
import { connect } from '../chain/connect.ts'
import { untilAborted } from '../runtime/clock.ts'
import type { SettlementProbe } from '../settlement/probe.ts'
import { dryRun } from './dry-run.ts'
import { nodes } from './nodes.ts'
import { type ChainAccess, lookUp } from './payment-search.ts'

export type { SettlementQuery } from '../payment/payment-key.ts'
export type { ChainReader, DryRun, SettlementProbe, SignedPayment } from '../settlement/probe.ts'
export type { ProbeAnswer } from '../settlement/probe-answer.ts'

/** How to reach one chain. */
export interface EvmChainOptions {
  /** One or more nodes; the next is asked when one fails, or turns out to be of another chain. */
  rpcUrl?: string | readonly string[]
  /** A viem client of your own, instead of `rpcUrl`; its `chain` must be this one. */
  client?: PublicClient
  /**
   * Blocks that must lie on top of a payment, its own included, before it counts.
   * @default 1
   */
  confirmations?: number
  /**
   * Blocks, counted back from the newest, in which the transaction of a payment is looked for.
   * @default 2000
   */
  searchBlocks?: number
  /**
   * Blocks that are searched in one request. Where a node takes fewer, it is asked for fewer.
   * @default 500
   */
  blocksPerRequest?: number
  /**
   * Milliseconds until one request to a node is given up.
   * @default 4000
   */
  timeoutMs?: number
}

/**
 * A probe for payments on EVM chains.
 *
 * @param chains by CAIP-2 name
 * @throws {TypeError} when a chain is given wrongly
 *
 * @example
 * ```ts
 * const probe = evmSettlementProbe({ 'eip155:8453': { rpcUrl: 'https://mainnet.base.org' } })
 * ```
 */
export function evmSettlementProbe(chains: Readonly<Record<string, EvmChainOptions>>): SettlementProbe {
  const given = Object.entries(chains ?? {})
  if (given.length === 0)
    throw new TypeError(
      "evmSettlementProbe: expected a chain, such as { 'eip155:8453': { rpcUrl: 'https://…' } }",
    )
  const access = new Map(given.map(([network, options]) => [network, reach(network, options)]))
  return {
    supports: (network, method) => (method === 'eip3009' || method === 'permit2') && access.has(network),
    async ask(query, options) {
      const chain = access.get(query.network)
      if (chain === undefined) return { state: 'cannot-tell', reason: `no node for ${query.network}` }
      try {
        return await untilAborted(lookUp(chain, query, options), options.signal)
      } catch (error) {
        return { state: 'cannot-tell', reason: shortMessage(error) }
      }
    },
    async wouldAccept(payment, { signal }) {
      const client = access.get(payment.query.network)?.client
      try {
        return client ? await untilAborted(dryRun(client, payment, signal), signal) : 'cannot-tell'
      } catch {
        return 'cannot-tell'
      }
    },
    connect,
  }
}

function reach(network: string, options: EvmChainOptions): ChainAccess {
  const { rpcUrl, client, ...numbers } = options
  const { confirmations = 1, searchBlocks = 2_000, blocksPerRequest = 500, timeoutMs = 4_000 } = numbers
  const checked = { confirmations, searchBlocks, blocksPerRequest, timeoutMs }
  const wrong = (problem: string) => new TypeError(`evmSettlementProbe: ${network}: ${problem}`)
  const chainId = Number(/^eip155:(\d+)$/.exec(network)?.[1])
  if (Number.isNaN(chainId)) throw wrong('expected a CAIP-2 name such as eip155:8453')
  const unknown = Object.keys(numbers).find(name => !(name in checked))
  if (unknown)
    throw wrong(`${unknown} is not an option; there are rpcUrl, client, ${Object.keys(checked).join(', ')}`)
  if ((rpcUrl === undefined) === (client === undefined)) throw wrong('give either rpcUrl or client')
  for (const [name, value] of Object.entries(checked))
    if (!Number.isInteger(value) || value < 1)
      throw wrong(`${name}: expected a whole number from 1, got ${value}`)
  const urls = typeof rpcUrl === 'string' ? [rpcUrl] : (rpcUrl ?? [])
  if (client === undefined && urls.length === 0) throw wrong('rpcUrl is an empty list')
  for (const url of urls) if (!/^https?:\/\//.test(url)) throw wrong('rpcUrl: expected https:// or http://')
  if (client?.chain !== undefined && client.chain.id !== chainId)
    throw wrong(`client is of the chain eip155:${client.chain.id}`)
  const create = () =>
    createPublicClient({
      cacheTime: 0,
      transport: nodes(urls, chainId, timeoutMs),
    }) as PublicClient
  let created = client
  return {
    // With the first question: viem draws random numbers, which Workers forbid while modules are loaded.
    get client() {
      created ??= create()
      return created
    },
    confirmations,
    searchBlocks: BigInt(searchBlocks),
    blocksPerRequest: BigInt(blocksPerRequest),
  }
}

function shortMessage(error: unknown): string {
  const { shortMessage, message } = error as { shortMessage?: string; message?: string }
  return shortMessage ?? message?.split('\n', 1)[0] ?? String(error)
}
