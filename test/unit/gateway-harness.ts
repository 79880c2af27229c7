/** A gateway before two facilitators in the test's hand, and ways to ask it. */
import { afterEach, beforeEach, vi } from 'vitest'
import { createGateway, type GatewayOptions } from '../../src/http/index.ts'
import { type AggregatorOptions, FacilitatorAggregator } from '../../src/index.ts'
import { FakeFacilitator, payload, requirements } from './builders.ts'

export let a: FakeFacilitator
export let b: FakeFacilitator
/** Behind the gateway that was opened last. */
export let aggregator: FacilitatorAggregator

beforeEach(() => {
  a = new FakeFacilitator()
  b = new FakeFacilitator()
})
afterEach(async () => {
  vi.useRealTimers()
  await aggregator.stop({ inFlight: 'abort' })
})

export function open(options: GatewayOptions = {}, settings: Partial<AggregatorOptions> = {}) {
  aggregator = new FacilitatorAggregator({
    facilitators: [
      { id: 'a', client: a },
      { id: 'b', client: b },
    ],
    healthCheck: false,
    backoffMs: 0,
    ...settings,
  })
  return createGateway(aggregator, options)
}

export type Gateway = ReturnType<typeof open>

export async function ask(
  gateway: Gateway,
  method: string,
  path: string,
  init: RequestInit = {},
  env?: object,
) {
  const response = await gateway.fetch(new Request(`http://gateway.example${path}`, { method, ...init }), env)
  const text = await response.text()
  return {
    status: response.status,
    headers: response.headers,
    body: text === '' ? undefined : JSON.parse(text),
  }
}

export const json = { 'content-type': 'application/json' }
export const bearer = (token: string) => ({ authorization: `Bearer ${token}` })

export const get = (gateway: Gateway, path: string, headers: Record<string, string> = {}, env?: object) =>
  ask(gateway, 'GET', path, { headers }, env)
export const post = (
  gateway: Gateway,
  path: string,
  body: unknown,
  headers: Record<string, string> = {},
  env?: object,
) => {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  return ask(gateway, 'POST', path, { headers: { ...json, ...headers }, body: text }, env)
}

export const pay = (paymentPayload: object = payload(), paymentRequirements: object = requirements()) => ({
  x402Version: 2,
  paymentPayload,
  paymentRequirements,
})
export const payment = pay()
export const verify = (
  gateway: Gateway,
  body: unknown = payment,
  headers?: Record<string, string>,
  env?: object,
) => post(gateway, '/verify', body, headers, env)
export const settle = (
  gateway: Gateway,
  body: unknown = payment,
  headers?: Record<string, string>,
  env?: object,
) => post(gateway, '/settle', body, headers, env)
