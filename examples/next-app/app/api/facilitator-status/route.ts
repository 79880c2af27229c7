import { createStatusHandler } from 'x402-facilitator-aggregator/http'
import { aggregator } from '../../../lib/payments.ts'

/** GET, and POST (check-health, enable, disable, close-settlement), are for who has STATUS_TOKEN, and for nobody without one. */
const handler = createStatusHandler(aggregator, { token: process.env.STATUS_TOKEN })

export { handler as GET, handler as POST }
