/** A seller that knows one facilitator only, the gateway, through upstream's own client. */
import { HTTPFacilitatorClient, x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express from 'express'

const { PAY_TO: payTo, PORT = '4021', GATEWAY_URL: url = 'http://127.0.0.1:4020' } = process.env
if (!payTo) throw new Error('Set PAY_TO to the address that gets the money.')
const network = 'eip155:84532' // Base Sepolia

const headers = { Authorization: `Bearer ${process.env.FACILITATOR_GATEWAY_TOKEN ?? 'secret'}` }
const gateway = new HTTPFacilitatorClient({
  url,
  createAuthHeaders: async () => ({ verify: headers, settle: headers, supported: headers }),
})
const resourceServer = new x402ResourceServer(gateway).register(network, new ExactEvmScheme())

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

app.listen(Number(PORT), error => {
  if (error) throw error
  console.log(`listening on http://localhost:${PORT}`)
})
