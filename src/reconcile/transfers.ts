/** The money that arrived at a payee, each transfer with the authorization that made it. */
import {
  type Hex,
  hexToBigInt,
  numberToHex,
  type PublicClient,
  pad,
  type RpcLog,
  toEventSelector,
  zeroAddress,
} from 'viem'
import { type AuthorizationUse, usesByCalldata, usesByTrace } from '../evm/authorization-uses.ts'
import { ReconciliationError } from './error.ts'
import type { Transfer } from './report.ts'

/** What made a transfer: an authorization, none, or nobody can tell which. */
export type Origin =
  | { readonly kind: 'authorization'; readonly method: AuthorizationUse['method']; readonly nonce: bigint }
  | { readonly kind: 'none' }
  | { readonly kind: 'unclear' }

export interface Arrival {
  readonly transfer: Transfer
  readonly amount: bigint
  readonly origin: Origin
}

/** Addresses in lower case. */
export interface Payee {
  readonly asset: Hex
  readonly payTo: Hex
}

const transferred = toEventSelector('Transfer(address,address,uint256)')
const used = toEventSelector('AuthorizationUsed(address,bytes32)')

/** Payers that are asked about together: nodes bound the length of a filter. */
const payersPerRequest = 50

type TokenEvent =
  | { readonly is: 'use'; readonly logIndex: number; readonly nonce: bigint }
  | { readonly is: 'transfer'; readonly logIndex: number; readonly to: string; readonly amount: bigint }

/** What arrived in the blocks of a range, the last one included. */
export async function arrivalsIn(
  client: PublicClient,
  payee: Payee,
  blocks: { readonly from: bigint; readonly to: bigint },
): Promise<Arrival[]> {
  const { asset, payTo } = payee
  const range = { fromBlock: numberToHex(blocks.from), toBlock: numberToHex(blocks.to) }
  const logsOf = (topics: (Hex | Hex[] | null)[]) =>
    client.request({ method: 'eth_getLogs', params: [{ address: asset, topics, ...range }] })
  const incoming = (await logsOf([transferred, null, pad(payTo)])).filter(log => isIncome(log, payTo))
  const payers = [...new Set(incoming.map(log => log.topics[1] as Hex))]
  const logs: RpcLog[] = []
  // In one request both what they have authorized and what they have transferred, to whomever.
  for (let index = 0; index < payers.length; index += payersPerRequest)
    logs.push(...(await logsOf([[transferred, used], payers.slice(index, index + payersPerRequest)])))
  if (!incoming.every(log => logs.some(other => isSame(log, other))))
    throw new ReconciliationError(
      'the nodes disagree about the events of a block: one lags, or the chain was reorganized; try again',
    )
  return originate(client, payee, logs)
}

/** What arrived by one transaction: nothing when it was reverted, `undefined` when nobody knows it. */
export async function arrivalsOf(
  client: PublicClient,
  payee: Payee,
  hash: string,
): Promise<Arrival[] | undefined> {
  if (!/^0x[\da-f]{64}$/i.test(hash)) return undefined
  const receipt = await client.request({ method: 'eth_getTransactionReceipt', params: [hash as Hex] })
  if (receipt === null) return undefined
  const ofToken = receipt.logs.filter(({ address }) => address.toLowerCase() === payee.asset)
  return originate(client, payee, ofToken)
}

const payerOf = (log: RpcLog) => `0x${log.topics[1]?.slice(26) ?? ''}`.toLowerCase()
const isSame = (one: RpcLog, other: RpcLog) =>
  one.logIndex === other.logIndex && one.blockHash === other.blockHash

/** Anyone can make a transfer of nothing; what a payee sends to itself is no income. */
function isIncome(log: RpcLog, payTo: Hex): boolean {
  return (
    log.topics[0] === transferred &&
    log.topics[2] === pad(payTo) &&
    payerOf(log) !== payTo &&
    hexToBigInt(log.data) > 0n
  )
}

