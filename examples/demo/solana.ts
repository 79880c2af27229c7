/** The same on Solana, where a payment is made for one facilitator: what others do for it, and what the chain does. */
import { FacilitatorAggregator } from '../../src/index.ts'
import { svmSettlementProbe } from '../../src/svm/index.ts'
import { startSolanaFacilitator } from '../../test/bed/solana/facilitator.ts'
import { network, openMarket, price } from '../../test/bed/solana/market.ts'
import { createSolanaBuyer, startSolanaShop } from '../../test/bed/solana/shop.ts'
import { Narrator } from './narrator.ts'

/** Twenty times as fast as the real ones, so that a blockhash expires in some 3 s. */
const slotMs = 20

/** @returns whether each purchase ended as it should, and the chain agrees */
export async function demonstrateSolana(perAct: number): Promise<boolean> {
  const say = new Narrator()
  say.act('A Solana runtime in this process, a token, two facilitators, a shop and a buyer')
  const market = await openMarket({ slotMs })
  const [first, second] = await Promise.all([
    startSolanaFacilitator(market, 'first'),
    startSolanaFacilitator(market, 'second'),
  ])
  const aggregator = new FacilitatorAggregator({
    facilitators: [first, second].map(({ id, url }) => ({ id, url })),
    healthCheck: { intervalMs: 1_000, maxConsecutiveFailures: 1 },
    logger: false, // the narrator tells what happens
    settlement: {
      probes: [svmSettlementProbe({ [network]: { rpcUrl: market.node.url } })],
      failoverAfterMs: 1_000,
    },
  })
  const shop = await startSolanaShop(market, aggregator)
  await aggregator.bindResourceServer(shop.resourceServer)
  const buyer = createSolanaBuyer(market)
  for (const { id, url, address } of [first, second])
    say.line(`facilitator ${id.padEnd(6)} ${url}  pays fees as ${address}`)

  let settledBy = ''
  aggregator.on('attempt', ({ operation, facilitator }) => {
    if (operation === 'settle') settledBy = facilitator
  })
  aggregator.on('settlement:recovered', ({ transaction }) => say.rescue(transaction ?? ''))
  aggregator.on('circuit:change', change => say.circuit(change))

  const { buyer: buyerAccount, payee } = market.accounts
  let number = 0
  let paid = 0
  let isAsExpected = true
  async function buy(times: number, expected: 200 | 402): Promise<void> {
    for (let i = 0; i < times; i++) {
      const startedAt = performance.now()
      const status = await buyer.buy(shop.url)
      if (status === 200) paid++
      isAsExpected &&= status === expected
      const balances = { buyer: market.balanceAt(buyerAccount), seller: market.balanceAt(payee) }
      say.purchase(
        ++number,
        status,
        status === 200 ? settledBy : 'nobody',
        performance.now() - startedAt,
        balances,
      )
    }
  }

  say.act('All are well')
  await buy(perAct, 200)

  say.act('The first settles, and breaks the connection instead of answering')
  first.fault({ kind: 'settle-then', next: { kind: 'reset' } })
  await buy(perAct, 200)

  say.act('Both break the connection before they send: 402 once the payment can be charged no more')
  for (const facilitator of [first, second]) facilitator.fault({ kind: 'reset' })
  await buy(1, 402)

  say.act('The second is well again, the first dies: the next offer names the second as the fee payer')
  second.fault(undefined)
  await first.stop()
  await aggregator.checkHealth()
  await buy(perAct, 200)

  const received = market.balanceAt(payee)
  const agrees = received === price * BigInt(paid)
  say.act('Summary')
  say.line(
    `${paid} of ${number} purchases paid, ${received / price} charged: ${agrees ? 'the chain agrees' : 'THE CHAIN DISAGREES'}`,
  )
  await aggregator.stop()
  await Promise.all([shop.stop(), second.stop(), market.stop()])
  return agrees && isAsExpected
}
