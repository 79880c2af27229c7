/** A shop: upstream's Express middleware with one paid route. */
import type { AddressInfo } from 'node:net'
import { type FacilitatorClient, x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express, { type RequestHandler } from 'express'
import type { Address } from 'viem'
import type { Chain } from './chain.ts'

/** What one purchase costs, in atomic units of the token: a cent. */
export const price = 10_000n

export type Seller = Awaited<ReturnType<typeof startSeller>>

export interface SellerOptions {
  /** Where the money goes; replicas of one seller share it. A new account unless it is given. */
  payTo?: Address
  /** What the requirements say of the token, instead of its name and version. */
  extra?: Record<string, unknown>
  /** Stands in front of the payments. */
  middleware?: RequestHandler[]
}

export async function startSeller(chain: Chain, facilitator: FacilitatorClient, options: SellerOptions = {}) {
  const payTo = options.payTo ?? (await chain.newAccount()).address
  const resourceServer = new x402ResourceServer(facilitator).register(chain.network, new ExactEvmScheme())
  const { address: asset, name, version } = chain.token
  const extra = options.extra ?? { name, version }
  const app = express()
  for (const handler of options.middleware ?? []) app.use(handler)
  app.use(
    paymentMiddleware(
      {
        'GET /goods': {
          accepts: {
            scheme: 'exact',
            network: chain.network,
            payTo,
            price: { asset, amount: `${price}`, extra },
          },
          description: 'goods',
        },
      },
      resourceServer,
    ),
  )
  const seller = {
    url: '',
    address: payTo,
    resourceServer,
    stop: async () => {},
  }
  app.get('/goods', (_request, response) => {
    response.json({ goods: 'delivered' })
  })
  const server = app.listen(0, '127.0.0.1')
  // A connection that is closed while idle, just as it is used again, is none of the faults under test.
  server.keepAliveTimeout = 0
  await new Promise(resolve => server.once('listening', resolve))
  seller.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/goods`
  seller.stop = async () => {
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  }
  return seller
}
