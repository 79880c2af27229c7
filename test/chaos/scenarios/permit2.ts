/** Purchases by Permit2 whose nonces are used in one block. */
import type { PaymentPayload, SettleResponse } from '@x402/core/types'
import type { Address } from 'viem'
import {
  deployPermit2,
  permit2Payload,
  permit2Requirements,
  readPermit2,
  signedPermit2Payload,
} from '../../bed/permit2.ts'
import { price } from '../../bed/seller.ts'
import { checkout } from '../checkout.ts'
import { aggregatorOver } from '../clients.ts'
import { type Sale, saleOf, tally } from '../result.ts'
import type { Scenario } from '../scenario.ts'
import { Book, standIn } from '../stand-ins.ts'

const groupSize = 5

/** Of five purchases of one buyer one is settled, and the nonces of the others are cancelled beside it. */
export const cancelledBeside: Scenario = async bed => {
  const { chain } = bed
  const permit2 = await deployPermit2(chain)
  const { address: payTo } = await chain.newAccount()
  const requirements = permit2Requirements(chain, 'exact', payTo)
  const groups = new Map<Address, Group>()
  const facilitator = standIn({ x402Version: 2, scheme: 'exact', network: chain.network }, async payload => {
    await groups.get(readPermit2(payload).owner)?.join(payload)
    throw new Error('the connection was closed')
  })
  const aggregator = aggregatorOver(bed, [{ id: 'first', client: facilitator }], {
    deadlineMs: { settle: 8_000 },
  })
  await aggregator.getSupported()

  const sellGroup = async (): Promise<Sale[]> => {
    const owner = await permit2.newOwner(price)
    groups.set(
      owner.address,
      new Group(async (settled, cancelled) => {
        await permit2.inOneBlock([
          permit2.settle(settled),
          ...cancelled.map(payload => permit2.cancel(owner, nonceOf(payload))),
        ])
      }),
    )
    // In words of the bitmap of their own, as random nonces are.
    const payloads = await Promise.all(
      Array.from({ length: groupSize }, (_, index) =>
        signedPermit2Payload(chain, owner, requirements, `${(BigInt(index + 1) << 8n) + 1n}`),
      ),
    )
    const purchases = await Promise.all(payloads.map(payload => checkout(aggregator, payload, requirements)))
    const settled = groups.get(owner.address)?.settled
    return purchases.map((purchase, index) => {
      const payload = payloads[index]
      const isCharged = payload && settled && nonceOf(payload) === nonceOf(settled)
      return saleOf([purchase], Number(isCharged))
    })
  }
  const sales = await Promise.all(Array.from({ length: Math.ceil(bed.payments / groupSize) }, sellGroup))
  const received = await chain.balanceOf(payTo)
  if (received !== price * BigInt(sales.length))
    throw new Error(`the seller received ${received} from ${sales.length} buyers who paid ${price} each`)
  await aggregator.stop({ inFlight: 'abort' })
  return tally(sales.flat())
}

/** The settles of one buyer, which wait until all of them have come. */
class Group {
  readonly #payments = new Map<bigint, PaymentPayload>()
  readonly #done: Promise<void>
  #start: () => void = () => {}

  constructor(settle: (first: PaymentPayload, others: readonly PaymentPayload[]) => Promise<void>) {
    this.#done = new Promise<void>(resolve => {
      this.#start = resolve
    }).then(() => {
      const [first, ...others] = this.#payments.values()
      return first && settle(first, others)
    })
  }

  /** The payment that came first. */
  get settled(): PaymentPayload | undefined {
    return this.#payments.values().next().value
  }

  join(payload: PaymentPayload): Promise<void> {
    this.#payments.set(nonceOf(payload), payload)
    if (this.#payments.size === groupSize) this.#start()
    return this.#done
  }
}

function nonceOf(payload: PaymentPayload): bigint {
  return readPermit2(payload).permit.nonce
}

/** With `upto` nothing may have been used: then nothing is charged, and no chain will ever show it. */
export const nothingUsed: Scenario = async bed => {
  const { chain } = bed
  await deployPermit2(chain)
  const { address: payTo } = await chain.newAccount()
  const requirements = permit2Requirements(chain, 'upto', payTo)
  const book = new Book()
  const facilitator = standIn(
    { x402Version: 2, scheme: 'upto', network: chain.network },
    async ({ payload }, { amount, network }): Promise<SettleResponse> => {
      if (amount !== '0') throw new Error('the connection was closed')
      book.charge(JSON.stringify(payload))
      // As upstream's facilitator answers.
      return { success: true, transaction: '', network, amount: '0' }
    },
  )
  const aggregator = aggregatorOver(bed, [{ id: 'first', client: facilitator }], {
    settlement: { audit: 'always' },
    deadlineMs: { settle: 8_000 },
  })
  await aggregator.getSupported()
  const sales = await Promise.all(
    Array.from({ length: bed.payments }, async (_, index) => {
      const { address } = await chain.newAccount()
      const payload = permit2Payload(requirements, address, `${index + 1}`)
      const purchase = await checkout(aggregator, payload, requirements, { ...requirements, amount: '0' })
      return saleOf([purchase], book.charges(JSON.stringify(payload.payload)))
    }),
  )
  await aggregator.stop({ inFlight: 'abort' })
  return tally(sales)
}
