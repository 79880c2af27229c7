/** One cell of the table: buyers who make the same call again after any error, until they have what they paid for. */
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator, MemoryLedger } from '../../src/index.ts'
import { type LedgerStore, sharedLedger } from '../../src/ledger/index.ts'
import type { Chain } from '../bed/chain.ts'
import { startFacilitator } from '../bed/facilitator.ts'
import { price } from '../bed/seller.ts'
import { startNode } from '../e2e/node.ts'
import { type BuyingClient, type ClientName, clients, isDelivered } from './clients.ts'
import { type FaultName, faults, type PurchaseFault } from './faults.ts'
import { type ServerName, type Shop, servers } from './servers.ts'

export interface CellName {
  readonly client: ClientName
  readonly server: ServerName
  readonly fault: FaultName
}

export interface CellResult {
  readonly purchases: number
  readonly charged: number
  readonly delivered: number
  /** What the buyers saw, one answer after the other; each course of things once. */
  readonly seen: readonly string[]
  readonly seconds: number
}

/** Calls that a buyer makes for one purchase at most. */
const mostCalls = 8
/** Milliseconds between two calls of one purchase. */
const pauseMs = 2_000

export async function runCell(chain: Chain, name: CellName, purchases: number): Promise<CellResult> {
  const startedAt = performance.now()
  const fault: PurchaseFault = faults[name.fault]
  const node = await startNode(chain.rpcUrl)
  const { address: payTo } = await chain.newAccount()
  const ledger = new DyingLedger(new MemoryLedger())
  let isCut = fault.isReplyLost === true
  const ends: (() => unknown)[] = [node.stop]

  /** A replica of the seller, with a facilitator of its own. */
  async function startReplica(store: LedgerStore) {
    const facilitator = await startFacilitator({ chain, id: 'only' })
    const aggregator = new FacilitatorAggregator({
      facilitators: [{ id: facilitator.id, url: facilitator.url }],
      deadlineMs: { settle: 3_000 },
      settlement: {
        probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: node.url, timeoutMs: 500 } })],
        ledger: sharedLedger(store),
        failoverAfterMs: fault.kill || fault.hangUp ? 3_000 : 1_000,
        probeAfterMs: 3_000,
      },
      logger: false,
    })
    await aggregator.getSupported()
    const shop = await servers[name.server]({ chain, aggregator, payTo, isCut: () => isCut })
    ends.push(async () => {
      await shop.kill()
      await aggregator.stop({ inFlight: 'abort' })
      await facilitator.stop()
    })
    return { facilitator, aggregator, shop }
  }

  try {
    const { facilitator, aggregator, shop } = await startReplica(ledger)
    const other = fault.kill ? await startReplica(ledger.shared) : undefined
    const buyers: BuyingClient[] = await Promise.all(
      Array.from({ length: purchases }, () => clients[name.client](chain)),
    )
    ends.push(() => Promise.all(buyers.map(buyer => buyer.close?.())))
    const leaving = new AbortController()
    if (fault.settle) facilitator.fault({ settle: fault.settle })
    if (fault.nodeIsDownMs !== undefined) node.mode = 'dead'

    const first = Promise.all(buyers.map(buyer => call(buyer, shop, leaving.signal)))
    if (fault.hangUp) {
      await until(() => facilitator.calls.settle >= purchases)
      leaving.abort()
    }
    if (fault.kill) {
      await until(async () => (await chargedTo(chain, payTo)) >= purchases)
      ledger.isDead = true
      await shop.kill()
      await aggregator.stop({ inFlight: 'abort' })
    }
    const courses = (await first).map(answer => [answer])
    isCut = false
    facilitator.heal()
    if (fault.retryAfterMs !== undefined) await pause(fault.retryAfterMs)
    if (fault.nodeIsDownMs !== undefined) setTimeout(() => (node.mode = 'well'), fault.nodeIsDownMs)

    await Promise.all(
      buyers.map(async (buyer, index) => {
        const course = courses[index] ?? []
        while (!isDelivered(course.at(-1)) && course.length < mostCalls) {
          if (course.length > 1) await pause(pauseMs)
          course.push(await call(buyer, other?.shop ?? shop))
        }
      }),
    )
    // What a facilitator still broadcasts is charged too.
    await chain.nextBlocks(5)
    return {
      purchases,
      charged: await chargedTo(chain, payTo),
      delivered: courses.filter(course => isDelivered(course.at(-1))).length,
      seen: [...new Set(courses.map(inWords))],
      seconds: Math.round((performance.now() - startedAt) / 100) / 10,
    }
  } finally {
    for (const end of ends.reverse()) await end()
  }
}

async function call(buyer: BuyingClient, { url }: Shop, signal?: AbortSignal): Promise<string> {
  try {
    return await buyer.buy(url, signal)
  } catch {
    return 'no reply'
  }
}

async function chargedTo(chain: Chain, payTo: `0x${string}`): Promise<number> {
  return Number((await chain.balanceOf(payTo)) / price)
}

/** Such as `502 (4 times), 200`. */
function inWords(course: readonly string[]): string {
  const words: string[] = []
  for (let at = 0; at < course.length; ) {
    const answer = course[at] ?? ''
    let times = 1
    while (course[at + times] === answer) times++
    words.push(times > 1 ? `${answer} (${times} times)` : answer)
    at += times
  }
  return words.join(', ')
}

const pause = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  for (let tries = 0; tries < 600; tries++) {
    if (await isSo()) return
    await pause(50)
  }
  throw new Error('what the fault waits for did not happen within 30 s')
}

/** Of a replica that dies: what it reports from then on reaches nobody. Its claims lapse soon. */
class DyingLedger implements LedgerStore {
  isDead = false

  constructor(readonly shared: LedgerStore) {}

  claim(...[request]: Parameters<LedgerStore['claim']>) {
    return this.shared.claim({ ...request, leaseMs: Math.min(request.leaseMs, 4_000) })
  }
  async update(...[update]: Parameters<LedgerStore['update']>) {
    return this.isDead || this.shared.update(update)
  }
  get(...[key]: Parameters<LedgerStore['get']>) {
    return this.shared.get(key)
  }
  list(...[filter]: Parameters<LedgerStore['list']>) {
    return this.shared.list(filter)
  }
  async undelivered(...[query]: Parameters<NonNullable<LedgerStore['undelivered']>>) {
    return this.shared.undelivered?.(query) ?? []
  }
}
