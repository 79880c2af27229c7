/** A seller on Express that keeps selling when its first facilitator is dead. */
import { x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express from 'express'
import { FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { evmSettlementProbe } from 'x402-facilitator-aggregator/evm'

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
  logger: console,
  logLevel: 'warn',
})

const resourceServer = new x402ResourceServer(aggregator).register(network, new ExactEvmScheme())
aggregator.bindResourceServer(resourceServer)

const app = express()
app.use(
  paymentMiddleware(
    {
      'GET /weather': {
        accepts: { scheme: 'exact', network, payTo, price: '$0.01' },
        description: 'The weather of today',
      },
    },
    resourceServer,
  ),
)
app.get('/weather', (_request, response) => {
  response.json({ weather: 'sunny' })
})

const server = app.listen(Number(PORT), error => {
  if (error) throw error
  console.log(`listening on http://localhost:${PORT}`)
})
// Payments in hand are finished before the process ends.
process.once('SIGTERM', () => server.close(() => aggregator.stop()))
