/** Faults found by attacking the library with what facilitators, buyers and clocks do to one settlement. */
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { FacilitatorClient } from '@x402/core/server'
import { HTTPFacilitatorClient, x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { paymentMiddleware } from '@x402/express'
import express from 'express'
import { afterEach, describe, expect, it, onTestFinished, vi } from 'vitest'
import { createGateway } from '../../../src/http/index.ts'
import { MemoryLedger, type ProbeAnswer } from '../../../src/index.ts'
import { listen } from '../../../src/node/index.ts'
import {
  aggregatorOf,
  FakeFacilitator,
  kind,
  network,
  newPayload,
  outcome,
  paid,
  payer,
  payload,
  probeOf,
  refusal,
  requirements,
  settled,
  supporting,
  unspent,
} from '../builders.ts'
import { settleBy } from './harness.ts'

afterEach(() => {
  vi.useRealTimers()
})

/** The status that a buyer gets from upstream's Express middleware. */
async function buyFrom(facilitator: FacilitatorClient): Promise<number> {
  const accepted = requirements({ payTo: '0x2222222222222222222222222222222222222222' })
  const { asset, amount, payTo, extra } = accepted
  const app = express()
  app.use(
    paymentMiddleware(
      {
        'GET /goods': {
          accepts: { scheme: 'exact', network: network, payTo, price: { asset, amount, extra } },
          description: 'goods',
        },
      },
      new x402ResourceServer(facilitator).register(network, new ExactEvmScheme()),
    ),
  )
  app.get('/goods', (_request, response) => {
    response.json({ goods: 'delivered' })
  })
  const server = app.listen(0, '127.0.0.1')
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise(resolve => server.once('listening', resolve))
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}/goods`
  const offer = await fetch(url)
  const required = JSON.parse(atob(offer.headers.get('payment-required') ?? ''))
  const signed = { ...newPayload(), accepted: required.accepts[0], resource: required.resource }
  const headers = { 'payment-signature': btoa(JSON.stringify(signed)) }
  return (await fetch(url, { headers })).status
}

describe('a buyer who was charged is not asked to pay again', () => {
  it('when an in-process facilitator answers with a bigint', async () => {
    const client = new FakeFacilitator({ settleAnswer: { ...settled, extra: { gasUsed: 21_000n } } })
    const aggregator = aggregatorOf({ client }, {}, {})
    expect(await buyFrom(aggregator)).toBe(200)
  })

  it('when a facilitator answers with an extra nested 20,000 deep', async () => {
    const extra = `${'{"a":'.repeat(20_000)}1${'}'.repeat(20_000)}`
    const client = new FakeFacilitator({ settleAnswer: { ...settled, extra: JSON.parse(extra) } })
    const aggregator = aggregatorOf({ client }, {}, {})
    expect(await buyFrom(aggregator)).toBe(200)
  })

  it("when a facilitator's header of extension responses is almost as long as a client takes", async () => {
    const facilitator = createServer((request, response) => {
      const answers: Record<string, object> = {
        '/supported': supporting(),
        '/verify': { isValid: true, payer },
        '/settle': settled,
      }
      request.resume()
      if (request.url === '/settle')
        response.setHeader('extension-responses', btoa(JSON.stringify({ text: 'x'.repeat(11_900) })))
      response.setHeader('content-type', 'application/json')
      response.end(JSON.stringify(answers[request.url ?? '']))
    })
    await new Promise<void>(resolve => facilitator.listen(0, '127.0.0.1', resolve))
    const url = `http://127.0.0.1:${(facilitator.address() as AddressInfo).port}`
    const { FacilitatorAggregator } = await import('../../../src/index.ts')
    const aggregator = new FacilitatorAggregator({ facilitators: [{ id: 'a', url }], healthCheck: false })
    const gateway = await listen(createGateway(aggregator), { port: 0 })
    onTestFinished(async () => {
      gateway.cut()
      await gateway.close()
      facilitator.closeAllConnections()
      facilitator.close()
    })
    // Without a gateway in between, upstream's client takes it.
    expect(await buyFrom(new HTTPFacilitatorClient({ url }))).toBe(200)
    expect(await buyFrom(new HTTPFacilitatorClient({ url: gateway.url }))).toBe(200)
  })
})

