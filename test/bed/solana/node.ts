/** A node of the cluster: the JSON-RPC methods that are called of it here, and its faults. */
import { createServer, type IncomingMessage } from 'node:http'
import type { AddressInfo } from 'node:net'
import {
  type Address,
  type EncodedAccount,
  getBase58Decoder,
  getBase64Decoder,
  getBase64Encoder,
} from '@solana/kit'
import { FailedTransactionMetadata } from 'litesvm'
import type { Block, Cluster, Commitment, Landed } from './cluster.ts'
import { readTokenBalance } from './token.ts'

export interface NodeFaults {
  /** Slots by which it is behind the cluster. */
  behind?: number
  /** The same for single methods, as where several nodes answer behind one URL. */
  behindIn?: Partial<Record<string, number>>
  /** The first slot of which it has kept the transactions. */
  firstSlot?: number
  /** It takes transactions, and sends none on. */
  dropsTransactions?: boolean
  /** It keeps no transactions, and says so. */
  hasNoHistory?: boolean
  /** Signatures of an account that it gives in one answer. */
  pageSize?: number
  /** Answers nothing but this HTTP status. */
  status?: number
  /** Never answers. */
  hangs?: boolean
  /** The genesis hash of another cluster. */
  genesisHash?: string
}

interface Config {
  readonly commitment?: Commitment
  readonly minContextSlot?: number
  readonly before?: string
  readonly limit?: number
  readonly searchTransactionHistory?: boolean
}

class RpcError extends Error {
  constructor(
    readonly code: number,
    message: string,
    readonly data?: object,
  ) {
    super(message)
  }
}

export type Node = Awaited<ReturnType<typeof startNode>>

