/** Purchases that their buyers have named: the same name with the same content is one purchase, and one reply. */
import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import type { PaymentPayload } from '@x402/core/types'
import { appendPaymentIdentifierToExtensions, declarePaymentIdentifierExtension } from '@x402/extensions'
import express from 'express'
import { Hono } from 'hono'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import {
  identifyPayments,
  MemoryReplyStore,
  type ReplyStore,
  trackDelivery,
} from '../../src/delivery/index.ts'
import type { FacilitatorAggregator } from '../../src/index.ts'
import { aggregatorOf, FakeFacilitator, httpError, newPayload, requirements, settled } from './builders.ts'

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64')

let facilitator: FakeFacilitator
let aggregator: FacilitatorAggregator
let store: ReplyStore
/** How often the goods were made. */
let made: number
let goods: string
/** Whether the connections end in the place of replies with goods. */
let isCut: boolean
let servers: { close(): unknown }[]

beforeEach(() => {
  facilitator = new FakeFacilitator()
  aggregator = aggregatorOf({ only: facilitator })
  store = new MemoryReplyStore()
  made = 0
  goods = 'goods'
  isCut = false
  servers = []
})
afterEach(async () => {
  for (const server of servers) server.close()
  await aggregator.stop({ inFlight: 'abort' })
})

async function sell(header: unknown): Promise<{ status: number; headers: Record<string, string> }> {
  const payment = JSON.parse(Buffer.from(`${header}`, 'base64').toString()) as PaymentPayload
  try {
    if (!(await aggregator.verify(payment, payment.accepted)).isValid) return { status: 402, headers: {} }
    const answer = await aggregator.settle(payment, payment.accepted)
    made++
    return {
      status: answer.success ? 200 : 402,
      headers: { 'PAYMENT-RESPONSE': encode(answer), 'x-made': `${made}` },
    }
  } catch {
    return { status: 502, headers: {} }
  }
}

const listening = (server: Server): Promise<string> =>
  new Promise(resolve => {
    servers.push(server)
    server.listen(0, '127.0.0.1', () => resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}`))
  })

const shops: Record<string, () => Promise<string>> = {
  Express: () => {
    const app = express()
    app.use(express.json())
    app.use(identifyPayments(aggregator, { store }).express)
    app.use(trackDelivery(aggregator).express)
    app.use(async (request, response) => {
      const { status, headers } = await sell(request.header('payment-signature'))
      if (isCut) request.socket.destroy()
      response.status(status).set(headers)
      response.write(goods.slice(0, 2))
      response.end(goods.slice(2))
    })
    return listening(createServer(app as RequestListener))
  },
  Hono: () => {
    const app = new Hono()
    app.use(identifyPayments(aggregator, { store }).hono)
    app.use(trackDelivery(aggregator).hono)
    app.all('*', async context => {
      await context.req.text()
      const { status, headers } = await sell(context.req.header('payment-signature'))
      if (isCut) (context.env as { incoming: { socket: { destroy(): void } } }).incoming.socket.destroy()
      return new Response(goods, { status, headers })
    })
    return new Promise(resolve => {
      const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, ({ port }) =>
        resolve(`http://127.0.0.1:${port}`),
      )
      servers.push(server)
    })
  },
}

const id = 'pay_7d5d747be160e280504c099d984bcfe0'

/** As upstream's client names a payment. */
function named(payment: PaymentPayload, name = id): PaymentPayload {
  const extensions = { 'payment-identifier': structuredClone(declarePaymentIdentifierExtension()) }
  return { ...payment, extensions: appendPaymentIdentifierToExtensions(extensions, name) }
}

function from(payer: string): PaymentPayload {
  const payment = newPayload()
  const authorization = { ...(payment.payload.authorization as object), from: payer }
  return { ...payment, payload: { ...payment.payload, authorization } }
}

async function buy(url: string, payment: PaymentPayload, init: RequestInit = {}) {
  const headers = { 'payment-signature': encode(payment), connection: 'close', ...init.headers }
  try {
    const response = await fetch(url, { ...init, headers })
    const body = await response.text()
    return { status: response.status, body, made: response.headers.get('x-made') }
  } catch {
    return { status: 'none' as const }
  }
}