it('the gateway hands on the success of a client that leaves its error reason null', async () => {
  const client = new FakeFacilitator({
    settleAnswer: { ...settled, ...JSON.parse('{ "errorReason": null }') },
  })
  const gateway = createGateway(aggregatorOf({ client }, {}, {}))
  const body = JSON.stringify({
    x402Version: 2,
    paymentPayload: newPayload(),
    paymentRequirements: requirements(),
  })
  const headers = { 'content-type': 'application/json' }
  const request = new Request('http://gateway.example/settle', { method: 'POST', headers, body })
  const response = await gateway.fetch(request)
  expect(await response.json()).toMatchObject({ success: true })
})

it('a field that facilitators ignore does not deliver one transaction of another chain twice', async () => {
  // It broadcasts the transaction, which is there already, and answers with its hash again, as nodes do.
  const client = new FakeFacilitator({ supportedAnswer: supporting(kind({ network: 'aptos:1' })) })
  const aggregator = aggregatorOf({ client }, {}, {})
  const accepted = requirements({ network: 'aptos:1', extra: {} })
  const pay = (content: Record<string, unknown>) =>
    outcome(aggregator.settle(payload({ accepted, payload: content }), accepted))
  const outcomes = await Promise.all([
    pay({ transaction: 'dHJhbnNhY3Rpb24=' }),
    pay({ transaction: 'dHJhbnNhY3Rpb24=', note: 1 }),
  ])
  expect(outcomes.filter(one => one === 'success')).toHaveLength(1)
})

describe("when the process's clock is behind the chain's by 15 s, and blocks take 12 s", () => {
  it('a payment is not called uncharged that lands in the next block after a denial', async () => {
    vi.useFakeTimers()
    const startedAt = Date.now()
    // Blocks are made at 0 s, 12 s, 24 s; by the chain's clock, which is right.
    const chainNow = () => startedAt + (Date.now() - startedAt) + 15_000
    const head = () => startedAt + 15_000 + Math.floor((chainNow() - startedAt - 15_000) / 12_000) * 12_000
    let broadcastAt = Number.POSITIVE_INFINITY
    const probe = probeOf((): ProbeAnswer => {
      const at = head() / 1000
      return head() > broadcastAt ? { ...paid, minedAt: at, asOf: at } : { state: 'unspent', asOf: at }
    })
    const client = new FakeFacilitator({
      settleAnswer: () => {
        broadcastAt = chainNow()
        return refusal('failed_to_execute_transfer')
      },
    })
    const aggregator = aggregatorOf({ client }, { probes: [probe] }, { retries: 0 })
    await vi.advanceTimersByTimeAsync(1_000)
    expect(await settleBy(aggregator)).toBe('success')
  })
})

it('a ledger does not keep a megabyte that a facilitator calls a transaction', async () => {
  const ledger = new MemoryLedger()
  const client = new FakeFacilitator({ settleAnswer: { ...settled, transaction: 'x'.repeat(1_000_000) } })
  const aggregator = aggregatorOf({ client }, { ledger }, {})
  const signed = newPayload()
  await aggregator.settle(signed, requirements())
  const { nonce } = signed.payload.authorization as { nonce: string }
  const entry = await ledger.get(`eip3009|${network}|${requirements().asset.toLowerCase()}|${payer}|${nonce}`)
  expect(JSON.stringify(entry).length).toBeLessThan(10_000)
})

it('a payment is not called uncharged whose facilitator charged, redirected within its origin and died', async () => {
  let isCharged = false
  const facilitator = createServer((request, response) => {
    request.resume()
    if (request.url === '/settle') {
      isCharged = true
      // No more connections from here on; this one ends with its answer.
      facilitator.close()
      return response.writeHead(307, { location: '/settle/again', connection: 'close' }).end()
    }
    return response.end(JSON.stringify(supporting()))
  })
  await new Promise<void>(resolve => facilitator.listen(0, '127.0.0.1', resolve))
  const url = `http://127.0.0.1:${(facilitator.address() as AddressInfo).port}`
  const { FacilitatorAggregator } = await import('../../../src/index.ts')
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'a', url }],
    healthCheck: false,
    settlement: { probes: [probeOf(() => (isCharged ? paid : unspent))] },
  })
  const result = await outcome(aggregator.settle(newPayload(), requirements()))
  expect(isCharged).toBe(true)
  expect(result).toBe('success')
})
