/** One payment under several names, at facilitators that answer success again for what they have settled. */
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import type { PaymentPayloadV1, PaymentRequirementsV1 } from '@x402/core/types/v1'
import type { AnyPaymentPayload, AnyPaymentRequirements, FacilitatorAggregator } from '../../../src/index.ts'
import { createBuyer } from '../../bed/buyer.ts'
import { startFacilitator } from '../../bed/facilitator.ts'
import { deployPermit2, permit2Requirements, readPermit2, signedPermit2Payload } from '../../bed/permit2.ts'
import { price, startSeller } from '../../bed/seller.ts'
import { checkout } from '../checkout.ts'
import { aggregatorOver } from '../clients.ts'
import { type Sale, saleOf, tally } from '../result.ts'
import { type Bed, forEachPayment, type Scenario } from '../scenario.ts'
import { Book, standIn } from '../stand-ins.ts'

/** A Go facilitator reads `Authorization` as `authorization`. */
export const capitals: Scenario = async bed => {
  const { chain } = bed
  const facilitator = await startFacilitator({ chain, id: 'first' })
  facilitator.fault({ verify: { kind: 'idempotent' }, settle: { kind: 'idempotent' } })
  const aggregator = aggregatorOver(bed, [{ id: facilitator.id, url: facilitator.url }])
  await aggregator.getSupported()
  const seller = await startSeller(chain, aggregator)
  await fetch(seller.url)
  const buyer = await createBuyer(chain, price * BigInt(bed.payments))
  const sold = await forEachPayment(bed, async () => {
    const { payload, nonce, headers } = await buyer.sign(seller.url)
    const { authorization, ...content } = payload.payload
    const renamed = buyer.encode({ ...payload, payload: { ...content, Authorization: authorization } })
    const purchases = await Promise.all(
      [renamed, renamed, renamed, headers].map(spelling => buyer.replay(seller.url, spelling)),
    )
    return { purchases, nonce }
  })
  await chain.nextBlocks(2)
  const sales = await Promise.all(
    sold.map(async ({ purchases, nonce }) =>
      saleOf(purchases, Number(await chain.isSpent(buyer.address, nonce))),
    ),
  )
  await aggregator.stop({ inFlight: 'abort' })
  await seller.stop()
  await facilitator.stop()
  return tally(sales, facilitator.broadcasts)
}

/** Permit2 takes a number of 256 bits; what lies outside may be read as one within. */
export const nonceOutOfRange: Scenario = async bed => {
  const { chain } = bed
  const permit2 = await deployPermit2(chain)
  const { address: payTo } = await chain.newAccount()
  const requirements = permit2Requirements(chain, 'exact', payTo)
  const settled = new Map<string, Promise<string>>()
  const facilitator = standIn({ x402Version: 2, scheme: 'exact', network: chain.network }, async payload => {
    const { owner, permit } = readPermit2(payload)
    const id = `${owner} ${permit.nonce}`
    const transaction =
      settled.get(id) ?? permit2.inOneBlock([permit2.settle(payload)]).then(([hash = '']) => hash)
    settled.set(id, transaction)
    return { success: true, transaction: await transaction, network: chain.network }
  })
  const aggregator = aggregatorOver(bed, [{ id: 'first', client: facilitator }])
  await aggregator.getSupported()
  const owner = await permit2.newOwner(price * BigInt(bed.payments))
  let nonces = 0n
  const sales = await forEachPayment(bed, async () => {
    const nonce = ++nonces
    const spellings = await Promise.all(
      [nonce, nonce + 2n ** 256n, nonce - 2n ** 256n].map(number =>
        signedPermit2Payload(chain, owner, requirements, `${number}`),
      ),
    )
    const purchases = await Promise.all(spellings.map(payload => checkout(aggregator, payload, requirements)))
    return saleOf(purchases, Number(await permit2.isSpent(owner.address, nonce)))
  })
  await aggregator.stop({ inFlight: 'abort' })
  return tally(sales)
}

/** Names of version 1 whose chain ids upstream knows. */
export const unknownV1Network: Scenario = bed => {
  const networks = ['bsc', 'xdc'] as const
  return sellFromBook(bed, 1, networks, (index, payer) => {
    const network = networks[index % networks.length] ?? 'bsc'
    const requirements: PaymentRequirementsV1 = {
      ...basics(bed, network),
      maxAmountRequired: `${price}`,
      resource: 'https://seller.example/goods',
      description: 'goods',
      mimeType: 'application/json',
      outputSchema: {},
    }
    const payload: PaymentPayloadV1 = {
      x402Version: 1,
      scheme: 'exact',
      network: requirements.network,
      payload: { signature: `0x${'ab'.repeat(65)}`, authorization: authorizationOf(payer, index) },
    }
    return { payload, requirements }
  })
}

/** Of what is paid with `exact` on a chain that nobody here knows, nothing is known but that it is the same. */
export const unknownPayload: Scenario = bed => {
  const network = 'xrpl:0'
  return sellFromBook(bed, 2, [network], index => {
    const requirements: PaymentRequirements = { ...basics(bed, network), amount: `${price}` }
    const payload: PaymentPayload = {
      x402Version: 2,
      accepted: requirements,
      payload: { signedTransactionBlob: index.toString(16).padStart(64, '0') },
    }
    return { payload, requirements }
  })
}

function basics<N extends string>({ chain }: Bed, network: N) {
  return {
    scheme: 'exact',
    network: network as N & `${string}:${string}`,
    asset: chain.token.address,
    payTo: `0x${'22'.repeat(20)}`,
    maxTimeoutSeconds: 60,
    extra: { name: chain.token.name, version: chain.token.version },
  }
}

function authorizationOf(from: string, index: number) {
  const nonce = `0x${(index + 1).toString(16).padStart(64, '0')}`
  const validBefore = `${Math.floor(Date.now() / 1000) + 600}`
  return { from, to: `0x${'22'.repeat(20)}`, value: `${price}`, validAfter: '0', validBefore, nonce }
}

/** The same payment twice at once, and once more afterwards. */
async function sellFromBook(
  bed: Bed,
  x402Version: number,
  networks: readonly string[],
  pay: (index: number, payer: string) => { payload: AnyPaymentPayload; requirements: AnyPaymentRequirements },
) {
  const book = new Book()
  const content = ({ payload }: AnyPaymentPayload) => JSON.stringify(payload)
  const facilitators = networks.map((network, index) => ({
    id: `facilitator-${index}`,
    client: standIn(
      { x402Version, scheme: 'exact', network: network as `${string}:${string}` },
      async payload => {
        book.charge(content(payload))
        return {
          success: true,
          transaction: `0x${'33'.repeat(32)}`,
          network: network as `${string}:${string}`,
        }
      },
    ),
  }))
  const aggregator: FacilitatorAggregator = aggregatorOver(bed, facilitators)
  await aggregator.getSupported()
  let payments = 0
  const sales = await forEachPayment(bed, async (): Promise<Sale> => {
    const { payload, requirements } = pay(payments++, `0x${'11'.repeat(20)}`)
    const atOnce = await Promise.all([1, 2].map(() => checkout(aggregator, payload, requirements)))
    const afterwards = await checkout(aggregator, payload, requirements)
    return saleOf([...atOnce, afterwards], book.charges(content(payload)))
  })
  await aggregator.stop({ inFlight: 'abort' })
  return tally(sales)
}
