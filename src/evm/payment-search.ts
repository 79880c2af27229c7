/** Finds out what became of one payment. */
import {
  type Block,
  getAddress,
  type Hex,
  numberToHex,
  type PublicClient,
  pad,
  parseAbi,
  toEventSelector,
} from 'viem'
import type { SettlementQuery } from '../payment/payment-key.ts'
import type { ProbeAnswer } from '../settlement/probe-answer.ts'
import { permit2 } from './authorization-uses.ts'
import { judge } from './evidence.ts'

export interface ChainAccess {
  readonly client: PublicClient
  readonly confirmations: number
  readonly searchBlocks: bigint
  /** As many as the node has been seen to take. */
  blocksPerRequest: bigint
}

const states = parseAbi([
  'function authorizationState(address authorizer, bytes32 nonce) view returns (bool)',
  'function nonceBitmap(address owner, uint256 word) view returns (uint256)',
])
const uses = [
  toEventSelector('AuthorizationUsed(address,bytes32)'),
  toEventSelector('AuthorizationCanceled(address,bytes32)'),
]
const transferred = toEventSelector('Transfer(address,address,uint256)')

/** Blocks by which the search for the block of a use strides back: first one, then as many times more. */
const strideGrowth = 8n

export async function lookUp(
  chain: ChainAccess,
  query: SettlementQuery,
  { signal, since }: { readonly signal: AbortSignal; readonly since?: number | undefined },
): Promise<ProbeAnswer> {
  const newest = await chain.client.getBlock()
  // Read at that very block: behind one URL, the node that answers next may lag.
  if (!(await isSpent(chain.client, query, { blockNumber: newest.number })))
    return { state: 'unspent', asOf: Number(newest.timestamp) }
  const oldest = newest.number > chain.searchBlocks ? newest.number - chain.searchBlocks : 0n
  // A clock that is ahead of the chain's has dated nothing that is of use here.
  const isDated = since !== undefined && since <= newest.timestamp
  return findPayment({ chain, query, signal, since: isDated ? since : undefined, newest, oldest })
}

type At = { readonly blockNumber: bigint } | { readonly blockHash: Hex }

async function isSpent(client: PublicClient, query: SettlementQuery, at: At): Promise<boolean> {
  const owner = getAddress(query.payer ?? '')
  if (query.method === 'eip3009')
    return client.readContract({
      address: getAddress(query.asset),
      abi: states,
      functionName: 'authorizationState',
      args: [owner, query.nonce as Hex],
      ...at,
    })
  const nonce = BigInt(query.nonce)
  const word = await client.readContract({
    address: permit2,
    abi: states,
    functionName: 'nonceBitmap',
    args: [owner, nonce >> 8n],
    ...at,
  })
  return ((word >> (nonce & 255n)) & 1n) === 1n
}

/** A transaction that may have used the authorization. */
interface Candidate {
  readonly hash: Hex
  readonly block: bigint
}

type MinedBlock = Block<bigint, false, 'latest'>

/** The search for how an authorization was used that the newest block shows as used. */
interface Search {
  readonly chain: ChainAccess
  readonly query: SettlementQuery
  readonly signal: AbortSignal
  readonly since: number | undefined
  readonly newest: MinedBlock
  /** The first block of the range. */
  readonly oldest: bigint
}

/**
 * The newest blocks are searched by their logs, as a payment that is asked about has just been made. What is not among
 * them is found by the state, which shows in which block the authorization was used, whatever for. Older logs are
 * searched only where the node has forgotten that state.
 */
