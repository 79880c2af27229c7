/** A seller whose facilitators are named by environment variables alone: see .env.example. */
import { x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express from 'express'
import { aggregatorFromEnv } from 'x402-facilitator-aggregator/env'
import { createStatusHandler } from 'x402-facilitator-aggregator/http'

const { PAY_TO: payTo, PORT = '4021' } = process.env
if (!payTo) throw new Error('Set PAY_TO to the address that gets the money.')
const network = 'eip155:84532' // Base Sepolia

const aggregator = aggregatorFromEnv(process.env)
const resourceServer = new x402ResourceServer(aggregator).register(network, new ExactEvmScheme())
aggregator.bindResourceServer(resourceServer)
// For who has STATUS_TOKEN, and for nobody without one.
const status = createStatusHandler(aggregator, { token: process.env.STATUS_TOKEN })

const app = express()
app.use(
  paymentMiddleware(
    { 'GET /weather': { accepts: { scheme: 'exact', network, payTo, price: '$0.01' } } },
    resourceServer,
  ),
)
app.get('/weather', (_request, response) => {
  response.json({ weather: 'sunny' })
})
app.get('/api/facilitator-status', async (request, response) => {
  const headers = { authorization: request.get('authorization') ?? '' }
  const answer = await status(new Request(new URL(request.url, 'http://localhost'), { headers }))
  response.status(answer.status).json(await answer.json())
})

const server = app.listen(Number(PORT), error => {
  if (error) throw error
  console.log(`listening on http://localhost:${PORT}`)
})
process.once('SIGTERM', () => server.close(() => aggregator.stop()))
