/**
 * A seller in the Edge runtime. It charges before the route runs, so a route that fails has been paid for; `withX402`
 * in the route, as in next-app, charges after it.
 *
 * Next.js 16 still runs a middleware.ts in the Edge runtime unless its config says `runtime: 'nodejs'`, and warns that
 * it is deprecated. Its successor proxy.ts runs in Node.js only: rename the file and the function, all else may stay.
 */
import { x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentProxy } from '@x402/next'
import { after, type NextRequest } from 'next/server'
import { FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { evmSettlementProbe } from 'x402-facilitator-aggregator/evm'
import { createStatusHandler } from 'x402-facilitator-aggregator/http'

export const config = { matcher: ['/api/weather', '/api/facilitator-status'] }

const { PAY_TO: payTo, RPC_URL_84532: rpcUrl = 'https://sepolia.base.org' } = process.env
if (!payTo) throw new Error('Set PAY_TO to the address that gets the money.')
const network = 'eip155:84532' // Base Sepolia
const routes = { '/api/weather': { accepts: { scheme: 'exact', network, payTo, price: '$0.01' } } } as const

// One for all requests of an isolate, and what it remembers (ledger, circuits, statistics) ends with the isolate. What
// timers do in Node.js, such as health checks, it does beside requests.
const aggregator = new FacilitatorAggregator({
  facilitators: [
    { id: 'first', url: process.env.FACILITATOR_1_URL ?? 'https://facilitator.x402.rs' },
    { id: 'second', url: process.env.FACILITATOR_2_URL ?? 'https://x402.org/facilitator' },
  ],
  // Asks the chain when a facilitator's answer to a settle is lost, so that no payment is.
  settlement: { probes: [evmSettlementProbe({ [network]: { rpcUrl } })] },
  // Finishes a settle whose buyer has hung up. Next.js knows the request.
  waitUntil: work => after(work),
})
// For who has STATUS_TOKEN, and for nobody without one.
const status = createStatusHandler(aggregator, { token: process.env.STATUS_TOKEN })

export function middleware(request: NextRequest) {
  // Not a route, which would have an aggregator of its own.
  if (request.nextUrl.pathname === '/api/facilitator-status') return status(request)
  // Both for each request, as they wait for the facilitators by a promise that may end with the request that began it,
  // for whoever waits for it in another. The aggregator remembers the answers, so that only a cold start waits.
  const resourceServer = new x402ResourceServer(aggregator).register(network, new ExactEvmScheme())
  return paymentProxy(routes, resourceServer)(request)
}
