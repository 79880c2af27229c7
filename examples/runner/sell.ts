/** One example at work: facilitators die, a buyer buys, and the chain says whether the seller was paid. */
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts'
import type { TestFacilitator } from '../../test/bed/facilitator.ts'
import { type Example, type Setting, statusToken } from './examples.ts'
import { install } from './install.ts'
import type { Market } from './market.ts'
import type { Program } from './program.ts'

/** What one purchase costs, in atomic units: a cent. */
const price = 10_000n

/**
 * Buys twice with dead facilitators, once while the others settle and then break the connection, and once with all dead.
 *
 * @returns what happened, a sentence
 * @throws when the seller did not do what it must
 */
export async function sell(example: Example, market: Market): Promise<string> {
  install(example.folder)
  const facilitators = await market.openFacilitators()
  const programs: Program[] = []
  try {
    const dead = example.dead === 'all' ? facilitators : facilitators.slice(0, 1)
    await Promise.all(dead.map(facilitator => facilitator.kill()))
    const { setting, balance } = await newSeller(market, facilitators)
    await example.start(setting, programs)
    const url = programs.at(-1)?.url ?? ''
    console.log(`${example.name}: dead: ${dead.map(({ id }) => id).join(', ')}; the seller is at ${url}`)

    let paid = 0n
    const buy = async (what: string, expectedStatus: number, isPaid = true) => {
      const before = facilitators.map(({ broadcasts }) => broadcasts)
      const { status, body, durationMs } = await market.buyer.buy(`${url}${example.path}`)
      const settler = facilitators.find(({ broadcasts }, place) => broadcasts > (before[place] ?? 0))
      const received = await balance()
      if (isPaid) paid += price
      const isDelivered = status === 200 && (body as { weather?: string }).weather === 'sunny'
      console.log(
        `  ${what}: ${status}, ${isDelivered ? 'delivered' : 'not delivered'}, ` +
          `${isPaid ? `settled by ${settler?.id ?? 'the seller itself'}` : 'not settled'}, ` +
          `${Math.round(durationMs)} ms; the seller has ${inDollars(received)} on the chain`,
      )
      if (status !== expectedStatus || isDelivered !== (expectedStatus === 200))
        throw new Error(`${what} was answered ${status}, not ${expectedStatus}: ${JSON.stringify(body)}`)
      if (received !== paid)
        throw new Error(`after ${what} the seller has ${received} on the chain, not ${paid}`)
    }
    await buy('purchase 1', 200)
    await buy('purchase 2', 200)
    if (example.dead !== 'all') {
      for (const facilitator of facilitators)
        facilitator.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
      await buy('purchase 3, whose answer is lost', example.canAskChain ? 200 : 502)
      await Promise.all(facilitators.map(facilitator => facilitator.stop()))
      await buy('purchase 4, with all dead', example.whenAllDead, false)
    }
    await example.check?.(url)
  } finally {
    await Promise.all(programs.map(program => program.stop()))
    await Promise.all(facilitators.map(facilitator => facilitator.stop()))
  }
  return example.canAskChain
    ? 'nothing was charged twice, or without delivery'
    : 'nothing was charged twice, and 502 was the answer where nobody could tell'
}

async function newSeller({ chain }: Market, facilitators: readonly TestFacilitator[]) {
  const { address } = await chain.newAccount()
  const gasKey = generatePrivateKey()
  await chain.setEther(privateKeyToAccount(gasKey).address, '1')
  const urls = facilitators.map(({ url }, place) => [`FACILITATOR_${place + 1}_URL`, url])
  const setting: Setting = {
    PAY_TO: address,
    GAS_KEY: gasKey,
    STATUS_TOKEN: statusToken,
    [`RPC_URL_${chain.chainId}`]: chain.rpcUrl,
    ...Object.fromEntries(urls),
  }
  return { setting, balance: () => chain.balanceOf(address) }
}

function inDollars(atomicUnits: bigint): string {
  return `$${(Number(atomicUnits) / 1_000_000).toFixed(2)}`
}
