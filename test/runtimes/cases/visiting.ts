import type { Payment } from '../bed.ts'
import type { Env } from '../case.ts'
import { equal } from '../expect.ts'

/** Has a gateway verify or settle. */
export function pay<T>(
  { visit }: Env,
  operation: 'verify' | 'settle',
  payment: Payment,
  init?: RequestInit,
): Promise<T> {
  const { payload, requirements } = payment
  const body = JSON.stringify({
    x402Version: payload.x402Version,
    paymentPayload: payload,
    paymentRequirements: requirements,
  })
  const headers = { 'content-type': 'application/json', ...init?.headers }
  return read(visit(`/${operation}`, { method: 'POST', body, ...init, headers }))
}

export async function read<T>(visited: Promise<Response>): Promise<T> {
  const response = await visited
  const text = await response.text()
  equal(response.status, 200, `the status of ${text}`)
  return JSON.parse(text)
}
