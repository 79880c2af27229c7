/** Replicas of one seller that do not know of each other, or whose clocks differ. */
import {
  type Claim,
  type ClaimRequest,
  type LedgerFilter,
  type LedgerUpdate,
  MemoryLedger,
} from '../../../src/index.ts'
import { type LedgerStore, sharedLedger } from '../../../src/ledger/index.ts'
import { createBuyer, type SignedPayment } from '../../bed/buyer.ts'
import { startFacilitator } from '../../bed/facilitator.ts'
import { price, startSeller } from '../../bed/seller.ts'
import { aggregatorOver, answersFirst } from '../clients.ts'
import { saleOf, tally } from '../result.ts'
import { type Bed, forEachPayment, type Scenario } from '../scenario.ts'

/**
 * A facilitator whose answer takes longer than this is taken for silent, and what the chain shows for its payment: who
 * runs replicas over slower ones gives them a shared ledger.
 */
const libraryDefaults = { probeAfterMs: 2_000, failoverAfterMs: 5_000 }

/**
 * Two replicas with the default ledger, one in the memory of each, are sent the same payments.
 *
 * @param facilitators 1: both begin at the same facilitator; 2: each begins at another one
 * @param apartMs milliseconds between the two requests
 */
export const sentToBoth =
  (facilitators: 1 | 2, apartMs: number): Scenario =>
  async bed => {
    const { chain } = bed
    const pool = await Promise.all(
      ['first', 'second'].map(id => startFacilitator({ chain, id, seesMempool: false })),
    )
    const members = pool.map(({ id, url }) => ({ id, url }))
    const orders = [members, facilitators === 1 ? members : members.toReversed()]
    const replicas = await startReplicas(
      bed,
      orders.map(order => aggregatorOver(bed, order, { settlement: libraryDefaults })),
    )
    const [one, other] = replicas.sellers
    const buyer = await createBuyer(chain, price * BigInt(bed.payments))

    const few = { ...bed, concurrency: Math.min(bed.concurrency, 5) }
    const sold = await forEachPayment(few, async () => {
      const payment = await buyer.sign(one.url)
      const purchases = await Promise.all([
        buyer.replay(one.url, payment.headers),
        after(apartMs).then(() => buyer.replay(other.url, payment.headers)),
      ])
      return { payment, purchases }
    })
    await chain.nextBlocks(3)
    const sales = await Promise.all(
      sold.map(async ({ payment, purchases }) =>
        saleOf(purchases, Number(await chain.isSpent(buyer.address, payment.nonce))),
      ),
    )
    await replicas.stop()
    await Promise.all(pool.map(one => one.stop()))
    return tally(
      sales,
      pool.reduce((sum, { broadcasts }) => sum + broadcasts, 0),
    )
  }

/** What a replica has of the ledger that it shares: a connection of its own, and not the memory of its own process. */
class ReplicaLedger implements LedgerStore {
  constructor(protected readonly shared: LedgerStore) {}

  claim(request: ClaimRequest): Promise<Claim> {
    return this.shared.claim(request)
  }
  async update(update: LedgerUpdate) {
    return this.shared.update(update)
  }
  get(key: string) {
    return this.shared.get(key)
  }
  list(filter: LedgerFilter) {
    return this.shared.list(filter)
  }
}

/** A replica's connection to a ledger whose clock is ahead of the replicas'. */
class AheadLedger extends ReplicaLedger {
  constructor(
    shared: LedgerStore,
    private readonly aheadMs: number,
  ) {
    super(shared)
  }

  override async claim(request: ClaimRequest): Promise<Claim> {
    const claim = await super.claim(request)
    return claim.kind === 'claimed' ? { ...claim, since: claim.since + this.aheadMs } : claim
  }
}

/** Of a seller's process that dies: what it reports from then on reaches nobody. */
class DyingReplicaLedger extends ReplicaLedger {
  isDead = false

  /** Its claims lapse soon, as nobody waits for half a minute here. */
  override claim(request: ClaimRequest) {
    return super.claim({ ...request, leaseMs: 2_000 })
  }
  override async update(update: LedgerUpdate) {
    return this.isDead || super.update(update)
  }
}

/** In a ledger whose clock is ahead: a replica dies after its facilitator's broadcast; the buyer turns to the other replica. */
export const clockAhead =
  (aheadMs: number): Scenario =>
  async bed => {
    const { chain } = bed
    const [first, second] = await Promise.all([
      startFacilitator({ chain, id: 'first' }),
      startFacilitator({ chain, id: 'second' }),
    ])
    const shared = new MemoryLedger()
    const dying = new DyingReplicaLedger(shared)
    const replicas = await startReplicas(bed, [
      // It dies while it waits for its facilitator, before it has asked the chain.
      aggregatorOver(bed, [{ id: first.id, url: first.url }], {
        settlement: { ledger: sharedLedger(dying), ...answersFirst },
      }),
      aggregatorOver(bed, [{ id: second.id, url: second.url }], {
        settlement: { ledger: sharedLedger(new AheadLedger(shared, aheadMs)) },
        deadlineMs: { settle: 8_000 },
      }),
    ])
    const [one, other] = replicas.sellers
    first.fault({ settle: { kind: 'act-then', next: { kind: 'hang' } } })
    const buyer = await createBuyer(chain, price * BigInt(bed.payments))
    const payments: SignedPayment[] = []
    for (let i = 0; i < bed.payments; i++) payments.push(await buyer.sign(one.url))

    for (const { headers } of payments) void buyer.replay(one.url, headers).catch(() => {})
    const isCharged = () =>
      Promise.all(payments.map(({ nonce }) => chain.isSpent(buyer.address, nonce))).then(all =>
        all.every(Boolean),
      )
    while (!(await isCharged())) await chain.nextBlocks(1)
    dying.isDead = true
    await replicas.stopFirst()
    const unresolved = () => shared.list({ states: ['unresolved'], limit: bed.payments })
    while ((await unresolved()).entries.length < bed.payments) await chain.nextBlocks(1)

    const sales = await Promise.all(
      payments.map(async ({ headers }) => saleOf([await buyer.replay(other.url, headers)], 1)),
    )
    await replicas.stop()
    await Promise.all([first.stop(), second.stop()])
    return tally(sales, first.broadcasts + second.broadcasts)
  }

type Aggregator = ReturnType<typeof aggregatorOver>

/** A seller for each aggregator; the money goes to one account. */
async function startReplicas({ chain }: Bed, aggregators: readonly Aggregator[]) {
  const { address: payTo } = await chain.newAccount()
  const start = async (aggregator: Aggregator | undefined) => {
    if (aggregator === undefined) throw new Error('expected two replicas')
    await aggregator.getSupported()
    const seller = await startSeller(chain, aggregator, { payTo })
    await fetch(seller.url)
    return seller
  }
  const sellers = [await start(aggregators[0]), await start(aggregators[1])] as const
  const stopFirst = async () => {
    await aggregators[0]?.stop({ inFlight: 'abort' })
    await sellers[0].stop()
  }
  return {
    sellers,
    stopFirst,
    async stop() {
      for (const aggregator of aggregators) await aggregator.stop({ inFlight: 'abort' })
      for (const seller of sellers) await seller.stop()
    },
  }
}

function after(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
