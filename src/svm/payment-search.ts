/** Finds out what became of one payment, by one node. */
import type { Signature } from '@solana/kit'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { setBounded } from '../runtime/bounded-map.ts'
import { sha256 } from '../runtime/hash.ts'
import type { ProbeAnswer } from '../settlement/probe-answer.ts'
import { type LandedTransaction, payerOf } from './evidence.ts'
import { kit } from './kit.ts'
import { type Lifetime, lifetimeBlocks, lifetimeOf, type Sighting } from './lifetime.ts'
import { readMessage, type SignedMessage } from './message.ts'
import type { Node } from './nodes.ts'

export interface ClusterAccess {
  readonly nodes: readonly Node[]
  /** Of the block of a payment, before it counts. */
  readonly commitment: 'confirmed' | 'finalized'
  readonly searchSignatures: number
  /** By the hash of a message; the oldest gives way. */
  readonly sightings: Map<string, Sighting>
  /** By signature, the hash of the message that it is under: many questions go through the same signatures. */
  readonly messages: Map<Signature, string>
}

/** So many payments are remembered, and so many signatures. */
const maxSightings = 10_000
const maxMessages = 20_000
/** Signatures in one answer, as nodes allow it. */
const pageSize = 1_000
/** Transactions that are asked for at a time. */
const atOnce = 8

/** One question to one node. */
export interface Question {
  readonly node: Node
  readonly cluster: ClusterAccess
  readonly query: SettlementQuery
  readonly since: number | undefined
}

interface Search extends Question {
  readonly message: SignedMessage
  readonly lifetime: Lifetime
  /** The newest confirmed block, which every answer knows. */
  readonly head: { readonly slot: bigint; readonly time: number }
}

/**
 * Whether the transaction can land still is asked before it is looked for: what has expired by then is found, or never
 * landed.
 */
export async function lookUp(question: Question): Promise<ProbeAnswer> {
  const { node, cluster, query } = question
  const message = readMessage(query)
  const lifetime = await lifetimeOf(node, message, cluster.sightings.get(query.nonce))
  setBounded(cluster.sightings, query.nonce, lifetime.sighting, maxSightings)
  const slot = await node.ask(rpc =>
    rpc.getSlot({ commitment: 'confirmed', minContextSlot: lifetime.finalizedSlot }),
  )
  const time = Number(await node.ask(rpc => rpc.getBlockTime(slot)))
  const search: Search = { ...question, message, lifetime, head: { slot, time } }

  const found = await find(search)
  if (found !== undefined) return judge(search, found)
  if (lifetime.isExpired) return { state: 'unspent', asOf: Number.POSITIVE_INFINITY }
  if (message.nonceAccount !== undefined)
    return cannotTell('a transaction with a durable nonce can land until the nonce is advanced')
  return { state: 'unspent', asOf: time }
}

const cannotTell = (reason: string) => ({ state: 'cannot-tell' as const, reason })

interface Found {
  readonly signature: Signature
  readonly transaction: NonNullable<Awaited<ReturnType<typeof transactionOf>>>
}

/**
 * The transaction that has the payment's message. Any signature of the fee payer may be above it, and what the buyer
 * wrote in its place may be that of another transaction: what counts is the message.
 *
 * @throws {Error} when it is not there, and may be where the node does not look
 */
async function find(search: Search): Promise<Found | undefined> {
  for await (const page of pages(search)) {
    for (let at = 0; at < page.length; at += atOnce) {
      const signatures = page.slice(at, at + atOnce)
      const isOurs = await Promise.all(signatures.map(signature => isUnder(search, signature)))
      const signature = signatures[isOurs.indexOf(true)]
      if (signature === undefined) continue
      const transaction = await transactionOf(search.node, signature)
      if (transaction === null) throw new Error('the chain was reorganized during the search')
      return { signature, transaction }
    }
  }
  return undefined
}

/**
 * The signature that the payment names, if it is on chain, and then those of its signer's transactions: the newest
 * first, back to where it cannot have landed.
 */
