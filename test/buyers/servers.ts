/** Sellers, each with the server that he has, and the aggregator behind it. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type RequestListener, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { type FacilitatorClient, x402ResourceServer } from '@x402/core/server'
import type { PaymentRequirements } from '@x402/core/types'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware as expressPayments } from '@x402/express'
import { paymentMiddleware as honoPayments } from '@x402/hono'
import express, { type Express } from 'express'
import { Hono } from 'hono'
import type { Address } from 'viem'
import { guardMcp, trackDelivery } from '../../src/delivery/index.ts'
import { createGateway } from '../../src/http/index.ts'
import type { FacilitatorAggregator } from '../../src/index.ts'
import { createFacilitatorConfig, listen } from '../../src/node/index.ts'
import type { Chain } from '../bed/chain.ts'
import { registerTool, upstreamTool } from '../bed/mcp.ts'
import { price } from '../bed/seller.ts'
import { here, load, type RouteV1 } from './packages.ts'

export interface ServerBed {
  readonly chain: Chain
  readonly aggregator: FacilitatorAggregator
  readonly payTo: Address
  /** Whether connections end in the place of replies with goods. */
  isCut(): boolean
}

export interface Shop {
  readonly url: string
  /** Ends it at once, with its connections. */
  kill(): Promise<unknown>
}

/** Replicas of one shop sell the same thing. */
const resource = 'https://shop.example/goods'
const goods = { goods: 'delivered' }

function resourceServer({ chain }: ServerBed, facilitator: FacilitatorClient): x402ResourceServer {
  return new x402ResourceServer(facilitator).register(chain.network, new ExactEvmScheme())
}

function route({ chain, payTo }: ServerBed) {
  const { address: asset, name, version } = chain.token
  const accepts = {
    scheme: 'exact',
    network: chain.network,
    payTo,
    price: { asset, amount: `${price}`, extra: { name, version } },
  }
  return { accepts, resource, description: 'goods' }
}

function routeV1({ chain }: ServerBed): RouteV1 {
  const { address, name, version } = chain.token
  const asset = { address, decimals: 6, eip712: { name, version } }
  return { price: { amount: `${price}`, asset }, network: 'base-sepolia', config: { resource } }
}

