/** One purchase is one charge and one delivery, for buyers who sign a new payment after every error. */
import type { RequestHandler } from 'express'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { trackDelivery } from '../../src/delivery/index.ts'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { type Buyer, createBuyer } from '../bed/buyer.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { type Fault, startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { price, type Seller, startSeller } from '../bed/seller.ts'
import { startNode } from './node.ts'
import { transferring } from './probe-payments.ts'

let chain: Chain

beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.2 })
})
afterAll(() => chain.stop())

const purchases = 8
const answerIsLost: Fault = { kind: 'act-then', next: { kind: 'reset' } }

interface Trouble {
  readonly settle?: Fault
  readonly hasProbe: boolean
  readonly isNodeDown?: boolean
  /** The connection to the buyer ends just before the goods are sent. */
  readonly isReplyLost?: boolean
  /** The buyers leave when every payment has reached the facilitator. */
  readonly hangUp?: boolean
}

/** Ends the connection in the place of a reply with goods, while `isWanted`. */
function cutting(isWanted: () => boolean): RequestHandler {
  return (_request, response, next) => {
    const end = response.end.bind(response) as (...body: unknown[]) => typeof response
    response.end = (...body: unknown[]) => {
      if (isWanted() && response.statusCode === 200) response.socket?.destroy()
      return end(...body)
    }
    next()
  }
}

/** What eight buyers were charged and got, who make the same call again after any error, the second time in peace. */
async function sell({ settle, hasProbe, isNodeDown, isReplyLost, hangUp }: Trouble) {
  const node = await startNode(chain.rpcUrl)
  const facilitator = await startFacilitator({ chain, id: 'only' })
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: facilitator.id, url: facilitator.url }],
    deadlineMs: { settle: 6_000 },
    settlement: {
      probes: hasProbe ? [evmSettlementProbe({ [chain.network]: { rpcUrl: node.url, timeoutMs: 500 } })] : [],
    },
  })
  await aggregator.getSupported()
  let isCut = isReplyLost === true
  const cut = cutting(() => isCut)
  const seller = await startSeller(chain, aggregator, {
    middleware: [trackDelivery(aggregator).express, cut],
  })
  const buyers = await Promise.all(Array.from({ length: purchases }, () => createBuyer(chain)))
  const buy = (buyer: Buyer, init?: RequestInit) =>
    buyer.buy(seller.url, init).then(
      ({ status }) => status,
      () => 'no reply',
    )

  try {
    if (settle !== undefined) facilitator.fault({ settle })
    if (isNodeDown) node.mode = 'dead'
    const leaving = new AbortController()
    const first = Promise.all(buyers.map(buyer => buy(buyer, { signal: leaving.signal })))
    if (hangUp) {
      await expect.poll(() => facilitator.calls.settle, { interval: 20, timeout: 20_000 }).toBe(purchases)
      leaving.abort()
    }
    const replies: (number | string)[][] = (await first).map(reply => [reply])
    isCut = false
    node.mode = 'well'
    facilitator.heal()
    await Promise.all(
      buyers.map(async (buyer, index) => {
        const heard = replies[index] ?? []
        while (heard.at(-1) !== 200 && heard.length < 3) heard.push(await buy(buyer))
      }),
    )
    await aggregator.stop()
    const isDelivered = (heard: unknown[]) => heard.at(-1) === 200
    return {
      charged: Number((await chain.balanceOf(seller.address)) / price),
      delivered: replies.filter(isDelivered).length,
      replies: [...new Set(replies.map(heard => heard.join(', ')))],
    }
  } finally {
    await seller.stop()
    await aggregator.stop({ inFlight: 'abort' })
    await Promise.all([facilitator.stop(), node.stop()])
  }
}

describe('a buyer who signs a new payment after every error is charged once, and delivered to once', () => {
  it.concurrent.each<[string, Trouble]>([
    ['nothing fails', { hasProbe: true }],
    ['nothing fails, without a probe', { hasProbe: false }],
    ['the answer of the settle is lost', { hasProbe: true, settle: answerIsLost }],
    [
      'the answer of the settle is lost while the node is down',
      { hasProbe: true, settle: answerIsLost, isNodeDown: true },
    ],
    ['the reply is lost after the settle', { hasProbe: true, isReplyLost: true }],
    ['the reply is lost after the settle, without a probe', { hasProbe: false, isReplyLost: true }],
    [
      'the buyer hangs up while the payment is settled',
      { hasProbe: true, hangUp: true, settle: { kind: 'slow', ms: 3_000 } },
    ],
  ])('when %s', async (_, trouble) => {
    expect(await sell(trouble)).toMatchObject({ charged: purchases, delivered: purchases })
  })

  it.concurrent('or not delivered to, when nobody can tell whether the first was charged', async () => {
    expect(await sell({ hasProbe: false, settle: answerIsLost })).toEqual({
      charged: purchases,
      delivered: 0,
      replies: ['502, 502, 502'],
    })
  })
})

