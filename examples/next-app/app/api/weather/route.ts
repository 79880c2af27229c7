import { withX402 } from '@x402/next'
import { NextResponse } from 'next/server'
import { network, resourceServer } from '../../../lib/payments.ts'

const { PAY_TO: payTo } = process.env
if (!payTo) throw new Error('Set PAY_TO to the address that gets the money.')

export const GET = withX402(
  async () => NextResponse.json({ weather: 'sunny' }),
  { '/api/weather': { accepts: { scheme: 'exact', network, payTo, price: '$0.01' } } },
  resourceServer,
)
