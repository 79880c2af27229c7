/** Replies that do not reach their buyers, over real connections, in each framework. */
import { createServer, type RequestListener, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { serve } from '@hono/node-server'
import type { PaymentPayload } from '@x402/core/types'
import express from 'express'
import { Hono } from 'hono'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { trackDelivery } from '../../src/delivery/index.ts'
import type { FacilitatorAggregator } from '../../src/index.ts'
import { aggregatorOf, FakeFacilitator, hanging, newPayload, requirements, settled } from './builders.ts'

const encode = (value: unknown) => Buffer.from(JSON.stringify(value)).toString('base64')

let facilitator: FakeFacilitator
let aggregator: FacilitatorAggregator
/** What the shop's handler does once its payment has been settled, before the reply ends. */
let beforeReply: (socket: Socket) => unknown
let servers: { close(): unknown }[]
/** Called with each connection that the shop accepts. */
let sockets: Socket[]

beforeEach(() => {
  facilitator = new FakeFacilitator()
  aggregator = aggregatorOf({ only: facilitator }, {}, {})
  beforeReply = () => {}
  servers = []
  sockets = []
})
afterEach(async () => {
  for (const socket of sockets) socket.destroy()
  for (const server of servers) server.close()
  await aggregator.stop({ inFlight: 'abort' })
})

/** Settles the payment of a request as upstream's middleware does: its answer's status and headers. */
async function sell(header: unknown): Promise<{ status: number; headers: Record<string, string> }> {
  const payment = JSON.parse(Buffer.from(`${header}`, 'base64').toString()) as PaymentPayload
  const verified = await aggregator.verify(payment, payment.accepted)
  if (!verified.isValid) return { status: 402, headers: {} }
  const answer = await aggregator.settle(payment, payment.accepted)
  return { status: answer.success ? 200 : 402, headers: { 'PAYMENT-RESPONSE': encode(answer) } }
}

const goods = 'goods'.repeat(10)

type Shop = () => Promise<Server>

const listening = (server: Server): Promise<Server> =>
  new Promise(resolve => {
    servers.push(server)
    server.on('connection', socket => sockets.push(socket))
    server.listen(0, '127.0.0.1', () => resolve(server))
  })

const shops: Record<string, Shop> = {
  Express: () => {
    const app = express()
    app.use(trackDelivery(aggregator).express)
    app.get('/', async (request, response) => {
      const { status, headers } = await sell(request.header('payment-signature'))
      response.status(status).set(headers)
      await beforeReply(request.socket)
      response.end(goods)
    })
    return listening(createServer(app as RequestListener))
  },
  /** As Fastify does: its hooks get the request and the reply, and the headers are written at once. */
  Fastify: () => {
    const { fastify } = trackDelivery(aggregator)
    return listening(
      createServer(async (request, response) => {
        await fastify({ raw: request }, { raw: response })
        const { status, headers } = await sell(request.headers['payment-signature']).catch(() => ({
          status: 500,
          headers: {},
        }))
        await beforeReply(request.socket)
        response.writeHead(status, headers).end(goods)
      }),
    )
  },
  Hono: () => {
    const app = new Hono()
    app.use(trackDelivery(aggregator).hono)
    app.get('/', async context => {
      const { status, headers } = await sell(context.req.header('payment-signature'))
      const socket = (context.env as { incoming: { socket: Socket } }).incoming.socket
      await beforeReply(socket)
      return new Response(goods, { status, headers })
    })
    return new Promise(resolve => {
      const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () =>
        resolve(server as Server),
      )
      servers.push(server)
      server.on('connection', socket => sockets.push(socket))
    })
  },
}

const portOf = (server: Server) => (server.address() as AddressInfo).port

/** The status of the reply, or `none` when the connection ended before. */
function present(server: Server, payment: PaymentPayload): Promise<number | 'none'> {
  const headers = { 'payment-signature': encode(payment), connection: 'close' }
  return fetch(`http://127.0.0.1:${portOf(server)}/`, { headers }).then(
    async response => {
      await response.text()
      return response.status
    },
    () => 'none',
  )
}