interface Shop {
  readonly facilitator: TestFacilitator
  readonly aggregator: FacilitatorAggregator
  readonly seller: Seller
  /** Whether the connections end in the place of replies with goods. */
  isCut: boolean
  /** How many replies had goods, those that were cut included. */
  readonly delivered: number
}

async function inShop(hasProbe: boolean, use: (shop: Shop) => Promise<void>): Promise<void> {
  const facilitator = await startFacilitator({ chain, id: 'only' })
  const probes = hasProbe ? [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })] : []
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: facilitator.id, url: facilitator.url }],
    deadlineMs: { settle: 3_000 },
    settlement: { probes, failoverAfterMs: 1_000 },
  })
  await aggregator.getSupported()
  let delivered = 0
  const counting: RequestHandler = (_request, response, next) => {
    response.on('close', () => {
      if (response.statusCode === 200) delivered++
    })
    next()
  }
  const middleware = [counting, trackDelivery(aggregator).express, cutting(() => shop.isCut)]
  const seller = await startSeller(chain, aggregator, { middleware })
  const shop = {
    facilitator,
    aggregator,
    seller,
    isCut: false,
    get delivered() {
      return delivered
    },
  }
  try {
    await use(shop)
  } finally {
    await seller.stop()
    await aggregator.stop({ inFlight: 'abort' })
    await facilitator.stop()
  }
}

const chargedBy = async ({ seller }: Shop) => Number((await chain.balanceOf(seller.address)) / price)

describe('a buyer who presents the same payment again after his reply was lost', () => {
  it.concurrent('is delivered to once more, and not charged', () =>
    inShop(false, async shop => {
      const { seller, facilitator } = shop
      const buyer = await createBuyer(chain)
      shop.isCut = true
      const { headers } = await buyer.sign(seller.url)
      await expect(buyer.replay(seller.url, headers)).rejects.toThrow('fetch failed')
      shop.isCut = false
      expect(await buyer.replay(seller.url, headers)).toMatchObject({
        status: 200,
        body: { goods: 'delivered' },
        settlement: { success: true, transaction: expect.stringMatching(/^0x/) },
      })
      expect(await buyer.replay(seller.url, headers)).toMatchObject({ status: 402 })
      expect(await chargedBy(shop)).toBe(1)
      expect(facilitator.broadcasts).toBe(1)
    }))
})

describe('nobody gets more than was paid for, and one redelivery of what was lost', () => {
  it.concurrent('who hangs up on purpose, and signs anew or presents his payments again', () =>
    inShop(true, async shop => {
      const { seller } = shop
      const buyer = await createBuyer(chain)
      shop.isCut = true
      for (let i = 0; i < 6; i++) {
        await buyer.buy(seller.url).catch(() => {})
        for (let again = 0; again < 2; again++)
          await buyer.replay(seller.url, buyer.lastPayment).catch(() => {})
      }
      const charged = await chargedBy(shop)
      expect(charged).toBeGreaterThan(0)
      expect(shop.delivered).toBeLessThanOrEqual(2 * charged)
    }))

  it.concurrent('who replays what is public on the chain, and hangs up', () =>
    inShop(true, async shop => {
      const { seller } = shop
      const [buyer, observer] = await Promise.all([createBuyer(chain), createBuyer(chain)])
      const { headers } = await buyer.sign(seller.url)
      expect(await buyer.replay(seller.url, headers)).toMatchObject({ status: 200 })
      for (let i = 0; i < 4; i++) {
        const leaving = new AbortController()
        const replaying = fetch(seller.url, { headers, signal: leaving.signal }).catch(() => {})
        if (i % 2 === 0) leaving.abort()
        await replaying
      }
      expect(await observer.replay(seller.url, headers)).toMatchObject({ status: 402 })
      expect([await chargedBy(shop), shop.delivered]).toEqual([1, 1])
    }))

  it.concurrent.each([
    ['with a probe', true],
    ['without a probe', false],
  ])('who signs, and spends the authorization himself while its answer is lost, %s', (_, hasProbe) =>
    inShop(hasProbe, async shop => {
      const { seller, facilitator } = shop
      const buyer = await createBuyer(chain)
      facilitator.fault({ settle: { kind: 'answer', status: 502 } })
      const { headers, nonce } = await buyer.sign(seller.url)
      expect(await buyer.replay(seller.url, headers)).toMatchObject({ status: 502 })
      const { target, callData } = await transferring(chain, buyer.account, {
        nonce,
        to: buyer.address,
        value: price,
      })
      const sender = chain.walletOf(await chain.newAccount('1'))
      const transaction = await sender.sendTransaction({ to: target, data: callData, chain: chain.viemChain })
      await chain.client.waitForTransactionReceipt({ hash: transaction })
      facilitator.heal()
      const next = await buyer.buy(seller.url)
      expect(next.status).toBe(hasProbe ? 200 : 502)
      expect([await chargedBy(shop), shop.delivered]).toEqual(hasProbe ? [1, 1] : [0, 0])
    }),
  )
})
