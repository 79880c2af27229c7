/** One cell of the fault matrix whose fault lies at the facilitators: many purchases, judged by the chain. */
import { FacilitatorAggregator } from '../../src/index.ts'
import { createBuyer } from '../bed/buyer.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { price, startSeller } from '../bed/seller.ts'
import { aggregatorOver, answersFirst, naiveOver, patientAggregatorOver } from './clients.ts'
import { type Condition, conditionsOf, denials, type FaultName, sequences } from './faults.ts'
import { answerOf, type CellResult, tally } from './result.ts'
import { type Bed, forEachPayment } from './scenario.ts'

export interface CellOptions extends Bed {
  readonly fault: FaultName
  /** How many of the facilitators have it, in order of priority. */
  readonly facilitators: 1 | 2 | 3
  /**
   * How many facilitators there are.
   * @default 3
   */
  readonly poolSize?: 2 | 3
}

export async function runCell(options: CellOptions): Promise<CellResult> {
  const { chain, client, fault, payments, poolSize = 3 } = options
  const ids = ['first', 'second', 'third'].slice(0, poolSize)
  // What one leaves to the next is not mined yet.
  const seesMempool = !(fault in sequences)
  const pool = await Promise.all(ids.map(id => startFacilitator({ chain, id, seesMempool })))
  const facilitator = makeClient(options, pool)
  const seller = await startSeller(chain, facilitator)
  const buyer = await createBuyer(chain, price * BigInt(payments))
  await facilitator.getSupported()
  // The first offer initializes the middleware, which asks what is supported.
  await fetch(seller.url)
  const conditions = conditionsOf(fault, options.facilitators, options.random)
  await Promise.all(conditions.map((condition, index) => pool[index] && cause(condition, pool[index])))

  const purchases = await forEachPayment(options, async () => {
    const payment = await buyer.sign(seller.url)
    return { payment, ...(await buyer.replay(seller.url, payment.headers)) }
  })
  await chain.nextBlocks(3)

  const sales = await Promise.all(
    purchases.map(async ({ payment, durationMs, ...purchase }) => {
      const charges = Number(await chain.isSpent(buyer.address, payment.nonce))
      // The naive fallback does not know the difference: its 502 counts in its favour.
      const answer = client === 'naive' && purchase.status === 502 ? 'unknown' : answerOf(purchase)
      return { charges, deliveries: Number(answer === 'delivered'), answer, durationMs }
    }),
  )
  const charged = sales.filter(({ charges }) => charges > 0).length
  const received = await chain.balanceOf(seller.address)
  if (received !== price * BigInt(charged))
    throw new Error(`the seller received ${received}, but ${charged} payments of ${price} were charged`)

  if (facilitator instanceof FacilitatorAggregator) await facilitator.stop({ inFlight: 'abort' })
  await seller.stop()
  await Promise.all(pool.map(one => one.stop()))
  return tally(
    sales,
    pool.reduce((sum, { broadcasts }) => sum + broadcasts, 0),
  )
}

function makeClient(options: CellOptions, pool: readonly TestFacilitator[]) {
  if (options.client === 'naive') return naiveOver(pool)
  const members = pool.map(({ id, url }) => ({ id, url }))
  // How long that takes is what the row shows.
  if (options.fault === 'hang; then a passing fault') return patientAggregatorOver(options, members)
  if (options.fault in denials || options.fault in sequences)
    return aggregatorOver(options, members, { settlement: answersFirst })
  const audit = options.fault === 'false claim' ? 'always' : 'off'
  return aggregatorOver(options, members, { settlement: { audit } })
}

async function cause(condition: Condition, facilitator: TestFacilitator): Promise<void> {
  if (condition === 'refuse') return facilitator.kill()
  if (condition === 'no gas') return facilitator.drainGas()
  facilitator.fault({ settle: typeof condition === 'function' ? condition() : condition })
}