/** Sends a request over a connection that the test ends. */
function presentAndWait(server: Server, payment: PaymentPayload): Socket {
  const socket = connect(portOf(server), '127.0.0.1')
  socket.on('error', () => {})
  socket.write(`GET / HTTP/1.1\r\nhost: shop\r\npayment-signature: ${encode(payment)}\r\n\r\n`)
  return socket
}

/** What a verify of the payment says now, or the code of what it throws. */
const verdict = (payment: PaymentPayload) =>
  aggregator.verify(payment, requirements()).then(
    ({ isValid }) => isValid,
    error => error.code,
  )

describe.each(Object.entries(shops))('a reply of %s', (_framework, open) => {
  it('that reaches the buyer ends the matter: the payment buys nothing more', async () => {
    const server = await open()
    const payment = newPayload()
    expect(await present(server, payment)).toBe(200)
    expect(await present(server, payment)).toBe(402)
    expect(facilitator.calls.settle).toBe(1)
  })

  it('that is cut off after the settle is made again for the same payment, once, at no charge', async () => {
    const server = await open()
    const payment = newPayload()
    beforeReply = socket => socket.destroy()
    expect(await present(server, payment)).toBe('none')
    await expect.poll(() => verdict(payment)).toBe(true)
    expect(await present(server, payment)).toBe('none')
    beforeReply = () => {}
    await expect.poll(() => verdict(payment)).toBe(false)
    expect(await present(server, payment)).toBe(402)
    expect(facilitator.calls.settle).toBe(1)
  })

  it('that nobody waits for any more is made again, though the payment was still being settled', async () => {
    const server = await open()
    const payment = newPayload()
    let answer = (_: typeof settled) => {}
    facilitator.settleAnswer = () =>
      new Promise(resolve => {
        answer = resolve
      })
    const abandoned = presentAndWait(server, payment)
    await expect.poll(() => facilitator.calls.settle).toBe(1)
    const noticed = new Promise(resolve => sockets.at(-1)?.once('close', resolve))
    abandoned.destroy()
    await noticed
    answer(settled)
    await expect.poll(() => verdict(payment)).toBe(true)
    expect(await present(server, payment)).toBe(200)
    expect(facilitator.calls.settle).toBe(1)
  })

  it('is not made again for who replays a delivered payment, and hangs up', async () => {
    const server = await open()
    const payment = newPayload()
    expect(await present(server, payment)).toBe(200)
    for (let i = 0; i < 2; i++) {
      beforeReply = socket => socket.destroy()
      expect(await present(server, payment)).toBe('none')
    }
    beforeReply = () => {}
    expect(await present(server, payment)).toBe(402)
    expect(facilitator.calls.settle).toBe(1)
  })

  it('is not made again for who repeats a payment while it is settled, and hangs up', async () => {
    const server = await open()
    const payment = newPayload()
    let answer = (_: typeof settled) => {}
    facilitator.settleAnswer = () =>
      new Promise(resolve => {
        answer = resolve
      })
    const honest = present(server, payment)
    await expect.poll(() => facilitator.calls.settle).toBe(1)
    const observed = presentAndWait(server, payment)
    await expect.poll(() => sockets.length).toBe(2)
    const noticed = new Promise(resolve => sockets.at(-1)?.once('close', resolve))
    observed.destroy()
    await noticed
    answer(settled)
    expect(await honest).toBe(200)
    expect(await present(server, payment)).toBe(402)
  })

  it('is none to a request whose payment cannot be read', async () => {
    const server = await open()
    for (const header of [
      '%',
      encode(null),
      encode({ x402Version: 2 }),
      encode(newPayload({ payload: {} })),
    ]) {
      const headers = { 'payment-signature': header, connection: 'close' }
      const reply = await fetch(`http://127.0.0.1:${portOf(server)}/`, { headers }).catch(() => undefined)
      expect(reply?.status ?? 500).toBeGreaterThanOrEqual(200)
    }
    expect(await present(server, newPayload())).toBe(200)
  })
})