async function findPayment(search: Search): Promise<ProbeAnswer> {
  const { query, newest, oldest, since } = search
  let searchedTo = newest.number + 1n
  try {
    const found = await logsUpTo(search, newest.number)
    searchedTo = found.from
    const answer = await decide(search, await narrow(search, found.candidates))
    if (answer === 'unclear' && query.method === 'eip3009') return unclear
    if (answer !== undefined && answer !== 'unclear') return answer
  } catch (error) {
    // There are nodes that search no range, and still tell the logs of one block.
    if (search.signal.aborted) throw error
  }

  const use = await findUse(search)
  if ('block' in use) return judgeBlock(search, use.block)
  if (use.isBeforeSince) return { state: 'spent-otherwise' }

  let to = use.by < searchedTo ? use.by : searchedTo - 1n
  while (to >= oldest) {
    const { candidates, from } = await logsUpTo(search, to)
    const answer = await decide(search, candidates)
    if (answer !== undefined && answer !== 'unclear') return answer
    if (since !== undefined && (await isBefore(search.chain, from, since))) break
    to = from - 1n
  }
  return cannotTell('the authorization is used, by a transaction that was not found')
}

const cannotTell = (reason: string) => ({ state: 'cannot-tell' as const, reason })
const unclear = cannotTell('paid among other payments, and the node does not show by which authorization')

async function isBefore({ client }: ChainAccess, blockNumber: bigint, since: number): Promise<boolean> {
  return (await client.getBlock({ blockNumber })).timestamp < since
}

/** Too much at this moment, such as too many requests a second (EIP-1474). */
const limitExceeded = -32005

/** As many blocks as the node takes at once; it is asked for fewer when it refuses. */
async function logsUpTo({ chain, query, signal, oldest }: Search, to: bigint) {
  let size = chain.blocksPerRequest
  let isLimit = true
  for (;;) {
    signal.throwIfAborted()
    const from = to - size + 1n > oldest ? to - size + 1n : oldest
    try {
      const range = { fromBlock: numberToHex(from), toBlock: numberToHex(to) }
      const candidates = await candidatesIn(chain.client, query, range)
      // Only what it has taken counts as its limit: it may have refused for another reason, or in passing.
      if (isLimit && size < chain.blocksPerRequest) chain.blocksPerRequest = size
      return { candidates, from }
    } catch (error) {
      if (from === to || !isRefusal(error)) throw error
      if ((error as { code?: unknown }).code === limitExceeded) isLimit = false
      size = (to - from + 1n) / 2n
    }
  }
}

/** Whether a node has answered, and not that it knows no logs at all. */
function isRefusal(error: unknown): boolean {
  const { code, status } = error as { code?: unknown; status?: unknown }
  return (typeof code === 'number' && code !== -32601 && code !== -32004) || status === 400 || status === 413
}

/**
 * The transactions, newest first, that used or cancelled the authorization; with Permit2, which has no event for it,
 * those that paid the payee.
 */
async function candidatesIn(
  client: PublicClient,
  query: SettlementQuery,
  range: { fromBlock: Hex; toBlock: Hex } | { blockHash: Hex },
): Promise<Candidate[]> {
  const payer = pad(getAddress(query.payer ?? ''))
  const topics =
    query.method === 'eip3009'
      ? [uses, payer, query.nonce as Hex]
      : [transferred, payer, pad(getAddress(query.payTo))]
  const logs = await client.request({
    method: 'eth_getLogs',
    params: [{ address: getAddress(query.asset), topics, ...range }],
  })
  const blocks = new Map<Hex, bigint>()
  for (const { transactionHash, blockNumber, data } of logs) {
    // Anyone can make a transfer of nothing, and many of them.
    const isTransferOfNothing = query.method === 'permit2' && query.amount !== '0' && BigInt(data) === 0n
    if (transactionHash !== null && blockNumber !== null && !isTransferOfNothing)
      blocks.set(transactionHash, BigInt(blockNumber))
  }
  return [...blocks].map(([hash, block]) => ({ hash, block })).reverse()
}