export async function startNode(cluster: Cluster, initial: NodeFaults = {}) {
  const faults: NodeFaults = initial
  /** The methods that were called, in turn. */
  const calls: string[] = []

  const at = (config: Config | undefined) =>
    cluster.head(config?.commitment ?? 'finalized', faults.behindIn?.[calls.at(-1) ?? ''] ?? faults.behind)

  /** The block that an answer is about. */
  function context(config: Config | undefined): Block {
    const block = at(config)
    if (config?.minContextSlot !== undefined && block.slot < config.minContextSlot)
      throw new RpcError(-32016, 'Minimum context slot has not been reached', { contextSlot: block.slot })
    return block
  }
  const withContext = (block: Block, value: unknown) => ({ context: { slot: block.slot }, value })

  /** What it knows of, the newest first. */
  function transactions(commitment: Commitment | undefined): { landed: Landed; block: Block }[] {
    if (faults.hasNoHistory) throw new RpcError(-32011, 'Transaction history is not available from this node')
    const upTo = at({ commitment: commitment ?? 'finalized' }).slot
    return cluster.blocks
      .filter(({ slot }) => slot <= upTo && slot >= (faults.firstSlot ?? 0))
      .flatMap(block => block.transactions.map(landed => ({ landed, block })))
      .reverse()
  }

  const statusOf = (slot: number) =>
    (['finalized', 'confirmed', 'processed'] as const).find(commitment => at({ commitment }).slot >= slot)

  const accountOf = (account: EncodedAccount | undefined) =>
    account === undefined
      ? null
      : {
          data: [getBase64Decoder().decode(account.data), 'base64'],
          executable: account.executable,
          lamports: Number(account.lamports),
          owner: account.programAddress,
          rentEpoch: 0,
          space: account.data.length,
        }

  const bytesOf = (wire: string) => getBase64Encoder().encode(wire)

  const methods: Record<string, (...parameters: never[]) => unknown> = {
    getGenesisHash: () => faults.genesisHash ?? cluster.genesisHash,
    getSlot: (config?: Config) => context(config).slot,
    getBlockHeight: (config?: Config) => context(config).height,
    getEpochInfo(config?: Config) {
      const { slot: absoluteSlot, height: blockHeight } = context(config)
      const slots = { absoluteSlot, slotIndex: absoluteSlot, slotsInEpoch: 432_000 }
      return { ...slots, blockHeight, epoch: 0, transactionCount: 0 }
    },
    getBlockTime(slot: number) {
      const block = cluster.blocks.find(one => one.slot === slot)
      if (!block || slot > at({ commitment: 'confirmed' }).slot)
        throw new RpcError(-32004, `Block not available for slot ${slot}`)
      return block.time
    },
    getFirstAvailableBlock: () => faults.firstSlot ?? 0,
    getBlock(slot: number, config?: Config) {
      const block = cluster.blocks.find(one => one.slot === slot)
      if (!block || slot > at(config).slot || slot < (faults.firstSlot ?? 0))
        throw new RpcError(
          -32007,
          `Slot ${slot} was skipped, or missing due to ledger jump to recent snapshot`,
        )
      const { blockhash, time: blockTime, height: blockHeight } = block
      return { blockhash, previousBlockhash: blockhash, parentSlot: slot - 1, blockTime, blockHeight }
    },
    getLatestBlockhash(config?: Config) {
      const block = context(config)
      return withContext(block, { blockhash: block.blockhash, lastValidBlockHeight: block.height + 150 })
    },
    isBlockhashValid(blockhash: string, config?: Config) {
      const block = context(config)
      return withContext(block, cluster.isBlockhashValid(blockhash, block))
    },
    getAccountInfo(key: Address, config?: Config) {
      const block = context(config)
      return withContext(block, accountOf(cluster.accountAt(key, block.slot)))
    },
    getMultipleAccounts(keys: Address[], config?: Config) {
      const block = context(config)
      return withContext(
        block,
        keys.map(key => accountOf(cluster.accountAt(key, block.slot))),
      )
    },
    getTokenAccountBalance(key: Address, config?: Config) {
      const block = context(config)
      const account = cluster.accountAt(key, block.slot)
      return withContext(block, account && readTokenBalance(account, 0)?.uiTokenAmount)
    },
    sendTransaction: (wire: string) => {
      if (!faults.dropsTransactions) return cluster.send(bytesOf(wire))
      return signatureOf(bytesOf(wire))
    },
    simulateTransaction(wire: string, config?: Config) {
      const result = cluster.simulate(bytesOf(wire))
      const failed = result instanceof FailedTransactionMetadata
      const logs = result.meta().logs()
      return withContext(at(config), { err: failed ? `${result}` : null, logs, unitsConsumed: 0 })
    },
    getSignatureStatuses(signatures: string[]) {
      const known = transactions('processed')
      return withContext(
        at({ commitment: 'processed' }),
        signatures.map(signature => {
          const found = known.find(one => one.landed.signature === signature)
          if (!found) return null
          const { err, slot } = found.landed
          return { confirmationStatus: statusOf(slot), confirmations: null, err, slot, status: { Ok: null } }
        }),
      )
    },
    getSignaturesForAddress(key: Address, config?: Config) {
      context(config)
      const all = transactions(config?.commitment).filter(({ landed }) => landed.accounts.includes(key))
      const begin = all.findIndex(({ landed }) => landed.signature === config?.before) + 1
      const limit = Math.min(config?.limit ?? 1_000, faults.pageSize ?? 1_000)
      return all.slice(begin, begin + limit).map(({ landed: { signature, slot, err }, block }) => ({
        ...{ signature, slot, err, memo: null, blockTime: block.time },
        confirmationStatus: statusOf(slot),
      }))
    },
    getTransaction(signature: string, config?: Config) {
      const found = transactions(config?.commitment).find(one => one.landed.signature === signature)
      return found ? describe(found.landed, found.block) : null
    },
  }

  const server = createServer(async (request, response) => {
    if (faults.hangs) return
    if (faults.status !== undefined) {
      response.writeHead(faults.status).end('fault')
      return
    }
    const { id, method, params } = JSON.parse(await bodyOf(request))
    calls.push(method)
    let answer: object
    try {
      const perform = methods[method]
      if (!perform) throw new RpcError(-32601, `Method not found: ${method}`)
      answer = { result: perform(...((params ?? []) as never[])) }
    } catch (error) {
      const { message, code = -32603, data } = error as RpcError
      answer = { error: { code, message, data } }
    }
    response.writeHead(200, { 'content-type': 'application/json' })
    response.end(JSON.stringify({ jsonrpc: '2.0', id, ...answer }))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    /** What is wrong with it; may be changed at any time. */
    faults,
    calls,
    async stop() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }

  function signatureOf(wire: ReturnType<typeof bytesOf>): string {
    return getBase58Decoder().decode(wire.slice(1, 65))
  }
}

function describe(landed: Landed, block: Block) {
  const { err, wire, loaded, slot } = landed
  const { preTokenBalances, postTokenBalances, innerInstructions } = landed
  const meta = { err, fee: 10_000, innerInstructions, loadedAddresses: loaded, logMessages: [] }
  return {
    slot,
    blockTime: block.time,
    version: 0,
    transaction: [getBase64Decoder().decode(wire), 'base64'],
    meta: { ...meta, preTokenBalances, postTokenBalances, preBalances: [], postBalances: [], rewards: [] },
  }
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of request) body += chunk
  return body
}
