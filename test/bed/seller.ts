/** A shop: upstream's Express middleware with one paid route. */
import type { AddressInfo } from 'node:net'
import { type FacilitatorClient, x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express from 'express'
import type { Chain } from './chain.ts'

/** What one purchase costs, in atomic units of the token: a cent. */
export const price = 10_000n

export type Seller = Awaited<ReturnType<typeof startSeller>>

export async function startSeller(chain: Chain, facilitator: FacilitatorClient) {
  const account = await chain.newAccount()
  const resourceServer = new x402ResourceServer(facilitator).register(chain.network, new ExactEvmScheme())
  const { address: asset, name, version } = chain.token
  const app = express()
  app.use(
    paymentMiddleware(
      {
        'GET /goods': {
          accepts: {
            scheme: 'exact',
            network: chain.network,
            payTo: account.address,
            price: { asset, amount: `${price}`, extra: { name, version } },
          },
          description: 'goods',
        },
      },
      resourceServer,
    ),
  )
  const seller = {
    url: '',
    address: account.address,
    resourceServer,
    stop: async () => {},
  }
  app.get('/goods', (_request, response) => {
    response.json({ goods: 'delivered' })
  })
  const server = app.listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  seller.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/goods`
  seller.stop = async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  }
  return seller
}