async function* pages({ node, cluster, message, since, head, lifetime }: Search): AsyncIterable<Signature[]> {
  const { signature } = message
  if (signature !== undefined && (await transactionOf(node, signature)) !== null) yield [signature]
  let searched = 0
  let before: Signature | undefined
  while (searched < cluster.searchSignatures) {
    const page = await node.ask(rpc =>
      rpc.getSignaturesForAddress(message.signer, {
        commitment: 'confirmed',
        minContextSlot: head.slot,
        limit: Math.min(pageSize, cluster.searchSignatures - searched),
        ...(before !== undefined && { before }),
      }),
    )
    // Not every node gives as many at once as it is asked for: only an empty page is the last.
    if (page.length === 0) return requireHistory(node, since, lifetime.sighting)
    const isOld = ({ blockTime }: { blockTime: bigint | null }) =>
      since !== undefined && blockTime !== null && blockTime < since
    const tooOld = page.findIndex(isOld)
    const inTime = tooOld < 0 ? page : page.slice(0, tooOld)
    yield inTime.map(({ signature }) => signature)
    if (tooOld >= 0) return
    searched += page.length
    before = page.at(-1)?.signature
  }
  throw new Error(
    `the payment is not among the newest ${searched} transactions of its signer, and may be older`,
  )
}

/**
 * A node that has pruned its history does not know of a payment that it once took.
 *
 * @throws {Error} when the payment can have landed before the first block that the node has kept
 */
async function requireHistory(node: Node, since: number | undefined, { alive }: Sighting): Promise<void> {
  const first = await node.ask(rpc => rpc.getFirstAvailableBlock())
  if (first === 0n) return
  const block = await node.ask(rpc =>
    rpc.getBlock(first, { maxSupportedTransactionVersion: 0, rewards: false, transactionDetails: 'none' }),
  )
  const isBeforeSince = since !== undefined && block !== null && Number(block.blockTime) < since
  const isBeforeBirth =
    alive !== undefined && block !== null && Number(block.blockHeight) + Number(lifetimeBlocks) < alive.height
  if (!isBeforeSince && !isBeforeBirth) throw new Error('the node has pruned the history of the payment')
}

/** Whether a signature is under the payment's own message. */
async function isUnder({ node, cluster, query }: Search, signature: Signature): Promise<boolean> {
  let hash = cluster.messages.get(signature)
  if (hash === undefined) {
    const transaction = await transactionOf(node, signature)
    if (transaction === null) throw new Error('the node lists a transaction that it does not have')
    const { messageBytes } = kit
      .getTransactionDecoder()
      .decode(kit.getBase64Encoder().encode(transaction.transaction[0]))
    hash = await sha256(Uint8Array.from(messageBytes))
    setBounded(cluster.messages, signature, hash, maxMessages)
  }
  return hash === query.nonce
}

function transactionOf(node: Node, signature: Signature) {
  return node.ask(rpc =>
    rpc.getTransaction(signature, {
      commitment: 'confirmed',
      encoding: 'base64',
      maxSupportedTransactionVersion: 0,
    }),
  )
}

/** It has landed, and can do so once only: it has paid, or never will. */
async function judge(search: Search, { signature, transaction }: Found): Promise<ProbeAnswer> {
  const { node, cluster, query, head, lifetime } = search
  const { slot, blockTime } = transaction
  const payer = await payerOf(transaction as LandedTransaction, query)
  if (cluster.commitment === 'finalized' && slot > lifetime.finalizedSlot)
    return { ...cannotTell('its block is not finalized yet'), isMined: payer !== undefined }
  if (payer === undefined) return { state: 'spent-otherwise', transaction: signature }
  const minedAt = Number(blockTime ?? (await node.ask(rpc => rpc.getBlockTime(slot))))
  return { state: 'paid', transaction: signature, payer, minedAt, asOf: Math.max(head.time, minedAt) }
}
