/** What the fuzzers have found, each by itself. */
import { describe, expect, it } from 'vitest'
import { createGateway } from '../../src/http/index.ts'
import { FacilitatorAggregator, type FacilitatorClientLike } from '../../src/index.ts'
import { FakeFacilitator, payload, requirements, signature, supporting } from '../unit/builders.ts'
import { untyped } from '../untyped.ts'

function over(...clients: FacilitatorClientLike[]): FacilitatorAggregator {
  return new FacilitatorAggregator({
    facilitators: clients.map((client, index) => ({ id: `f${index}`, client })),
    healthCheck: false,
    retries: 0,
  })
}

/** Arrays in arrays. */
function nested(depth: number): unknown {
  return JSON.parse('['.repeat(depth) + ']'.repeat(depth))
}

function advertising(deep: unknown): FakeFacilitator {
  const [kind] = supporting().kinds
  return new FakeFacilitator({
    supportedAnswer: JSON.parse(JSON.stringify(supporting(untyped({ ...kind, extra: { deep } })))),
  })
}

describe('a facilitator that advertises arrays in arrays', () => {
  it.each([1_100, 2_000])('is not believed at a depth of %i, and the next one is', async depth => {
    const supported = await over(advertising(nested(depth)), new FakeFacilitator()).getSupported()
    expect(supported.kinds).toHaveLength(1)
    expect(supported.kinds[0]).not.toHaveProperty('extra.deep')
  })
})

it('what a client object adds to a kind of payment is not passed on', async () => {
  const [kind] = supporting().kinds
  const supported = await over(
    new FakeFacilitator({ supportedAnswer: supporting(untyped({ ...kind, deep: nested(20_000) })) }),
  ).getSupported()
  expect(supported.kinds).toEqual([kind])
})

describe('what a facilitator calls a transaction', () => {
  it.each([
    ['the signature', signature],
    ['credentials', 'Bearer t0ken-of-the-seller'],
    ['a list', ['Bearer t0ken-of-the-seller']],
  ])('is not shown when it is %s', async (_, transaction) => {
    const settleAnswer = JSON.parse(
      JSON.stringify({ success: false, errorReason: 'x', transaction, network: 'x' }),
    )
    const aggregator = over(new FakeFacilitator({ settleAnswer }))
    const events: unknown[] = []
    aggregator.on('settlement:indeterminate', event => events.push(event))
    const error = await aggregator
      .settle(payload(), requirements())
      .catch((thrown: Error) => ({ ...thrown, text: thrown.message }))
    const shown = JSON.stringify([error, events, await aggregator.getUnresolvedSettlements()])
    expect(shown).toContain('"transaction":"unreadable"')
    expect(shown).not.toContain('abababab')
    expect(shown).not.toContain('t0ken')
  })
})

describe('a payment of an unknown scheme that is nested too deep to be written', () => {
  it.each(['verify', 'settle'] as const)('is no payment: %s', async operation => {
    const facilitator = new FakeFacilitator()
    const terms = requirements({ scheme: 'newest' })
    const payment = payload({ accepted: terms, payload: { deep: nested(20_000) } })
    await expect(over(facilitator)[operation](payment, terms)).rejects.toMatchObject({
      code: 'INVALID_PAYMENT',
    })
    expect(facilitator.calls).toMatchObject({ verify: 0, settle: 0 })
  })
})

describe('lists in lists where a text or a number belongs', () => {
  it.each([
    [
      'the signature',
      payload({ payload: { ...payload().payload, signature: nested(20_000) } }),
      requirements(),
    ],
    ['the time', payload(), JSON.parse(`{"maxTimeoutSeconds":${'['.repeat(20_000)}${']'.repeat(20_000)}}`)],
  ])('are no payment: %s', async (_, payment, overrides) => {
    const settling = over(new FakeFacilitator()).settle(payment, { ...requirements(), ...overrides })
    await expect(settling).rejects.toMatchObject({ code: 'INVALID_PAYMENT' })
  })
})

describe('a caller who breaks off', () => {
  it.each(['/verify', '/settle', '/api/facilitator-status'])('is no fault of the gateway: %s', async path => {
    const gateway = createGateway(over(new FakeFacilitator()), {
      tokens: [{ token: 'secret', role: 'admin' }],
    })
    const body = new ReadableStream({
      pull(controller) {
        controller.error(new TypeError('terminated'))
      },
    })
    const headers = { authorization: 'Bearer secret', 'content-type': 'application/json' }
    const init: RequestInit & { duplex: 'half' } = { method: 'POST', body, headers, duplex: 'half' }
    const response = await gateway.fetch(new Request(`http://gateway.example${path}`, init))
    expect(response.status).toBe(400)
  })
})