describe('a reply of the web standard', () => {
  const respondTo = (body: BodyInit | null) =>
    trackDelivery(aggregator).fetch(async (request: Request) => {
      const { status, headers } = await sell(request.headers.get('payment-signature'))
      return new Response(body, { status, headers })
    })
  const requestFor = (payment: PaymentPayload, init: RequestInit = {}) =>
    new Request('http://shop.example/', { headers: { 'payment-signature': encode(payment) }, ...init })

  it('whose body is read to its end was delivered', async () => {
    const payment = newPayload()
    const response = await respondTo(goods)(requestFor(payment))
    expect(await response.text()).toBe(goods)
    expect(await verdict(payment)).toBe(false)
  })

  it('whose body is cancelled was lost', async () => {
    const payment = newPayload()
    const response = await respondTo(goods)(requestFor(payment))
    await response.body?.cancel()
    await expect.poll(() => verdict(payment)).toBe(true)
  })

  it('whose body fails was lost', async () => {
    const payment = newPayload()
    const failing = new ReadableStream({ pull: controller => controller.error(new Error('no more')) })
    const response = await respondTo(failing)(requestFor(payment))
    await expect(response.text()).rejects.toThrow('no more')
    await expect.poll(() => verdict(payment)).toBe(true)
  })

  it('of Hono, outside of Node, is followed too', async () => {
    const app = new Hono()
    app.use(trackDelivery(aggregator).hono)
    app.get('/', async context => {
      const { status, headers } = await sell(context.req.header('payment-signature'))
      return new Response(goods, { status, headers })
    })
    const [read, cancelled] = [newPayload(), newPayload()]
    const response = await app.fetch(requestFor(read))
    expect(response.headers.get('payment-response')).not.toBeNull()
    expect(await response.text()).toBe(goods)
    await (await app.fetch(requestFor(cancelled))).body?.cancel()
    await expect.poll(() => verdict(cancelled)).toBe(true)
    expect(await verdict(read)).toBe(false)
  })

  it('without a body was delivered', async () => {
    const payment = newPayload()
    await respondTo(null)(requestFor(payment))
    expect(await verdict(payment)).toBe(false)
  })

  it('to a request that was aborted meanwhile was lost', async () => {
    const payment = newPayload()
    const aborting = new AbortController()
    facilitator.settleAnswer = () => {
      aborting.abort()
      return settled
    }
    await respondTo(goods)(requestFor(payment, { signal: aborting.signal }))
    await expect.poll(() => verdict(payment)).toBe(true)
  })

  it('to a request that is aborted before its body was read to its end was lost', async () => {
    const payment = newPayload()
    const aborting = new AbortController()
    const response = await respondTo(goods)(requestFor(payment, { signal: aborting.signal }))
    aborting.abort()
    await response.text()
    await expect.poll(() => verdict(payment)).toBe(true)
  })

  it('whose handler throws is none, and the error is passed on', async () => {
    const handler = trackDelivery(aggregator).fetch(() => {
      throw new Error('out of stock')
    })
    await expect(handler(requestFor(newPayload()))).rejects.toThrow('out of stock')
  })

  it('is left as it is where there is no payment', async () => {
    const answer = new Response(goods)
    const handler = trackDelivery(aggregator).fetch(() => answer)
    expect(await handler(new Request('http://shop.example/'))).toBe(answer)
  })

  it('to a payment that is never settled is awaited by nobody', async () => {
    facilitator.settleAnswer = hanging
    const aborting = new AbortController()
    const payment = newPayload()
    const answer = respondTo(goods)(requestFor(payment, { signal: aborting.signal }))
    answer.catch(() => {})
    await expect.poll(() => facilitator.calls.settle).toBe(1)
    aborting.abort()
    await aggregator.stop({ inFlight: 'abort' })
    await expect(answer).rejects.toMatchObject({ code: 'SETTLEMENT_INDETERMINATE' })
  })
})
