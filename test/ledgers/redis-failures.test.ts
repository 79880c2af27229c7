/** Redis fails while two replicas of a seller share it; the chain tells what was charged. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { type RedisClient, redisLedger } from '../../src/redis/index.ts'
import { type Buyer, createBuyer, type SignedPayment } from '../bed/buyer.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { hasServer } from '../bed/ledger-servers.ts'
import { type RedisServer, redisServer, startRedis } from '../bed/redis.ts'
import { price, type Seller, startSeller } from '../bed/seller.ts'
import { untyped } from '../untyped.ts'
import { type Connected, connectIoRedis, connectNodeRedis } from './redis-clients.ts'

const isThere = hasServer('Redis, when it fails,', 'redis-server or valkey-server', !!redisServer)

/** A ledger may take so long (ms) at most for a claim; beside it there is the settlement itself. */
const claimBoundMs = 5_000
/** The same for an update. */
const updateBoundMs = 2_000
const settleMs = 6_000

interface Replica {
  readonly seller: Seller
  readonly aggregator: FacilitatorAggregator
  stop(): Promise<void>
}

describe.runIf(isThere)('when Redis fails', { timeout: 60_000 }, () => {
  let chain: Chain
  let server: RedisServer
  let facilitator: TestFacilitator
  let buyer: Buyer
  let payTo: Seller['address']
  let replicas: Replica[]

  beforeAll(async () => {
    chain = await startChain({ blockTimeSeconds: 0.25 })
  })
  afterAll(() => chain?.stop())
  beforeEach(async () => {
    server = await startRedis()
    facilitator = await startFacilitator({ chain, id: 'facilitator' })
    buyer = await createBuyer(chain)
    payTo = (await chain.newAccount()).address
    replicas = []
  })
  afterEach(async () => {
    server.goOn()
    for (const replica of replicas) await replica.stop()
    await facilitator.stop()
    await server[Symbol.asyncDispose]()
  })

  /** One of the processes of the seller. */
  async function startReplica(connect = connectNodeRedis): Promise<Replica> {
    return replicaWith(await connect(server.url))
  }

  async function replicaWith({ client, close }: Connected): Promise<Replica> {
    const aggregator = new FacilitatorAggregator({
      facilitators: [{ id: facilitator.id, url: facilitator.url }],
      timeoutMs: { settle: settleMs },
      settlement: {
        ledger: redisLedger({ client }),
        probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })],
        failoverAfterMs: 3_000,
        probeAfterMs: 1_500,
        watchIntervalMs: 200,
      },
      logger: false,
    })
    await aggregator.getSupported()
    const seller = await startSeller(chain, aggregator, { payTo })
    await fetch(seller.url)
    const replica = {
      seller,
      aggregator,
      async stop() {
        await aggregator.stop({ inFlight: 'abort' })
        await seller.stop()
        await close()
      },
    }
    replicas.push(replica)
    return replica
  }

  const present = ({ seller }: Replica, { headers }: SignedPayment) => buyer.replay(seller.url, headers)
  const charged = async () => Number((await chain.balanceOf(payTo)) / price)

  /** Something happens when the facilitator is asked to settle, and half a second later it goes to work. */
  function whileSettling(happen: () => void): void {
    facilitator.fault({
      settle: {
        kind: 'draw',
        draw: () => {
          happen()
          return { kind: 'slow', ms: 500 }
        },
      },
    })
  }

  it.each([
    ['redis', connectNodeRedis],
    ['ioredis', connectIoRedis],
  ])(
    'by %s: killed while a payment is settled, it is delivered once, also after a restart',
    async (_, connect) => {
      const [one, other] = [await startReplica(connect), await startReplica(connect)]
      const payment = await buyer.sign(one.seller.url)
      let killed: Promise<void> | undefined
      whileSettling(() => {
        killed = server.kill()
      })
      const first = await present(one, payment)
      expect(first.status).toBe(200)
      await killed
      await server.restart()
      facilitator.heal()
      // The claim was on the disk: nobody else may take it for a new payment.
      expect((await present(other, payment)).status).not.toBe(200)
      await one.aggregator.stop()
      expect((await present(other, payment)).status).toBe(402)
      expect(await charged()).toBe(1)
    },
  )

  it('killed before a payment, it refuses the payment in time, and takes it when it is back', async () => {
    const replica = await startReplica()
    const payment = await buyer.sign(replica.seller.url)
    await server.kill()
    const refused = await present(replica, payment)
    expect(refused.status).toBe(502)
    expect(refused.durationMs).toBeLessThan(2 * claimBoundMs + 1_000)
    expect(facilitator.calls.settle).toBe(0)
    await server.restart()
    await expect.poll(async () => (await present(replica, payment)).status, { timeout: 10_000 }).toBe(200)
    expect(await charged()).toBe(1)
  })

  it('frozen for ten seconds before a payment, it is refused in time, and delivered once afterwards', async () => {
    const [one, other] = [await startReplica(), await startReplica()]
    const payment = await buyer.sign(one.seller.url)
    const frozenAt = performance.now()
    server.freeze()
    const answer = await present(one, payment)
    expect(answer.status).toBe(502)
    expect(answer.durationMs).toBeLessThan(2 * claimBoundMs + 1_000)
    await after(10_000 - (performance.now() - frozenAt))
    server.goOn()
    // The claim that came too late is given back, so that nobody waits for its end.
    await expect.poll(async () => (await present(other, payment)).status, { timeout: 10_000 }).toBe(200)
    expect((await present(one, payment)).status).toBe(402)
    expect(await charged()).toBe(1)
  })

  it('frozen for ten seconds while a payment is settled, it holds the delivery up for its bound at most', async () => {
    const [one, other] = [await startReplica(), await startReplica()]
    const payment = await buyer.sign(one.seller.url)
    let frozenAt = 0
    whileSettling(() => {
      frozenAt = performance.now()
      server.freeze()
    })
    const answer = await present(one, payment)
    expect(answer.status).toBe(200)
    expect(answer.durationMs).toBeLessThan(settleMs + updateBoundMs + 1_000)
    await after(10_000 - (performance.now() - frozenAt))
    server.goOn()
    facilitator.heal()
    await one.aggregator.stop()
    expect((await present(other, payment)).status).toBe(402)
    expect(await charged()).toBe(1)
  })

  it('loses answers after it has written, and ten payments are delivered once each', async () => {
    const connected = await connectNodeRedis(server.url)
    const one = await replicaWith({ ...connected, client: losingAnswers(connected.client) })
    const other = await startReplica()
    for (let i = 0; i < 10; i++) {
      const payment = await buyer.sign(one.seller.url)
      const before = await charged()
      let answer = await present(one, payment)
      // A claim that was not answered is refused before anything is sent, and may be made again.
      for (let retry = 0; retry < 5 && answer.status === 502; retry++) answer = await present(one, payment)
      expect(answer.status).toBe(200)
      expect((await present(other, payment)).status).toBe(402)
      expect(await charged()).toBe(before + 1)
    }
  })

  it('loses its primary while a payment is settled, and the replica that takes over knows of the claim', async () => {
    await using standby = await startRedis({ replicaof: `127.0.0.1 ${server.port}` })
    await expect
      .poll(() => standby.command('INFO', 'replication'), { timeout: 10_000 })
      .toContain('master_link_status:up')
    const [old, fresh] = [await connectNodeRedis(server.url), await connectNodeRedis(standby.url)]
    let current = old.client
    const following: Connected = {
      client: untyped(followed(() => current)),
      close: async () => {
        await old.close()
        await fresh.close()
      },
    }
    const one = await replicaWith(following)
    const other = await replicaWith({ client: following.client, close: async () => {} })
    const payment = await buyer.sign(one.seller.url)
    let demoted: Promise<void> | undefined
    whileSettling(() => {
      demoted = (async () => {
        await standby.command('REPLICAOF', 'NO', 'ONE')
        await server.command('REPLICAOF', '127.0.0.1', `${standby.port}`)
        // The clients hear of it later: until then they write to the old primary, which is a replica now.
        await after(300)
        current = fresh.client
      })()
    })
    const [first, second] = await Promise.all([
      present(one, payment),
      after(200).then(() => present(other, payment)),
    ])
    await demoted
    facilitator.heal()
    expect(first.status).toBe(200)
    expect(second.status).toBe(502)
    await one.aggregator.stop()
    expect((await present(other, payment)).status).toBe(402)
    expect(await charged()).toBe(1)
  })
})

function after(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}

type Scripts = Record<'eval' | 'evalSha', (...args: unknown[]) => Promise<unknown>>

/** Does what it is asked to do, and loses the first answer about each payment, and each that a success is stored. */
function losingAnswers(client: RedisClient): RedisClient {
  const redis = client as unknown as Scripts
  const heard = new Set<unknown>()
  const lose = async (answer: Promise<unknown>, request: unknown) => {
    await answer
    const { arguments: parameters } = request as { arguments: string[] }
    const isFirst = heard.size < heard.add(parameters[0]).size
    if (isFirst || parameters.includes('settled')) throw new Error('Socket closed unexpectedly')
    return answer
  }
  const lossy: Scripts = {
    eval: (source, request) => lose(redis.eval(source, request), request),
    evalSha: (digest, request) => lose(redis.evalSha(digest, request), request),
  }
  return untyped(lossy)
}

/** A client that follows the primary. */
function followed(current: () => RedisClient): Scripts {
  const of =
    (name: keyof Scripts) =>
    (...args: unknown[]) =>
      (current() as unknown as Scripts)[name](...args)
  return { eval: of('eval'), evalSha: of('evalSha') }
}