/** Of the transactions of many blocks, those of the one in which the authorization may have been used. */
async function narrow({ chain, query }: Search, candidates: Candidate[]): Promise<Candidate[]> {
  let blocks = [...new Set(candidates.map(({ block }) => block))]
  while (blocks.length > 1) {
    const half = blocks.length >> 1
    const blockNumber = blocks[half] as bigint
    // Where the state is forgotten, the block is too old for a payment that has just been made.
    const isUsed = await isSpent(chain.client, query, { blockNumber }).catch(() => false)
    blocks = isUsed ? blocks.slice(half) : blocks.slice(0, half)
  }
  return candidates.filter(({ block }) => block === blocks[0])
}

async function decide(search: Search, candidates: Candidate[]): Promise<ProbeAnswer | 'unclear' | undefined> {
  const { chain, query, newest } = search
  let isUnclear = false
  for (const { hash } of candidates) {
    const receipt = await chain.client.getTransactionReceipt({ hash })
    if (receipt.status !== 'success') continue
    const verdict = await judge(chain.client, query, receipt)
    isUnclear ||= verdict === 'unclear'
    if (verdict === 'unclear' || verdict === 'unrelated') continue
    const tooFresh = lacksConfirmations(search, receipt.blockNumber, verdict === 'paid')
    if (tooFresh !== undefined) return tooFresh
    if (verdict === 'otherwise') return { state: 'spent-otherwise', transaction: hash }
    const { blockHash } = receipt
    const { timestamp } = blockHash === newest.hash ? newest : await chain.client.getBlock({ blockHash })
    return {
      state: 'paid',
      transaction: hash,
      payer: getAddress(query.payer ?? ''),
      minedAt: Number(timestamp),
      asOf: Number(newest.timestamp),
    }
  }
  return isUnclear ? 'unclear' : undefined
}

function lacksConfirmations(
  { chain, newest }: Search,
  block: bigint,
  isMined: boolean,
): ProbeAnswer | undefined {
  const depth = newest.number - block + 1n
  if (depth >= chain.confirmations) return undefined
  return { ...cannotTell(`${depth} of ${chain.confirmations} confirmations`), isMined }
}

/** The block of the use, or a block by which it had been made, before which the state does not reach. */
type FoundUse = { readonly block: MinedBlock } | { readonly by: bigint; readonly isBeforeSince: boolean }

/** An authorization that is used stays so: strides back until it was unused, then halves what lies between. */
async function findUse({ chain, query, newest, oldest, since }: Search): Promise<FoundUse> {
  const { client } = chain
  let used = newest.number
  let unused = used
  for (let stride = 1n; unused === used; stride *= strideGrowth) {
    const at = newest.number - stride > oldest ? newest.number - stride : oldest
    const isUsed = await isSpent(client, query, { blockNumber: at }).catch(() => undefined)
    if (isUsed === undefined) return { by: used, isBeforeSince: false }
    unused = at
    if (!isUsed) break
    used = at
    const isBeforeSince = since !== undefined && (await isBefore(chain, at, since))
    if (isBeforeSince || at === oldest) return { by: at, isBeforeSince }
  }
  while (used - unused > 1n) {
    const middle: bigint = (used + unused) / 2n
    if (await isSpent(client, query, { blockNumber: middle })) used = middle
    else unused = middle
  }
  return { block: await client.getBlock({ blockNumber: used }) }
}

/**
 * The authorization was used in this very block. Read by its hash: neither a reorganization nor a node that lags can
 * hide the payment.
 */
async function judgeBlock(search: Search, block: MinedBlock): Promise<ProbeAnswer> {
  const { chain, query } = search
  const { client } = chain
  if (
    !(await isSpent(client, query, { blockHash: block.hash })) ||
    (await isSpent(client, query, { blockHash: block.parentHash }))
  )
    return cannotTell('the chain was reorganized during the search')
  const answer = await decide(search, await candidatesIn(client, query, { blockHash: block.hash }))
  if (answer === 'unclear') return unclear
  if (answer !== undefined) return answer
  if (query.method === 'eip3009') return cannotTell('the token does not show how the authorization was used')
  return lacksConfirmations(search, block.number, false) ?? { state: 'spent-otherwise' }
}
