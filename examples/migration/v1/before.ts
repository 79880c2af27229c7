import express from 'express'
import { paymentMiddleware } from 'x402-express'

const payTo = '0x209693Bc6afc0C5328bA36FaF03C514EF312287C'
const facilitator = { url: 'https://facilitator.x402.rs' } as const

const app = express()
app.use(paymentMiddleware(payTo, { 'GET /weather': { price: '$0.01', network: 'base' } }, facilitator))
app.get('/weather', (_request, response) => {
  response.json({ weather: 'sunny' })
})
app.listen(4021)
