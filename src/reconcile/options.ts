/** What `reconcile` is given, checked at the door. */
import { createPublicClient, type Hex, isAddress, type PublicClient } from 'viem'
import { nodes } from '../evm/nodes.ts'
import { caip2 } from '../payment/networks.ts'
import type { SettlementLedger } from '../settlement/ledger.ts'
import type { Reconciliation } from './report.ts'

export interface ReconcileOptions {
  /** That of the seller; it is only read. */
  ledger: Pick<SettlementLedger, 'list' | 'get'>
  /** CAIP-2 name of an EVM chain, such as `eip155:8453`, or its name in version 1 of the protocol. */
  network: string
  /** One or more nodes; the next is asked when one fails, or turns out to be of another chain. */
  rpcUrl?: string | readonly string[]
  /** A viem client of your own, instead of `rpcUrl`; its `chain` must be this one. */
  client?: PublicClient
  /** The address that is paid. */
  payTo: string
  /** The address of the token. */
  asset: string
  /** The first block, or the time from which blocks and payments count. */
  from: bigint | Date
  /** The last block, included, or the time before which blocks and payments count; the newest block when absent. */
  to?: bigint | Date
  /**
   * Blocks that must lie on top of a block, itself included, before it is read: a node that lags, or a reorganization,
   * would hide what is in it.
   * @default 10
   */
  confirmations?: number
  /**
   * Blocks that are read in one request. Where a node takes fewer, it is asked for fewer.
   * @default 500
   */
  blocksPerRequest?: number
  /**
   * Milliseconds until one request to a node is given up.
   * @default 10000
   */
  timeoutMs?: number
  /** Goes on where an earlier run over this range has ended: what its `onProgress` was given last. */
  resume?: Reconciliation
  /** Called after each request for blocks with what was found until then. */
  onProgress?: (progress: Reconciliation) => void | Promise<void>
  signal?: AbortSignal
}

/** The options, checked. */
export interface Task {
  readonly options: ReconcileOptions
  readonly client: PublicClient
  readonly chainId: number
  readonly network: string
  readonly asset: Hex
  readonly payTo: Hex
  readonly confirmations: bigint
  readonly blocksPerRequest: bigint
}

/** @throws {TypeError} that names the option that is wrong, and what is expected of it */
export function readTask(options: ReconcileOptions): Task {
  const { rpcUrl, client, from, to, resume } = options
  const { confirmations = 10, blocksPerRequest = 500, timeoutMs = 10_000 } = options
  const network = caip2(`${options.network}`)
  const chainId = Number(/^eip155:(\d+)$/.exec(network)?.[1])
  if (Number.isNaN(chainId))
    throw wrong('network', `expected an EVM chain such as eip155:8453, got "${options.network}"`)
  for (const [name, value] of Object.entries({ confirmations, blocksPerRequest, timeoutMs }))
    if (!Number.isInteger(value) || value < 1)
      throw wrong(name, `expected a whole number from 1, got ${value}`)
  if (typeof options.ledger?.list !== 'function') throw wrong('ledger', 'expected a settlement ledger')
  const asset = readAddress('asset', options.asset)
  const payTo = readAddress('payTo', options.payTo)
  readPosition('from', from)
  if (to !== undefined) {
    readPosition('to', to)
    if (typeof from === typeof to && from > to) throw wrong('from', 'is after `to`')
  }
  if (resume && (resume.network !== network || resume.asset !== asset || resume.payTo !== payTo))
    throw wrong('resume', 'is of another network, asset or payTo')
  if ((rpcUrl === undefined) === (client === undefined)) throw wrong('rpcUrl', 'give either rpcUrl or client')
  if (client?.chain !== undefined && client.chain.id !== chainId)
    throw wrong('client', `is of the chain eip155:${client.chain.id}`)
  return {
    options,
    client: client ?? connect([rpcUrl ?? []].flat(), chainId, timeoutMs),
    chainId,
    network,
    asset,
    payTo,
    confirmations: BigInt(confirmations),
    blocksPerRequest: BigInt(blocksPerRequest),
  }
}

const wrong = (option: string, problem: string) => new TypeError(`reconcile: ${option}: ${problem}`)

function readAddress(option: string, address: string): Hex {
  if (!isAddress(`${address}`, { strict: false }))
    throw wrong(option, `expected an address of 20 bytes such as 0x8335…2913, got "${address}"`)
  const isChecksummed = /[a-f]/.test(address) && /[A-F]/.test(address)
  if (isChecksummed && !isAddress(address))
    throw wrong(option, `the checksum of ${address} is wrong: mistyped?`)
  return address.toLowerCase() as Hex
}

function readPosition(option: string, position: bigint | Date): void {
  const isRight =
    typeof position === 'bigint' ? position >= 0n : !Number.isNaN(position?.getTime?.() ?? Number.NaN)
  if (!isRight) throw wrong(option, 'expected the number of a block as a bigint, or a Date')
}

function connect(urls: readonly string[], chainId: number, timeoutMs: number): PublicClient {
  if (urls.length === 0) throw wrong('rpcUrl', 'is an empty list')
  // A URL may carry a key.
  for (const url of urls)
    if (!/^https?:\/\//.test(url) || !URL.canParse(url)) throw wrong('rpcUrl', 'expected https:// or http://')
  return createPublicClient({ cacheTime: 0, transport: nodes(urls, chainId, timeoutMs) }) as PublicClient
}