async function open(listener: RequestListener): Promise<Shop> {
  const server = createServer(listener)
  // A connection that is closed while idle, just as it is used again, is none of the faults under test.
  server.keepAliveTimeout = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/goods`, kill: () => end(server) }
}

function end(server: Server): Promise<unknown> {
  server.closeAllConnections()
  return new Promise(resolve => server.close(resolve))
}

/** The connection ends just before a reply with goods would be written. */
function cutReplies({ isCut }: ServerBed, response: ServerResponse): void {
  const end = response.end.bind(response) as (...body: unknown[]) => ServerResponse
  response.end = (...body: unknown[]) => {
    if (isCut() && response.statusCode === 200) response.socket?.destroy()
    return end(...body)
  }
}

function expressShop(bed: ServerBed, pay: (app: Express) => void): Promise<Shop> {
  const app = express()
  app.use(trackDelivery(bed.aggregator).express)
  app.use((_request, response, next) => {
    cutReplies(bed, response)
    next()
  })
  pay(app)
  app.get('/goods', (_request, response) => {
    response.json(goods)
  })
  return open(app as RequestListener)
}

interface NodeBindings {
  readonly Bindings: { readonly incoming: { readonly socket: Socket } }
}

function honoShop(bed: ServerBed, pay: (app: Hono<NodeBindings>) => void): Promise<Shop> {
  const app = new Hono<NodeBindings>()
  app.use(trackDelivery(bed.aggregator).hono)
  app.use(async (context, next) => {
    await next()
    if (bed.isCut() && context.res.status === 200) context.env.incoming.socket.destroy()
  })
  pay(app)
  app.get('/goods', context => context.json(goods))
  return open(getRequestListener(app.fetch as Parameters<typeof getRequestListener>[0]))
}

/** The connection ends while the body is sent. */
function cutBody(socket: Socket): ReadableStream<Uint8Array> {
  return new ReadableStream({
    async pull(controller) {
      socket.destroy()
      if (!socket.closed) await once(socket, 'close')
      controller.enqueue(new Uint8Array(1))
    },
  })
}

export const servers = {
  '@x402/express': (bed: ServerBed) =>
    expressShop(bed, app =>
      app.use(expressPayments({ 'GET /goods': route(bed) }, resourceServer(bed, bed.aggregator))),
    ),

  '@x402/hono': (bed: ServerBed) =>
    honoShop(bed, app =>
      app.use(honoPayments({ 'GET /goods': route(bed) }, resourceServer(bed, bed.aggregator))),
    ),

  /** A route's handler, without the rest of Next. */
  async '@x402/next'(bed: ServerBed): Promise<Shop> {
    const [{ withX402 }, { NextRequest, NextResponse }] = await Promise.all([
      load('@x402/next'),
      load('next/server.js'),
    ])
    const seller = resourceServer(bed, bed.aggregator)
    await seller.initialize()
    const paid = withX402(async () => NextResponse.json(goods), route(bed), seller)
    const sockets = new WeakMap<Request, Socket>()
    const handler = trackDelivery(bed.aggregator).fetch(async (request: Request) => {
      const response = await paid(new NextRequest(request.url, { headers: request.headers }))
      const socket = sockets.get(request)
      if (bed.isCut() && response.status === 200 && socket) return new Response(cutBody(socket), response)
      return response
    })
    return open(
      getRequestListener((request, { incoming }) => {
        sockets.set(request, incoming.socket as Socket)
        return handler(request)
      }),
    )
  },

  async 'x402-express'(bed: ServerBed): Promise<Shop> {
    const { paymentMiddleware } = await load('x402-express')
    const facilitator = await createFacilitatorConfig(bed.aggregator)
    return expressShop(bed, app =>
      app.use(paymentMiddleware(bed.payTo, { 'GET /goods': routeV1(bed) }, facilitator)),
    )
  },

  async 'x402-hono'(bed: ServerBed): Promise<Shop> {
    const { paymentMiddleware } = await load('x402-hono')
    const facilitator = await createFacilitatorConfig(bed.aggregator)
    return honoShop(bed, app =>
      app.use(paymentMiddleware(bed.payTo, { 'GET /goods': routeV1(bed) }, facilitator)),
    )
  },

  async 'Python, by the gateway'(bed: ServerBed): Promise<Shop> {
    const { chain, aggregator, payTo } = bed
    const gateway = await listen(createGateway(aggregator), { port: 0 })
    const { address: asset, name, version } = chain.token
    const requirements = {
      scheme: 'exact',
      network: chain.network,
      asset,
      amount: `${price}`,
      payTo,
      maxTimeoutSeconds: 300,
      extra: { name, version },
    }
    const seller = spawn('python3', [`${here}seller.py`], {
      env: {
        ...process.env,
        GATEWAY_URL: gateway.url,
        REQUIREMENTS: JSON.stringify(requirements),
        RESOURCE: resource,
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    seller.stdin.write(bed.isCut() ? 'cut\n' : 'heal\n')
    let isCut = bed.isCut()
    const watch = setInterval(() => {
      if (isCut === bed.isCut()) return
      isCut = !isCut
      seller.stdin.write(isCut ? 'cut\n' : 'heal\n')
    }, 20)
    const kill = async () => {
      clearInterval(watch)
      seller.kill('SIGKILL')
      gateway.cut()
      await gateway.close()
    }
    const [line] = (await once(seller.stdout, 'data')) as [Buffer]
    return { url: `${line}`.replace('listening on ', '').trim(), kill }
  },

  /** Stateful, as a call is cancelled by another request. */
  async MCP(bed: ServerBed): Promise<Shop> {
    const { chain, aggregator, payTo, isCut } = bed
    const guard = guardMcp(aggregator)
    const seller = resourceServer(bed, guard)
    await seller.initialize()
    const accepts = (await seller.buildPaymentRequirements({
      ...route(bed).accepts,
      payTo,
      network: chain.network,
    })) as PaymentRequirements[]
    const sold = upstreamTool(seller, accepts)
    const sessions = new Map<string, StreamableHTTPServerTransport>()
    return open(async (request, response) => {
      const known = sessions.get(`${request.headers['mcp-session-id']}`)
      if (known) return known.handleRequest(request, response)
      const server = guard.protect(new McpServer({ name: 'shop', version: '1.0.0' }))
      const transport: StreamableHTTPServerTransport = new StreamableHTTPServerTransport({
        sessionIdGenerator: () => crypto.randomUUID(),
        onsessioninitialized: id => {
          sessions.set(id, transport)
        },
      })
      registerTool(server, async payment => {
        const result = await sold(payment)
        if (isCut() && !result.isError) await server.close()
        return result
      })
      await server.connect(transport as Transport)
      return transport.handleRequest(request, response)
    })
  },
} satisfies Record<string, (bed: ServerBed) => Promise<Shop>>

export type ServerName = keyof typeof servers
