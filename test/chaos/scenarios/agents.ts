/** Buyers' agents that make the same call again after any error, and sign anew each time. */
import type { RequestHandler } from 'express'
import type { Address } from 'viem'
import { trackDelivery } from '../../../src/delivery/index.ts'
import { type FacilitatorOptions, MemoryLedger } from '../../../src/index.ts'
import { type LedgerStore, sharedLedger } from '../../../src/ledger/index.ts'
import { type Buyer, createBuyer } from '../../bed/buyer.ts'
import { startFacilitator } from '../../bed/facilitator.ts'
import { price, startSeller } from '../../bed/seller.ts'
import { aggregatorOver } from '../clients.ts'
import { conditionsOf } from '../faults.ts'
import { type Sale, tally } from '../result.ts'
import type { Bed, Scenario } from '../scenario.ts'

/** After the first call. */
const retries = 5
/** An agent leaves after so long (ms). */
const patienceMs = 8_000
/** The share of replies with goods that are lost on their way. */
const lostShare = 0.1
/** Milliseconds between two kills. */
const killEveryMs = 3_000
const paymentHeader = 'payment-signature'

/** One process of the seller. */
interface Replica {
  readonly url: string
  /** Waits for what is on its way. */
  stop(): Promise<void>
  /** It ends as it is: what it has begun to record is not recorded. */
  kill(): Promise<void>
}

/**
 * Each agent buys the same thing again and again, while facilitators fail, replies are lost and agents lose patience.
 *
 * @param replicas more than one share a ledger, and are killed in turn
 */
export const agents =
  (replicas: 1 | 2): Scenario =>
  async bed => {
    const { chain, payments, concurrency, random } = bed
    const conditions = conditionsOf('random', 3, random)
    const pool = await Promise.all(['first', 'second', 'third'].map(id => startFacilitator({ chain, id })))
    for (const [index, settle] of conditions.entries())
      if (typeof settle === 'object') pool[index]?.fault({ settle })
    const { address: payTo } = await chain.newAccount()
    const ledger = new MemoryLedger()
    const handedOver = new Set<unknown>()
    const members = pool.map(({ id, url }) => ({ id, url }))
    const open = () => startReplica(bed, { ledger, handedOver, members, payTo })
    const running = await Promise.all(Array.from({ length: replicas }, open))

    let isOver = false
    const killing = (async () => {
      for (let turn = 0; replicas > 1 && !isOver; turn++) {
        await new Promise(resolve => setTimeout(resolve, killEveryMs))
        const at = turn % replicas
        const dying = running[at]
        // Its successor is there first, as in a rolling restart.
        running[at] = await open()
        await dying?.kill()
      }
    })()
    const buyers = await Promise.all(Array.from({ length: concurrency }, () => createBuyer(chain)))
    const funds = await Promise.all(buyers.map(({ address }) => chain.balanceOf(address)))
    let begun = 0
    const bought = await Promise.all(
      buyers.map(async buyer => {
        const purchases: Purchase[] = []
        while (begun++ < payments)
          purchases.push(
            await buyOnce(buyer, handedOver, () => running[Math.floor(random() * replicas)]?.url ?? ''),
          )
        return purchases
      }),
    )
    isOver = true
    await killing
    await Promise.all(running.map(replica => replica.stop()))
    await chain.nextBlocks(3)
    const { entries } = await ledger.list({
      states: ['settling', 'unresolved', 'undelivered'],
      limit: 1_000_000,
    })

    const sales = await Promise.all(
      buyers.map(async ({ address }, index) => {
        const spent = (funds[index] ?? 0n) - (await chain.balanceOf(address))
        const left = entries.filter(({ query }) => query.payer === address)
        const nonces = left.map(({ query }) => query.nonce as `0x${string}`)
        const areSpent = await Promise.all(nonces.map(nonce => chain.isSpent(address, nonce)))
        return salesOf(bought[index] ?? [], Number(spent / price), areSpent.filter(Boolean).length)
      }),
    )
    await Promise.all(pool.map(one => one.stop()))
    return tally(sales.flat())
  }