const first = { status: 200, body: 'goods', made: '1' }
const status = async (bought: ReturnType<typeof buy>) => (await bought).status

describe.each(Object.entries(shops))('a purchase that its buyer has named, at %s', (_framework, open) => {
  it('gets the same reply when its payment is presented again', async () => {
    const url = await open()
    const payment = named(newPayload())
    expect(await buy(url, payment)).toEqual(first)
    expect(await buy(url, payment)).toEqual(first)
    expect([facilitator.calls.settle, made]).toEqual([1, 1])
  })

  it('gets the same reply when its buyer has signed anew, and is charged once', async () => {
    const url = await open()
    expect(await buy(url, named(newPayload()))).toEqual(first)
    expect(await buy(url, named(newPayload()))).toEqual(first)
    expect([facilitator.calls.settle, made]).toEqual([1, 1])
  })

  it('is a conflict for a new signature that no facilitator finds valid', async () => {
    const url = await open()
    await buy(url, named(newPayload()))
    facilitator.verifyAnswer = { isValid: false, invalidReason: 'invalid_exact_evm_signature' }
    expect(await status(buy(url, named(newPayload())))).toBe(409)
  })

  it('is a conflict for another payer, another address, another method and another body', async () => {
    const url = await open()
    const post = (body: string) => ({ method: 'POST', body, headers: { 'content-type': 'application/json' } })
    expect(await buy(url, named(newPayload()), post('{"for":"one"}'))).toEqual(first)
    const other = { ...requirements(), amount: '20000' }
    expect(
      await Promise.all([
        status(buy(url, named(from('0x3333333333333333333333333333333333333333')), post('{"for":"one"}'))),
        status(buy(url, named(newPayload({ accepted: other })), post('{"for":"one"}'))),
        status(buy(`${url}/other`, named(newPayload()), post('{"for":"one"}'))),
        status(buy(url, named(newPayload()), post('{"for":"another"}'))),
        status(buy(url, named(newPayload()))),
      ]),
    ).toEqual([409, 409, 409, 409, 409])
    expect(facilitator.calls.settle).toBe(1)
    expect(await buy(url, named(newPayload()), post('{"for":"one"}'))).toEqual(first)
  })

  it('is another purchase under another name', async () => {
    const url = await open()
    expect(await buy(url, named(newPayload()))).toEqual(first)
    expect(await buy(url, named(newPayload(), `${id}_2`))).toEqual({ ...first, made: '2' })
  })

  it('waits for its own end when it is made twice at once', async () => {
    const url = await open()
    let answer = (_: typeof settled) => {}
    facilitator.settleAnswer = () =>
      new Promise(resolve => {
        answer = resolve
      })
    const both = [buy(url, named(newPayload())), buy(url, named(newPayload()))]
    await expect.poll(() => facilitator.calls.settle).toBe(1)
    answer(settled)
    expect(await Promise.all(both)).toEqual([first, first])
    expect(facilitator.calls.settle).toBe(1)
  })

  it('goes on after an end that decided nothing', async () => {
    const url = await open()
    facilitator.verifyAnswer = httpError(503)
    expect(await status(buy(url, named(newPayload())))).toBe(502)
    facilitator.verifyAnswer = { isValid: true }
    expect(await buy(url, named(newPayload()))).toEqual(first)
  })

  it('is delivered by its charge when the reply was lost, and repeats that reply afterwards', async () => {
    const url = await open()
    const payment = named(newPayload())
    isCut = true
    expect(await status(buy(url, payment))).toBe('none')
    isCut = false
    await expect.poll(() => status(buy(url, payment))).toBe(200)
    expect(await buy(url, payment)).toEqual({ ...first, made: '2' })
    expect(await buy(url, named(newPayload()))).toEqual({ ...first, made: '2' })
    expect(facilitator.calls.settle).toBe(1)
  })

  it('is not charged again when its reply is too long to be kept', async () => {
    const url = await open()
    goods = 'g'.repeat(300_000)
    expect(await status(buy(url, named(newPayload())))).toBe(200)
    expect(await status(buy(url, named(newPayload())))).toBe(409)
    expect(facilitator.calls.settle).toBe(1)
  })

  it('is refused, and not charged, while the store does not answer', async () => {
    store = { get: async () => Promise.reject(new Error('store down')), set: async () => {} }
    const url = await open()
    expect(await status(buy(url, named(newPayload())))).toBe(503)
    expect(facilitator.calls.settle).toBe(0)
  })

  it('is delivered though its reply cannot be kept', async () => {
    store = { get: async () => undefined, set: async () => Promise.reject(new Error('store down')) }
    const url = await open()
    expect(await buy(url, named(newPayload()))).toEqual(first)
  })

  it('gets the same reply at another replica that shares the store', async () => {
    const urls = await Promise.all([open(), open()])
    const payment = named(newPayload())
    expect(await buy(urls[0], payment)).toEqual(first)
    expect(await buy(urls[1], payment)).toEqual(first)
  })

  it.each([
    ['no name', newPayload()],
    ['a name that is too short', named(newPayload(), id)],
  ])('is like any other with %s', async (_, payment) => {
    const short = structuredClone(payment)
    const declared = short.extensions?.['payment-identifier'] as { info: { id: string } } | undefined
    if (declared) declared.info.id = 'pay_1'
    const url = await open()
    expect(await buy(url, short)).toEqual(first)
    expect(await status(buy(url, short))).toBe(402)
  })
})

