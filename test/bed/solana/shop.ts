/** A shop that takes payments on Solana, with upstream's middleware, and a buyer with upstream's paying fetch. */
import type { AddressInfo } from 'node:net'
import { type FacilitatorClient, x402ResourceServer } from '@x402/core/server'
import { paymentMiddleware } from '@x402/express'
import { wrapFetchWithPayment, x402Client } from '@x402/fetch'
import { ExactSvmScheme } from '@x402/svm'
import { ExactSvmScheme as ExactSvmServerScheme } from '@x402/svm/exact/server'
import express from 'express'
import { type Market, network, price } from './market.ts'

export async function startSolanaShop(market: Market, facilitator: FacilitatorClient) {
  const resourceServer = new x402ResourceServer(facilitator).register(network, new ExactSvmServerScheme())
  const payTo = market.payee.address
  const accepts = {
    scheme: 'exact',
    network,
    payTo,
    price: { asset: market.mint, amount: `${price}` },
  } as const
  const app = express()
  app.use(paymentMiddleware({ 'GET /goods': { accepts, description: 'goods' } }, resourceServer))
  app.get('/goods', (_request, response) => {
    response.json({ goods: 'delivered' })
  })
  const server = app.listen(0, '127.0.0.1')
  server.keepAliveTimeout = 0
  await new Promise(resolve => server.once('listening', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/goods`,
    resourceServer,
    async stop() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

/** The buyer of the market, who pays what he is asked for. */
export function createSolanaBuyer(market: Market) {
  const client = new x402Client()
    .setSpendControls({ allowedAssets: [{ network, asset: market.mint }] })
    .register(network, new ExactSvmScheme(market.buyer, { rpcUrl: market.node.url }))
  /** The headers of the last paid request, to send it again. */
  let lastPayment: Record<string, string> = {}
  const remember: typeof fetch = async (input, init) => {
    const request = new Request(input, init)
    if (request.headers.has('payment-signature')) lastPayment = Object.fromEntries(request.headers)
    return fetch(request)
  }
  const pay = wrapFetchWithPayment(remember, client)
  return {
    buy: async (url: string) => (await pay(url)).status,
    /** Sends the last payment once more. */
    again: async (url: string) => (await fetch(url, { headers: lastPayment })).status,
  }
}
