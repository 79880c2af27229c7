/** Paid tools of MCP servers: a payment in doubt is not asked for again, and a lost result is delivered once more. */
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { Client } from '@modelcontextprotocol/sdk/client/index.js'
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js'
import { InMemoryTransport } from '@modelcontextprotocol/sdk/inMemory.js'
import { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import { StreamableHTTPServerTransport } from '@modelcontextprotocol/sdk/server/streamableHttp.js'
import type { Transport } from '@modelcontextprotocol/sdk/shared/transport.js'
import { type FacilitatorClient, x402ResourceServer } from '@x402/core/server'
import type { PaymentPayload } from '@x402/core/types'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { guardMcp, type McpGuard } from '../../src/delivery/index.ts'
import type { FacilitatorAggregator } from '../../src/index.ts'
import {
  callTool,
  handWrittenTool,
  type PaidTool,
  registerTool,
  requestedPayment,
  upstreamTool,
} from '../bed/mcp.ts'
import {
  aggregatorOf,
  FakeFacilitator,
  hash,
  httpError,
  network,
  newPayload,
  refusal,
  requirements,
  settled,
} from './builders.ts'

let facilitator: FakeFacilitator
let aggregator: FacilitatorAggregator
let guard: McpGuard
let ends: (() => unknown)[]

beforeEach(() => {
  facilitator = new FakeFacilitator()
  aggregator = aggregatorOf({ only: facilitator }, {}, { deadlineMs: { verify: 100 } })
  guard = guardMcp(aggregator)
  ends = [() => aggregator.stop({ inFlight: 'abort' })]
})
afterEach(async () => {
  for (const end of ends.reverse()) await end()
})

type Wrapper = (facilitator: FacilitatorClient) => Promise<PaidTool>

const wrappers: Record<string, Wrapper> = {
  "upstream's": async facilitator => {
    const seller = new x402ResourceServer(facilitator).register(network, new ExactEvmScheme())
    await seller.initialize()
    return upstreamTool(seller, [requirements()])
  },
  'written by hand': async facilitator => handWrittenTool(facilitator, [requirements()]),
}

const newServer = () => new McpServer({ name: 'shop', version: '1.0.0' })

async function connected(transport: Transport): Promise<Client> {
  const client = new Client({ name: 'buyer', version: '1.0.0' })
  await client.connect(transport)
  ends.push(() => client.close())
  return client
}

async function inMemory(wrap: Wrapper): Promise<Client> {
  const server = guard.protect(newServer())
  registerTool(server, await wrap(guard))
  const [near, far] = InMemoryTransport.createLinkedPair()
  await server.connect(far)
  return connected(near)
}

/** What the buyer is left with. */
async function buy(client: Client, payment?: PaymentPayload): Promise<string> {
  const result = await callTool(client, payment)
  if (requestedPayment(result) !== undefined) return 'asked to pay'
  return result.isError ? `${result.structuredContent?.code}` : 'goods'
}

/** Holds every settle until it is let go. */
function holdSettles(): () => void {
  let release = () => {}
  const held = new Promise<void>(resolve => {
    release = resolve
  })
  facilitator.settleAnswer = () => held.then(() => settled)
  return release
}

const settles = (count: number) => expect.poll(() => facilitator.calls.settle).toBe(count)

describe.each(Object.entries(wrappers))('a tool whose payment wrapper is %s', (_, wrap) => {
  it('is sold once for each payment', async () => {
    const client = await inMemory(wrap)
    const payment = newPayload()
    expect(await buy(client)).toBe('asked to pay')
    expect(await buy(client, payment)).toBe('goods')
    expect(await buy(client, payment)).toBe('asked to pay')
    expect(facilitator.calls.settle).toBe(1)
  })

  it('asks for another payment when a facilitator has rejected the first', async () => {
    const client = await inMemory(wrap)
    facilitator.verifyAnswer = { isValid: false, invalidReason: 'insufficient_funds' }
    expect(await buy(client, newPayload())).toBe('asked to pay')
  })

  it('says not to pay again when the payment may have been charged, and by which transaction', async () => {
    const client = await inMemory(wrap)
    facilitator.settleAnswer = refusal('unexpected_settle_error', hash)
    const result = await callTool(client, newPayload())
    expect(requestedPayment(result)).toBeUndefined()
    expect(result).toMatchObject({
      isError: true,
      content: [
        { text: expect.stringMatching(`may have been charged by transaction ${hash}\\. Do not pay again`) },
      ],
      structuredContent: { code: 'SETTLEMENT_INDETERMINATE', transaction: hash },
    })
    expect(JSON.stringify(result)).not.toContain('only')
  })

  it('says not to pay again when no facilitator answered', async () => {
    const client = await inMemory(wrap)
    facilitator.verifyAnswer = httpError(503)
    expect(await buy(client, newPayload())).toBe('ALL_FACILITATORS_FAILED')
  })

  it('says not to pay again while another call settles the payment, and delivers to that one', async () => {
    const client = await inMemory(wrap)
    const release = holdSettles()
    const payment = newPayload()
    const first = buy(client, payment)
    await settles(1)
    expect(await buy(client, payment)).toBe('SETTLEMENT_IN_PROGRESS')
    release()
    expect(await first).toBe('goods')
    expect(facilitator.calls.settle).toBe(1)
  })

  it('asks for payment again once the doubt about an earlier one is over', async () => {
    const client = await inMemory(wrap)
    const payment = newPayload()
    facilitator.settleAnswer = httpError(502)
    expect(await buy(client, payment)).toBe('SETTLEMENT_INDETERMINATE')
    facilitator.settleAnswer = refusal('invalid_exact_evm_nonce_already_used')
    facilitator.verifyAnswer = { isValid: false, invalidReason: 'insufficient_funds' }
    expect(await buy(client, newPayload())).toBe('asked to pay')
  })

  it('is delivered to the same payment once more when its call was cancelled meanwhile', async () => {
    const client = await inMemory(wrap)
    const release = holdSettles()
    const payment = newPayload()
    const leaving = new AbortController()
    const left = callTool(client, payment, { signal: leaving.signal })
    await settles(1)
    leaving.abort()
    await expect(left).rejects.toThrow()
    release()
    await expect.poll(() => buy(client, payment)).toBe('goods')
    expect(await buy(client, payment)).toBe('asked to pay')
    expect(facilitator.calls.settle).toBe(1)
  })

  it('is not delivered again for who repeats a payment that is being settled, and cancels', async () => {
    const [client, observer] = [await inMemory(wrap), await inMemory(wrap)]
    const release = holdSettles()
    const payment = newPayload()
    const honest = buy(client, payment)
    await settles(1)
    const leaving = new AbortController()
    const replayed = callTool(observer, payment, { signal: leaving.signal })
    leaving.abort()
    await expect(replayed).rejects.toThrow()
    release()
    expect(await honest).toBe('goods')
    expect(await buy(observer, payment)).toBe('asked to pay')
  })
})

describe('a paid tool over HTTP', () => {
  /** Calls whose clients have gone before their replies. */
  let gone = 0

  /** @param endsWithRequest whether the server is closed when its client has gone, as the SDK's examples do */
  async function listen(endsWithRequest: boolean): Promise<string> {
    const tool = await wrappers["upstream's"]?.(guard)
    const server = createServer(async (request, response) => {
      const shop = guard.protect(newServer())
      if (tool) registerTool(shop, tool)
      const transport = new StreamableHTTPServerTransport({ enableJsonResponse: endsWithRequest })
      response.on('close', () => {
        if (request.method === 'POST' && !response.writableFinished) gone++
        if (endsWithRequest) shop.close()
      })
      await shop.connect(transport as Transport)
      await transport.handleRequest(request, response)
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    ends.push(() => close(server))
    return `http://127.0.0.1:${(server.address() as AddressInfo).port}/`
  }

  function close(server: Server): Promise<unknown> {
    server.closeAllConnections()
    return new Promise(resolve => server.close(resolve))
  }

  it.each([
    ['and closes with its request', true],
    ['and outlives its request', false],
  ])(
    'that settles while its client hangs up, %s, is delivered to the same payment once more',
    async (_, endsWithRequest) => {
      const url = new URL(await listen(endsWithRequest))
      const hangingUp = new AbortController()
      const client = await connected(
        new StreamableHTTPClientTransport(url, {
          fetch: (input, init) => fetch(input, { ...init, signal: hangingUp.signal }),
        }) as Transport,
      )
      const release = holdSettles()
      const payment = newPayload()
      callTool(client, payment).catch(() => {})
      await settles(1)
      const before = gone
      hangingUp.abort()
      await expect.poll(() => gone).toBe(before + 1)
      release()
      const again = await connected(new StreamableHTTPClientTransport(url) as Transport)
      await expect.poll(() => buy(again, payment)).toBe('goods')
      expect(await buy(again, payment)).toBe('asked to pay')
      expect(facilitator.calls.settle).toBe(1)
    },
  )
})

describe('what cannot be protected', () => {
  it('is a server that has tools', () => {
    const server = newServer()
    registerTool(server, async () => ({ content: [] }))
    expect(() => guard.protect(server)).toThrow('before its first tool')
  })

  it('is anything but a server', () => {
    expect(() => guard.protect({})).toThrow('expected an McpServer')
  })
})