describe('a purchase that its buyer has named, where a Request is answered with a Response', () => {
  const shop = () =>
    identifyPayments(aggregator, { store }).fetch(async (request: Request) => {
      const { status, headers } = await sell(request.headers.get('payment-signature'))
      return new Response(goods, { status, headers })
    })
  const requestFor = (payment: PaymentPayload) =>
    new Request('http://shop.example/', { headers: { 'payment-signature': encode(payment) } })

  it('gets the same reply once the first was read to its end', async () => {
    const handler = shop()
    expect(await (await handler(requestFor(named(newPayload())))).text()).toBe('goods')
    const again = await handler(requestFor(named(newPayload())))
    expect([again.headers.get('x-made'), await again.text(), made]).toEqual(['1', 'goods', 1])
  })

  it('goes on where it stands when the first reply was not read to its end', async () => {
    const handler = shop()
    await (await handler(requestFor(named(newPayload())))).body?.cancel()
    expect((await handler(requestFor(named(newPayload())))).headers.get('x-made')).toBe('2')
  })

  it('goes on after a handler that throws', async () => {
    let isBroken = true
    const handler = identifyPayments(aggregator).fetch(() => {
      if (isBroken) throw new Error('out of stock')
      return new Response(goods)
    })
    await expect(handler(requestFor(named(newPayload())))).rejects.toThrow('out of stock')
    isBroken = false
    expect((await handler(requestFor(named(newPayload())))).status).toBe(200)
  })

  it('is left as it is without a payment', async () => {
    const answer = new Response(goods)
    const handler = identifyPayments(aggregator).fetch(() => answer)
    expect(await handler(new Request('http://shop.example/'))).toBe(answer)
  })
})

describe('the replies that are kept in memory', () => {
  it('are forgotten, the oldest first, when they are too many', async () => {
    const kept = new MemoryReplyStore()
    const text = 'x'.repeat(10_000_000)
    for (const name of ['first', 'second', 'third', 'fourth']) await kept.set(name, text, 60_000)
    expect(await kept.get('first')).toBeUndefined()
    expect(await kept.get('fourth')).toBe(text)
  })

  it('are forgotten when their time is over', async () => {
    const kept = new MemoryReplyStore()
    await kept.set('first', 'text', -1)
    expect(await kept.get('first')).toBeUndefined()
  })

  it('are kept for a time above 0', () => {
    expect(() => identifyPayments(aggregator, { keepMs: 0 })).toThrow(TypeError)
  })
})
