/** A seller on version 1 of the protocol: `x402-express` knows facilitators by URL only, so it is given one. */
import express from 'express'
import { paymentMiddleware } from 'x402-express'
import { FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { evmSettlementProbe } from 'x402-facilitator-aggregator/evm'
import { createFacilitatorConfig } from 'x402-facilitator-aggregator/node'

const { PAY_TO: payTo, PORT = '4021', RPC_URL_84532: rpcUrl = 'https://sepolia.base.org' } = process.env
if (!payTo?.startsWith('0x')) throw new Error('Set PAY_TO to the address that gets the money.')

const aggregator = new FacilitatorAggregator({
  facilitators: [
    { id: 'first', url: process.env.FACILITATOR_1_URL ?? 'https://facilitator.x402.rs' },
    { id: 'second', url: process.env.FACILITATOR_2_URL ?? 'https://x402.org/facilitator' },
  ],
  // Version 1 middleware answers 402 to every error of a settle: with a probe there is no unknown outcome.
  settlement: { probes: [evmSettlementProbe({ 'eip155:84532': { rpcUrl } })] },
})
const facilitator = await createFacilitatorConfig(aggregator)

const app = express()
app.use(
  paymentMiddleware(
    payTo as `0x${string}`,
    { 'GET /weather': { price: '$0.01', network: 'base-sepolia' } },
    facilitator,
  ),
)
app.get('/weather', (_request, response) => {
  response.json({ weather: 'sunny' })
})

const server = app.listen(Number(PORT), error => {
  if (error) throw error
  console.log(`listening on http://localhost:${PORT}`)
})
process.once('SIGTERM', () => server.close(() => aggregator.stop()))
