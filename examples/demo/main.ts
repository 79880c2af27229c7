/**
 * Watch a seller keep selling while facilitators die: a local chain, three of upstream's facilitators, a shop
 * with upstream's middleware, and a buyer who pays for real.
 */
import { parseArgs } from 'node:util'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { createBuyer } from '../../test/bed/buyer.ts'
import { startChain } from '../../test/bed/chain.ts'
import { startFacilitator } from '../../test/bed/facilitator.ts'
import { price, startSeller } from '../../test/bed/seller.ts'
import { Narrator } from './narrator.ts'

const { values: flags } = parseArgs({
  options: {
    purchases: { type: 'string', default: '6' },
    chain: { type: 'string', default: 'evm' },
    help: { type: 'boolean', default: false },
  },
})
const perAct = Number(flags.purchases)
if (flags.help || !Number.isInteger(perAct) || perAct < 1 || !['evm', 'solana'].includes(flags.chain)) {
  console.log(
    'usage: npm run demo -- [--purchases N] [--chain evm|solana]\n\n' +
      '  --purchases N   purchases in each act, 6 by default\n' +
      '  --chain         evm by default',
  )
  process.exit(flags.help ? 0 : 1)
}
if (flags.chain === 'solana') {
  const { demonstrateSolana } = await import('./solana.ts')
  process.exit((await demonstrateSolana(perAct)) ? 0 : 1)
}

const say = new Narrator()
say.act('A local chain, a token with EIP-3009, three facilitators, a shop and a buyer')
const chain = await startChain()
const [first, second, third] = await Promise.all([
  startFacilitator({ chain, id: 'first' }),
  startFacilitator({ chain, id: 'second' }),
  startFacilitator({ chain, id: 'third' }),
])
const facilitators = [first, second, third]

const aggregator = new FacilitatorAggregator({
  facilitators: facilitators.map(({ id, url }) => ({ id, url })),
  timeoutMs: { verify: 2_000, supported: 2_000 },
  healthCheck: { intervalMs: 2_000 },
  logger: false, // the narrator tells what happens
  settlement: { probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })] },
})
const seller = await startSeller(chain, aggregator)
const buyer = await createBuyer(chain)
aggregator.on('circuit:change', change => say.circuit(change))
for (const { id, url, address } of facilitators)
  say.line(`facilitator ${id.padEnd(6)} ${url}  gas key ${address}`)
say.line(`shop               ${seller.url}`)
say.line('the chain makes a block each second, for which every purchase waits')

const served = new Map(facilitators.map(({ id }) => [id, 0]))
let settledBy = ''
let failovers = 0
let rescued = 0
aggregator.on('attempt', attempt => {
  if (attempt.operation === 'settle' && attempt.outcome === 'answered') settledBy = attempt.facilitator
})
aggregator.on('settlement:recovered', ({ transaction, attempts }) => {
  settledBy = attempts.at(-1)?.facilitator ?? ''
  rescued++
  say.rescue(transaction ?? '')
})
aggregator.on('failover', failover => {
  failovers++
  say.failover(failover)
})

const balances = async () => {
  const [ofBuyer, ofSeller] = await Promise.all([
    chain.balanceOf(buyer.address),
    chain.balanceOf(seller.address),
  ])
  return { buyer: ofBuyer, seller: ofSeller }
}
const atFirst = await balances()
let paid = 0
let failed = 0
let recovered = 0

async function buyRepeatedly(): Promise<void> {
  for (let i = 0; i < perAct; i++) {
    const troublesBefore = failovers + rescued
    const { status, durationMs } = await buyer.buy(seller.url)
    if (status === 200) {
      paid++
      served.set(settledBy, (served.get(settledBy) ?? 0) + 1)
      if (failovers + rescued > troublesBefore) recovered++
    } else failed++
    say.purchase(paid + failed, status, status === 200 ? settledBy : 'nobody', durationMs, await balances())
  }
}

say.act('All are well')
await buyRepeatedly()

say.act('The first facilitator dies')
await first.kill()
await buyRepeatedly()

say.act('The second dies too')
await second.kill()
await buyRepeatedly()

say.act('The first comes back')
await first.revive()
await aggregator.checkHealth()
await buyRepeatedly()

say.act('The first settles, and breaks the connection instead of answering')
first.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
await buyRepeatedly()

const atLast = await balances()
await aggregator.stop()
await Promise.all([seller.stop(), ...facilitators.map(facilitator => facilitator.stop())])
chain.stop()

const due = price * BigInt(paid)
const agrees = atLast.seller - atFirst.seller === due && atFirst.buyer - atLast.buyer === due
const isServedByAll = [...served.values()].every(count => count > 0)
const received = atLast.seller - atFirst.seller
say.summary({ paid, failed, recovered, rescued, served, due, received, agrees })
process.exitCode = agrees && failed === 0 && isServedByAll && rescued > 0 ? 0 : 1
