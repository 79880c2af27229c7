/** Asks EVM chains what became of payments by EIP-3009 and Permit2. Needs viem. */
import {
  type Address,
  createPublicClient,
  getAddress,
  type Hex,
  isAddressEqual,
  type Log,
  type PublicClient,
  parseAbi,
  parseAbiItem,
  parseEventLogs,
} from 'viem'
import { untilAborted } from '../clock.ts'
import type { SettlementQuery } from '../settlement/payment-key.ts'
import type { ProbeAnswer, SettlementProbe } from '../settlement/probe.ts'
import { nodes } from './nodes.ts'

export type { SettlementQuery } from '../settlement/payment-key.ts'
export type { ProbeAnswer, SettlementProbe } from '../settlement/probe.ts'

/** Permit2's address, the same on every chain (Uniswap). */
const permit2: Address = '0x000000000022D473030F116dDEE9F6B43aC78BA3'

const eip3009 = parseAbi([
  'function authorizationState(address authorizer, bytes32 nonce) view returns (bool)',
])
const authorizationUsed = parseAbiItem(
  'event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)',
)
const authorizationCanceled = parseAbiItem(
  'event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce)',
)
const transferred = parseAbiItem('event Transfer(address indexed from, address indexed to, uint256 value)')
const tokenEvents = [authorizationUsed, transferred]
const permit2Abi = parseAbi(['function nonceBitmap(address owner, uint256 word) view returns (uint256)'])

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
   * Blocks, counted back from the newest, in which the transaction of a payment is looked for. Nodes limit how
   * many they search at once.
   * @default 2000
   */
  searchBlocks?: number
  /**
   * Blocks that are searched in one request.
   * @default 500
   */
  blocksPerRequest?: number
  /**
   * Milliseconds until one request to a node is given up.
   * @default 4000
   */
  timeoutMs?: number
}

interface ChainAccess {
  readonly client: PublicClient
  readonly confirmations: number
  readonly searchBlocks: bigint
  readonly blocksPerRequest: bigint
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
    supports: (network, method) => method !== 'svm' && access.has(network),
    async ask(query, { signal }) {
      const chain = access.get(query.network)
      if (chain === undefined) return { state: 'cannot-tell', reason: `no node for ${query.network}` }
      try {
        return await untilAborted(look(chain, query), signal)
      } catch (error) {
        return { state: 'cannot-tell', reason: shortMessage(error) }
      }
    },
  }
}

