/** Holds the ledger against the chain: what was paid and not delivered, and what was delivered and not paid. Needs viem. */
import { BaseError } from 'viem'
import { lookUp } from '../evm/payment-search.ts'
import type { LedgerEntry } from '../settlement/ledger.ts'
import { firstBlockFrom, isWithoutLogs, RangeReader, timeOf } from './blocks.ts'
import { type ChainSide, Comparison, type Result } from './comparison.ts'
import { ReconciliationError, reasonOf } from './error.ts'
import { type ReconcileOptions, readTask, type Task } from './options.ts'
import { Records } from './records.ts'
import type { CreditUse, Finding, Reconciliation, Unseen } from './report.ts'
import { type Arrival, arrivalsIn, arrivalsOf } from './transfers.ts'

export { ReconciliationError } from './error.ts'
export type { ReconcileOptions } from './options.ts'
export type {
  CreditUse,
  Finding,
  FindingKind,
  Reconciliation,
  RecordedPayment,
  Transfer,
  Unseen,
} from './report.ts'

/** What is being written: a reconciliation while it goes on. */
type Draft = { -readonly [field in keyof Reconciliation]: Reconciliation[field] } & {
  readonly credits: CreditUse[]
  readonly findings: Finding[]
  readonly unseen: Unseen[]
}

/**
 * Holds the ledger against the chain, over a range of blocks. Nothing is written to either.
 *
 * Each transfer of the token to `payTo` is held against the payment whose authorization made it, and each payment that
 * the ledger has as delivered, and that was claimed first in the range, against its transfer, wherever that is. What it
 * reports is so; what it could not see, it says under `unseen`.
 *
 * @throws {TypeError} for an option that is wrong
 * @throws {ReconciliationError} when the nodes or the ledger fail; `onProgress` has had what was found until then
 *
 * @example
 * ```ts
 * const { findings, unseen } = await reconcile({
 *   ledger,
 *   network: 'eip155:8453',
 *   rpcUrl: 'https://mainnet.base.org',
 *   asset: '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913',
 *   payTo: '0x…',
 *   from: new Date(Date.now() - 24 * 60 * 60 * 1000),
 * })
 * ```
 */
export async function reconcile(options: ReconcileOptions): Promise<Reconciliation> {
  const task = readTask(options)
  try {
    await checkToken(task)
    const draft = options.resume ? (structuredClone(options.resume) as Draft) : await begin(task)
    await go(task, draft)
    return draft
  } catch (error) {
    if (!(error instanceof BaseError) || options.signal?.aborted) throw error
    throw new ReconciliationError(
      isWithoutLogs(error)
        ? `the node of ${task.network} has no eth_getLogs: use one that has`
        : `the nodes of ${task.network} failed: ${reasonOf(error)}`,
    )
  }
}

/** An address that is none of a token has no transfers, and every delivery would seem unpaid. */
async function checkToken({ client, asset, network, chainId }: Task): Promise<void> {
  const id = await client.getChainId()
  if (id !== chainId) throw new ReconciliationError(`the node is of the chain eip155:${id}, not ${network}`)
  const code = await client.getCode({ address: asset })
  if (code === undefined)
    throw new ReconciliationError(`asset: there is no contract at ${asset} on ${network}`)
}

/** Finds the range. */
async function begin({ options, client, network, asset, payTo, confirmations }: Task): Promise<Draft> {
  const { from, to } = options
  const head = await client.getBlockNumber()
  const newest = head + 1n - confirmations
  if (newest < 0n) throw new ReconciliationError(`the chain has no ${confirmations} blocks yet`)
  const unseen: Unseen[] = []
  const fromBlock = typeof from === 'bigint' ? from : await firstBlockFrom(client, from.getTime(), newest)
  const asked =
    to instanceof Date ? (await firstBlockFrom(client, to.getTime(), newest)) - 1n : (to ?? newest)
  const isFuture = asked > newest || (to instanceof Date && to.getTime() > (await timeOf(client, newest)))
  const toBlock = asked > newest ? newest : asked
  if (fromBlock > newest)
    throw new ReconciliationError(
      `from: there is no such block yet; the newest with ${confirmations} confirmations is ${newest}`,
    )
  if (fromBlock > toBlock)
    throw new TypeError('reconcile: from: is after `to`, or no block lies between them')
  if (isFuture)
    unseen.push({
      kind: 'blocks',
      fromBlock: Number(newest) + 1,
      toBlock: Number(asked > newest ? asked : newest + 1n),
      reason: `the newest block with ${confirmations} confirmations is ${newest}`,
    })
  return {
    network,
    asset,
    payTo,
    fromBlock: Number(fromBlock),
    toBlock: Number(toBlock),
    fromTime: from instanceof Date ? from.getTime() : await timeOf(client, fromBlock),
    toTime:
      to instanceof Date && !isFuture
        ? to.getTime()
        : toBlock < head
          ? await timeOf(client, toBlock + 1n)
          : Date.now(),
    nextBlock: Number(fromBlock),
    transfers: 0,
    received: '0',
    payments: 0,
    credits: [],
    findings: [],
    unseen,
  }
}

