/** A seller on Hono, with the state of its facilitators at /api/facilitator-status for who has STATUS_TOKEN. */
import { serve } from '@hono/node-server'
import { x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/hono'
import { Hono } from 'hono'
import { FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { evmSettlementProbe } from 'x402-facilitator-aggregator/evm'
import { createStatusHandler } from 'x402-facilitator-aggregator/http'

const { PAY_TO: payTo, PORT = '4021', RPC_URL_84532: rpcUrl = 'https://sepolia.base.org' } = process.env
if (!payTo) throw new Error('Set PAY_TO to the address that gets the money.')
const network = 'eip155:84532' // Base Sepolia

const aggregator = new FacilitatorAggregator({
  facilitators: [
    { id: 'first', url: process.env.FACILITATOR_1_URL ?? 'https://facilitator.x402.rs' },
    { id: 'second', url: process.env.FACILITATOR_2_URL ?? 'https://x402.org/facilitator' },
  ],
  // Asks the chain when a facilitator's answer to a settle is lost, so that no payment is.
  settlement: { probes: [evmSettlementProbe({ [network]: { rpcUrl } })] },
})

const resourceServer = new x402ResourceServer(aggregator).register(network, new ExactEvmScheme())
aggregator.bindResourceServer(resourceServer)
const status = createStatusHandler(aggregator, { token: process.env.STATUS_TOKEN })

const app = new Hono()
app.use(
  paymentMiddleware(
    { 'GET /weather': { accepts: { scheme: 'exact', network, payTo, price: '$0.01' } } },
    resourceServer,
  ),
)
app.get('/weather', context => context.json({ weather: 'sunny' }))
app.get('/api/facilitator-status', context => status(context.req.raw))

const server = serve({ fetch: app.fetch, port: Number(PORT) }, () =>
  console.log(`listening on http://localhost:${PORT}`),
)
process.once('SIGTERM', () => server.close(() => aggregator.stop()))