/** By payer and transaction: what others do in it does not matter. */
async function originate(client: PublicClient, payee: Payee, logs: readonly RpcLog[]): Promise<Arrival[]> {
  const groups = new Map<string, RpcLog[]>()
  for (const log of logs) {
    const name = `${log.transactionHash} ${payerOf(log)}`
    const group = groups.get(name)
    if (group) group.push(log)
    else groups.set(name, [log])
  }
  const arrivals: Arrival[] = []
  for (const group of groups.values()) {
    const incoming = group.filter(log => isIncome(log, payee.payTo))
    if (incoming.length === 0) continue
    const events = group.flatMap(eventOf).sort((one, other) => one.logIndex - other.logIndex)
    const [first] = incoming as [RpcLog]
    const payer = payerOf(first)
    const transaction = first.transactionHash as Hex
    const origins = await originsOf(client, { transaction, payer, asset: payee.asset, events })
    for (const log of incoming) {
      const logIndex = Number(log.logIndex)
      const amount = hexToBigInt(log.data)
      arrivals.push({
        transfer: { transaction, block: Number(log.blockNumber), logIndex, payer, amount: `${amount}` },
        amount,
        origin: origins.get(logIndex) ?? { kind: 'none' },
      })
    }
  }
  return arrivals.sort(
    ({ transfer: one }, { transfer: other }) => one.block - other.block || one.logIndex - other.logIndex,
  )
}

function eventOf({ topics, data, logIndex }: RpcLog): TokenEvent[] {
  const index = Number(logIndex)
  if (topics[0] === used) return [{ is: 'use', logIndex: index, nonce: BigInt(topics[2] ?? 0) }]
  if (topics[0] !== transferred) return []
  const to = `0x${topics[2]?.slice(26) ?? ''}`.toLowerCase()
  return [{ is: 'transfer', logIndex: index, to, amount: hexToBigInt(data) }]
}

interface PayerActs {
  readonly transaction: Hex
  readonly payer: string
  readonly asset: string
  /** Of the payer, in their order. */
  readonly events: readonly TokenEvent[]
}

type Origins = ReadonlyMap<number, Origin>

/** By the index of its event, what made each transfer of a payer in one transaction. */
async function originsOf(client: PublicClient, acts: PayerActs): Promise<Origins> {
  const uses = acts.events.filter(event => event.is === 'use')
  const transfers = acts.events.filter(event => event.is === 'transfer')
  // Nobody can sign for it: new money.
  if (acts.payer === zeroAddress) return new Map()
  // A token emits the use of an authorization and its transfer in one order, and never one without the other.
  if (uses.length === transfers.length)
    return new Map(
      uses.map(({ nonce }, index) => [
        transfers[index]?.logIndex ?? -1,
        { kind: 'authorization', method: 'eip3009', nonce },
      ]),
    )
  return originsByCalls(client, acts)
}

/** Permit2 has no event for what it uses: the calls of the transaction show it. */
async function originsByCalls(
  client: PublicClient,
  { transaction: hash, payer, asset, events }: PayerActs,
): Promise<Origins> {
  const transaction = await client.getTransaction({ hash })
  const { logs } = await client.getTransactionReceipt({ hash })
  const emitters = new Set(logs.map(({ address }) => address.toLowerCase()))
  const byCalldata = usesByCalldata(transaction, asset, emitters)
  const shown = byCalldata.areAll ? byCalldata : await usesByTrace(client, hash, asset)
  const left = events.filter(event => event.is === 'transfer')
  const origins = new Map<number, Origin>()
  let isClear = shown !== undefined
  for (const use of (shown ?? byCalldata).uses) {
    if (use.owner !== payer || use.token !== asset) continue
    // Of equal transfers it does not matter which one is whose.
    const index = left.findIndex(({ to, amount }) => to === use.to && amount === use.amount)
    const [transfer] = index < 0 ? [] : left.splice(index, 1)
    if (transfer)
      origins.set(transfer.logIndex, { kind: 'authorization', method: use.method, nonce: use.nonce })
    // The token has kept a fee.
    else isClear = false
  }
  if (!isClear) for (const { logIndex } of left) origins.set(logIndex, { kind: 'unclear' })
  return origins
}