async function go(task: Task, draft: Draft): Promise<void> {
  const { options, client, asset, payTo, network, blocksPerRequest } = task
  const payee = { asset, payTo }
  const records = new Records(options.ledger, network, payee)
  const oldestDelivery = await records.oldestDelivery()
  if (draft.nextBlock === draft.fromBlock) noteLedger(draft, oldestDelivery)
  const comparison = new Comparison(chainSide(task, draft), records, oldestDelivery)
  const reader = new RangeReader(blocksPerRequest, range => arrivalsIn(client, payee, range))
  const last = BigInt(draft.toBlock)
  let since =
    draft.nextBlock === draft.fromBlock ? draft.fromTime : await timeOf(client, BigInt(draft.nextBlock))
  while (draft.nextBlock <= draft.toBlock) {
    options.signal?.throwIfAborted()
    const part = await reader.next(BigInt(draft.nextBlock), last)
    const until = part.to === last ? draft.toTime : await timeOf(client, part.to + 1n)
    const payments = await records.between(since, until)
    const arrivals = part.kind === 'read' ? part.found : []
    if (part.kind === 'refused')
      draft.unseen.push({
        kind: 'blocks',
        fromBlock: draft.nextBlock,
        toBlock: Number(part.to),
        reason: `the nodes have no events of these blocks: ${reasonOf(part.reason)}`,
      })
    await compare({ arrivals, payments, records, comparison, draft })
    draft.nextBlock = Number(part.to) + 1
    since = until
    await options.onProgress?.(draft)
  }
}

interface Compared {
  readonly arrivals: readonly Arrival[]
  readonly payments: readonly LedgerEntry[]
  readonly records: Records
  readonly comparison: Comparison
  readonly draft: Draft
}

async function compare({ arrivals, payments, records, comparison, draft }: Compared): Promise<void> {
  const results: Result[] = []
  const byKey = new Map(payments.map(entry => [entry.key, entry]))
  const paid = new Set<string>()
  const credits = [...draft.credits]
  for (const arrival of arrivals) {
    const key = records.keyOf(arrival)
    const entry = (key !== undefined && byKey.get(key)) || (await records.of(arrival))
    if (entry) paid.add(entry.key)
    results.push(await comparison.ofArrival(arrival, entry))
  }
  for (const entry of payments) {
    if (paid.has(entry.key)) continue
    const result = await comparison.ofUnpaid(entry, credits)
    if (result?.is === 'credit') credits.push(result.credit)
    results.push(result)
  }
  // All at once: a part that fails half-way is done again as a whole.
  for (const result of results) note(draft, result)
  draft.transfers += arrivals.length
  draft.received = `${arrivals.reduce((sum, { amount }) => sum + amount, BigInt(draft.received))}`
  draft.payments += payments.length
}

function note(draft: Draft, result: Result): void {
  switch (result?.is) {
    case 'finding':
      draft.findings.push(result.finding)
      break
    case 'unseen':
      draft.unseen.push(result.unseen)
      break
    case 'credit':
      draft.credits.push(result.credit)
      break
  }
}

function noteLedger(draft: Draft, oldestDelivery: number | undefined): void {
  if (oldestDelivery !== undefined && oldestDelivery <= draft.fromTime) return
  const what =
    oldestDelivery === undefined
      ? 'no delivery'
      : `no delivery before ${new Date(oldestDelivery).toISOString()}`
  draft.unseen.push({
    kind: 'ledger',
    reason: `the ledger remembers ${what}: what it has forgotten may appear as unknown income`,
  })
}

/** The payments of older blocks than the range are looked for too, by as many blocks. */
const marginBlocks = 1_000n

function chainSide({ client, options, asset, payTo, blocksPerRequest }: Task, draft: Draft): ChainSide {
  const payee = { asset, payTo }
  const { signal = new AbortController().signal } = options
  return {
    arrivalsOf: transaction => arrivalsOf(client, payee, transaction),
    timeOf: ({ transfer }) => timeOf(client, BigInt(transfer.block)),
    async ask({ query }) {
      const head = await client.getBlockNumber()
      const searchBlocks = head - BigInt(draft.fromBlock) + marginBlocks
      const chain = { client, confirmations: 1, searchBlocks, blocksPerRequest }
      try {
        return await lookUp(chain, query, { signal })
      } catch (error) {
        signal.throwIfAborted()
        return { state: 'cannot-tell', reason: reasonOf(error) }
      }
    },
  }
}