function reach(network: string, options: EvmChainOptions): ChainAccess {
  const { rpcUrl, client, ...numbers } = options
  const { confirmations = 1, searchBlocks = 2_000, blocksPerRequest = 500, timeoutMs = 4_000 } = numbers
  const checked = { confirmations, searchBlocks, blocksPerRequest, timeoutMs }
  const wrong = (problem: string) => new TypeError(`evmSettlementProbe: ${network}: ${problem}`)
  const chainId = Number(/^eip155:(\d+)$/.exec(network)?.[1] ?? Number.NaN)
  if (Number.isNaN(chainId)) throw wrong('expected a CAIP-2 name such as eip155:8453')
  if ((rpcUrl === undefined) === (client === undefined)) throw wrong('give either rpcUrl or client')
  const unknown = Object.keys(numbers).find(name => !(name in checked))
  if (unknown !== undefined)
    throw wrong(`${unknown} is not an option; there are rpcUrl, client, ${Object.keys(checked).join(', ')}`)
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

/** What a search found; a payment without the head's time. */
type Found = Exclude<ProbeAnswer, { state: 'paid' }> | Omit<Extract<ProbeAnswer, { state: 'paid' }>, 'asOf'>

async function look(chain: ChainAccess, query: SettlementQuery): Promise<ProbeAnswer> {
  const newest = await chain.client.getBlock()
  const asOf = Number(newest.timestamp)
  // Read at that very block: behind one URL, the node that answers next may lag.
  if (!(await isSpent(chain.client, query, newest.number))) return { state: 'unspent', asOf }
  const found = await findPayment(chain, query, newest.number)
  return found.state === 'paid' ? { ...found, asOf } : found
}

async function isSpent(
  client: PublicClient,
  { method, asset, payer, nonce }: SettlementQuery,
  blockNumber: bigint,
): Promise<boolean> {
  const owner = getAddress(payer ?? '')
  if (method === 'eip3009') {
    return client.readContract({
      address: getAddress(asset),
      abi: eip3009,
      functionName: 'authorizationState',
      args: [owner, nonce as Hex],
      blockNumber,
    })
  }
  const number = BigInt(nonce)
  const word = await client.readContract({
    address: permit2,
    abi: permit2Abi,
    functionName: 'nonceBitmap',
    args: [owner, number >> 8n],
    blockNumber,
  })
  return ((word >> (number & 255n)) & 1n) === 1n
}

/** Searches the newest blocks first, as a payment that is asked about has just been made. */
async function findPayment(chain: ChainAccess, query: SettlementQuery, newest: bigint): Promise<Found> {
  const oldest = newest > chain.searchBlocks ? newest - chain.searchBlocks : 0n
  let toBlock = newest
  while (toBlock >= oldest) {
    const fromBlock =
      toBlock - chain.blocksPerRequest + 1n > oldest ? toBlock - chain.blocksPerRequest + 1n : oldest
    const answer = await searchBlocks(chain, query, fromBlock, toBlock)
    if (answer !== undefined) return answer
    if (fromBlock === 0n) break
    toBlock = fromBlock - 1n
  }
  return { state: 'cannot-tell', reason: 'the authorization is used, by a transaction that was not found' }
}

async function searchBlocks(
  chain: ChainAccess,
  query: SettlementQuery,
  fromBlock: bigint,
  toBlock: bigint,
): Promise<Found | undefined> {
  const { client } = chain
  const payer = getAddress(query.payer ?? '')
  const range = { address: getAddress(query.asset), fromBlock, toBlock }
  for (const hash of await transactionsAbout(client, query, payer, range)) {
    const receipt = await client.getTransactionReceipt({ hash })
    if (receipt.status !== 'success') continue
    if (query.method === 'permit2' && !(await spentIn(client, query, receipt.blockNumber))) continue
    const isPaid = paysFor(query, receipt.logs)
    if (isPaid === undefined) return { state: 'cannot-tell', reason: 'paid among other payments' }
    const head = await client.getBlockNumber({ cacheTime: 0 })
    const depth = head - receipt.blockNumber + 1n
    if (depth < BigInt(chain.confirmations))
      return {
        state: 'cannot-tell',
        reason: `${depth} of ${chain.confirmations} confirmations`,
        isMined: isPaid,
      }
    if (!isPaid) return { state: 'spent-otherwise', transaction: hash }
    const { timestamp } = await client.getBlock({ blockHash: receipt.blockHash })
    return { state: 'paid', transaction: hash, payer, minedAt: Number(timestamp) }
  }
  return undefined
}

/**
 * Whether the transaction with these logs pays what is asked for; `undefined` when its logs do not say.
 *
 * Where a transaction uses several authorizations, each transfer pays for one of them alone: the token tells of the use
 * and of the transfer in one order, whichever that is.
 */
function paysFor(query: SettlementQuery, logs: Log[]): boolean | undefined {
  const ofToken = parseEventLogs({ abi: tokenEvents, logs }).filter(({ address }) =>
    isAddressEqual(address, getAddress(query.asset)),
  )
  const payer = getAddress(query.payer ?? '')
  const pays = (event: (typeof ofToken)[number] | undefined) =>
    event?.eventName === 'Transfer' &&
    isAddressEqual(event.args.from, payer) &&
    isAddressEqual(event.args.to, getAddress(query.payTo)) &&
    event.args.value >= BigInt(query.amount)
  if (query.method !== 'eip3009') return ofToken.some(pays)

  const uses = ofToken.filter(({ eventName }) => eventName === 'AuthorizationUsed')
  const use = uses.find(
    ({ args }) => 'nonce' in args && args.nonce === query.nonce && isAddressEqual(args.authorizer, payer),
  )
  // It was cancelled.
  if (use === undefined) return false
  if (uses.length === 1) return ofToken.some(pays)
  const at = ofToken.indexOf(use)
  if (ofToken[0] === uses[0]) return pays(ofToken[at + 1])
  if (pays(ofToken[at - 1])) return true
  // The first transfer may have been made without an authorization.
  return pays(ofToken[at + 1]) ? undefined : false
}

/** The transactions that used or cancelled the authorization; with Permit2 those that paid the payee, as it has no event. */
async function transactionsAbout(
  client: PublicClient,
  query: SettlementQuery,
  payer: Address,
  range: { address: Address; fromBlock: bigint; toBlock: bigint },
): Promise<Hex[]> {
  const args = { authorizer: payer, nonce: query.nonce as Hex }
  const logs =
    query.method === 'eip3009'
      ? (
          await Promise.all([
            client.getLogs({ ...range, event: authorizationUsed, args }),
            client.getLogs({ ...range, event: authorizationCanceled, args }),
          ])
        ).flat()
      : await client.getLogs({
          ...range,
          event: transferred,
          args: { from: payer, to: getAddress(query.payTo) },
        })
  return [...new Set(logs.map(log => log.transactionHash).reverse())]
}

/** Whether the nonce was used in this very block: a transfer of the same amount may be another purchase. */
async function spentIn(client: PublicClient, query: SettlementQuery, block: bigint): Promise<boolean> {
  const number = BigInt(query.nonce)
  const bitAt = async (blockNumber: bigint) => {
    const word = await client.readContract({
      address: permit2,
      abi: permit2Abi,
      functionName: 'nonceBitmap',
      args: [getAddress(query.payer ?? ''), number >> 8n],
      blockNumber,
    })
    return (word >> (number & 255n)) & 1n
  }
  return (await bitAt(block)) === 1n && (await bitAt(block - 1n)) === 0n
}

function shortMessage(error: unknown): string {
  const { shortMessage, message } = error as { shortMessage?: string; message?: string }
  return shortMessage ?? message?.split('\n', 1)[0] ?? String(error)
}
