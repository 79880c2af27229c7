import { x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express from 'express'
import { FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { known } from 'x402-facilitator-aggregator/known'

const payTo = '0x209693Bc6afc0C5328bA36FaF03C514EF312287C'
const facilitator = new FacilitatorAggregator({ facilitators: [known('x402-rs'), known('payai')] })
const resourceServer = new x402ResourceServer(facilitator).register('eip155:8453', new ExactEvmScheme())

const app = express()
app.use(
  paymentMiddleware(
    { 'GET /weather': { accepts: { scheme: 'exact', network: 'eip155:8453', payTo, price: '$0.01' } } },
    resourceServer,
  ),
)
app.get('/weather', (_request, response) => {
  response.json({ weather: 'sunny' })
})
app.listen(4021)
