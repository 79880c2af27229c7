import express from 'express'
import { paymentMiddleware } from 'x402-express'
import { aggregatorFromEnv } from 'x402-facilitator-aggregator/env'
import { createFacilitatorConfig } from 'x402-facilitator-aggregator/node'

const payTo = '0x209693Bc6afc0C5328bA36FaF03C514EF312287C'
const aggregator = aggregatorFromEnv(process.env) // ENABLE_FACILITATOR_AGGREGATOR=true, RPC_URL_8453=…
const facilitator = await createFacilitatorConfig(aggregator)

const app = express()
app.use(paymentMiddleware(payTo, { 'GET /weather': { price: '$0.01', network: 'base' } }, facilitator))
app.get('/weather', (_request, response) => {
  response.json({ weather: 'sunny' })
})
app.listen(4021)