interface Purchase {
  readonly isDelivered: boolean
  readonly durationMs: number
}

async function buyOnce(
  buyer: Buyer,
  handedOver: ReadonlySet<unknown>,
  urlOf: () => string,
): Promise<Purchase> {
  const startedAt = performance.now()
  let isDelivered = false
  for (let call = 0; call <= retries && !isDelivered; call++) {
    const buying = buyer.buy(urlOf(), { signal: AbortSignal.timeout(patienceMs) })
    isDelivered = await buying.then(
      ({ status }) => status === 200,
      () => handedOver.has(buyer.lastPayment[paymentHeader]),
    )
  }
  return { isDelivered, durationMs: performance.now() - startedAt }
}

/**
 * What one agent bought: which of his charges was for which delivery is nobody's concern.
 *
 * @param listed charges that the ledger has as open or undelivered: the agent's next purchase gets them, or the seller
 */
function salesOf(purchases: readonly Purchase[], charges: number, listed: number): Sale[] {
  let left = charges
  const sales = purchases.map(({ isDelivered, durationMs }): Sale => {
    const isCharged = isDelivered && left > 0
    if (isCharged) left--
    return {
      charges: Number(isCharged),
      deliveries: Number(isDelivered),
      answer: isDelivered ? 'delivered' : 'refused',
      durationMs,
    }
  })
  const undelivered = Array.from(
    { length: left },
    (_, index): Sale => ({
      charges: 1,
      deliveries: 0,
      answer: index < listed ? 'unknown' : 'refused',
      durationMs: 0,
    }),
  )
  return [...sales, ...undelivered]
}

interface ReplicaOptions {
  readonly ledger: MemoryLedger
  /** The payments whose replies with goods the system has taken to the last byte: what is lost after that, nobody sees. */
  readonly handedOver: Set<unknown>
  readonly members: readonly FacilitatorOptions[]
  readonly payTo: Address
}

async function startReplica(
  bed: Bed,
  { ledger, handedOver, members, payTo }: ReplicaOptions,
): Promise<Replica> {
  let isDead = false
  const connected = <T>(work: () => Promise<T>): Promise<T> => (isDead ? new Promise<T>(() => {}) : work())
  const store: LedgerStore = {
    claim: request => connected(() => ledger.claim(request)),
    update: update => connected(() => ledger.update(update)),
    get: key => connected(() => ledger.get(key)),
    list: filter => connected(() => ledger.list(filter)),
    undelivered: query => connected(() => ledger.undelivered(query)),
  }
  const aggregator = aggregatorOver(bed, members, {
    settlement: { ledger: sharedLedger(store), redeliveries: retries },
  })
  await aggregator.getSupported()
  const seller = await startSeller(bed.chain, aggregator, {
    payTo,
    middleware: [
      trackDelivery(aggregator).express,
      noting(handedOver),
      losing(() => bed.random() < lostShare),
    ],
  })
  await fetch(seller.url)
  return {
    url: seller.url,
    async stop() {
      await aggregator.stop()
      await seller.stop()
    },
    async kill() {
      isDead = true
      await seller.stop()
      void aggregator.stop({ inFlight: 'abort' })
    },
  }
}

function noting(handedOver: Set<unknown>): RequestHandler {
  return (request, response, next) => {
    let isClosed = false
    response.on('close', () => {
      isClosed = true
    })
    response.on('finish', () => {
      if (!isClosed && response.statusCode === 200) handedOver.add(request.headers[paymentHeader])
    })
    next()
  }
}

/** Ends the connection in the place of a reply with goods. */
function losing(isLost: () => boolean): RequestHandler {
  return (_request, response, next) => {
    const end = response.end.bind(response) as (...body: unknown[]) => typeof response
    response.end = (...body: unknown[]) => {
      if (response.statusCode === 200 && isLost()) response.socket?.destroy()
      return end(...body)
    }
    next()
  }
}
