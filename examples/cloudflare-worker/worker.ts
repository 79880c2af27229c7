/** A seller on Cloudflare Workers, whose facilitators are the variables of wrangler.jsonc. */
import { env, waitUntil } from 'cloudflare:workers'
import { x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/hono'
import { Hono } from 'hono'
import { durableObjectLedger } from 'x402-facilitator-aggregator/durable-object'
import { aggregatorFromEnv } from 'x402-facilitator-aggregator/env'
import { createStatusHandler } from 'x402-facilitator-aggregator/http'

/** Keeps the settlements: wrangler.jsonc binds it. */
export { SettlementLedgerObject } from 'x402-facilitator-aggregator/durable-object'

const { PAY_TO: payTo, SETTLEMENTS, ...variables } = env
if (!payTo) throw new Error('Set PAY_TO to the address that gets the money.')
const network = 'eip155:84532' // Base Sepolia
const routes = { 'GET /weather': { accepts: { scheme: 'exact', network, payTo, price: '$0.01' } } } as const

// One for all requests of an isolate. What it remembers of facilitators (circuits, statistics) ends with the isolate; the
// settlements are the object's, which all isolates share. It fetches nothing before the first request, and does beside
// requests what timers do in Node.js, such as health checks. By waitUntil it finishes a settle whose buyer has hung up.
const ledger = durableObjectLedger(SETTLEMENTS)
const aggregator = aggregatorFromEnv(variables, { waitUntil, settlement: { ledger } })
// For who has STATUS_TOKEN (`npx wrangler secret put STATUS_TOKEN`), and for nobody without one.
const status = createStatusHandler(aggregator, { token: variables.STATUS_TOKEN })

const app = new Hono()
app.use((context, next) => {
  // Both for each request, as they wait for the facilitators by a promise, and Workers end that with the request that
  // began it, for whoever waits for it in another: a 500. The aggregator remembers the answers, so that only a cold
  // start waits.
  const resourceServer = new x402ResourceServer(aggregator).register(network, new ExactEvmScheme())
  return paymentMiddleware(routes, resourceServer)(context, next)
})
app.get('/weather', context => context.json({ weather: 'sunny' }))
app.get('/api/facilitator-status', context => status(context.req.raw))

export default app
