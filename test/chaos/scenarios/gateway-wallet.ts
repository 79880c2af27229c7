/**
 * Circle Gateway's `exact`: the authorization is signed for another contract than the token, and charged from a balance
 * that the buyer has with the operator. The token will never show it as used.
 */
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import { createBuyer } from '../../bed/buyer.ts'
import { startSeller } from '../../bed/seller.ts'
import { aggregatorOver } from '../clients.ts'
import { saleOf, tally } from '../result.ts'
import { forEachPayment, type Scenario } from '../scenario.ts'
import { Book, standIn } from '../stand-ins.ts'

/** Circle's wallet contract for testnets, as its facilitator advertises it. */
const verifyingContract = '0x0077777d7EBA4688BDeF3E311b846F25870A19B9'
export const gatewayWalletExtra = { name: 'GatewayWalletBatched', version: '1', verifyingContract }

/**
 * @param answer what reaches us after the charge; what is lost is lost once, what is denied at both of the operator's
 * gateways, each time
 * @param audit whether a claim of success is looked up
 */
export const gatewayWallet =
  (answer: 'arrives' | 'lost' | 'denied', audit: 'off' | 'always'): Scenario =>
  async bed => {
    const { chain } = bed
    const book = new Book()
    const nonceOf = ({ payload }: PaymentPayload) => (payload.authorization as { nonce: string }).nonce
    const kind = { x402Version: 2, scheme: 'exact', network: chain.network }
    const settle = async (payload: PaymentPayload, { network }: PaymentRequirements) => {
      const isNew = book.charge(nonceOf(payload))
      const rejection = (errorReason: string) => ({ success: false, errorReason, transaction: '', network })
      if (answer === 'denied') return rejection('internal_error')
      if (!isNew) return rejection('nonce_already_used')
      if (answer === 'lost') throw new Error('the connection was closed')
      return { success: true, transaction: crypto.randomUUID(), network }
    }
    const facilitators = ['first', 'second'].map(id => ({ id, client: standIn(kind, settle) }))
    const aggregator = aggregatorOver(bed, facilitators, {
      settlement: { audit },
      deadlineMs: { settle: 8_000 },
    })
    await aggregator.getSupported()
    const seller = await startSeller(chain, aggregator, { extra: gatewayWalletExtra })
    await fetch(seller.url)
    const buyer = await createBuyer(chain)
    const sales = await forEachPayment(bed, async () => {
      const { payload, headers } = await buyer.sign(seller.url)
      const purchase = await buyer.replay(seller.url, headers)
      return saleOf([purchase], book.charges(nonceOf(payload)))
    })
    await aggregator.stop({ inFlight: 'abort' })
    await seller.stop()
    return tally(sales)
  }
