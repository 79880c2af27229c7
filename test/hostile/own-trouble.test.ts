import { expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../src/index.ts'
import { aggregatorOf, FakeFacilitator, newPayload, outcome, requirements, valid } from '../unit/builders.ts'

/** What `fetch` throws when this process can open no more. */
function ownTrouble(code: string): Error {
  const cause = Object.assign(new Error(`connect ${code}`), { code, syscall: 'connect' })
  return new TypeError('fetch failed', { cause })
}

const lanesOf = (aggregator: FacilitatorAggregator, operation: string) =>
  aggregator
    .getHealthStatus()
    .facilitators.flatMap(({ lanes }) => lanes.filter(lane => lane.operation === operation))

it.each(['EMFILE', 'ENFILE', 'ENOBUFS', 'ENOMEM', 'EADDRNOTAVAIL'])(
  'this process being out of descriptors, buffers or ports (%s) counts against no circuit, and nothing was sent',
  async code => {
    const a = new FakeFacilitator({ verifyAnswer: ownTrouble(code), settleAnswer: ownTrouble(code) })
    const aggregator = aggregatorOf({ a }, {}, { retries: 0 })
    for (let round = 0; round < 5; round++) {
      await aggregator.verify(newPayload(), requirements()).catch(() => {})
      expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('ALL_FACILITATORS_FAILED')
    }
    for (const operation of ['verify', 'settle'])
      expect(lanesOf(aggregator, operation)).toMatchObject([{ circuit: 'closed', consecutiveFailures: 0 }])
    expect(aggregator.getHealthStatus().summary.unhealthy).toBe(0)
  },
)

/** Keeps the event loop busy for so long (ms). */
function block(ms: number): void {
  const end = performance.now() + ms
  while (performance.now() < end);
}

it('a facilitator whose answer could not be read in time, as this process was busy, is not blamed for it', async () => {
  const answersNever = () =>
    new Promise<never>(() => {
      // Behind the timer of the attempt.
      setTimeout(() => block(400), 20)
    })
  const a = new FakeFacilitator({ verifyAnswer: answersNever })
  const aggregator = aggregatorOf({ a }, {}, { retries: 0, timeoutMs: 100, deadlineMs: { verify: 1_000 } })
  for (let round = 0; round < 4; round++)
    await aggregator.verify(newPayload(), requirements()).catch(() => {})
  expect(lanesOf(aggregator, 'verify')).toMatchObject([{ circuit: 'closed', consecutiveFailures: 0 }])
})

it('an answer that lies there when a late timer rings is taken, rather than given up', async () => {
  const { createServer } = await import('node:http')
  const server = createServer((request, response) => {
    request.resume()
    response.setHeader('content-type', 'application/json').end(JSON.stringify(valid))
    // The answer is on its way when the loop stands still past the attempt's end.
    block(500)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'a', url: `http://127.0.0.1:${port}` }],
    healthCheck: false,
    retries: 0,
    timeoutMs: 200,
  })
  try {
    expect(await aggregator.verify(newPayload(), requirements())).toMatchObject({ isValid: true })
  } finally {
    server.closeAllConnections()
    server.close()
  }
})

it('a facilitator that is silent while this process is well is still found out', async () => {
  const a = new FakeFacilitator({ verifyAnswer: () => new Promise<never>(() => {}) })
  const aggregator = aggregatorOf({ a }, {}, { retries: 0, timeoutMs: 100, deadlineMs: { verify: 1_000 } })
  // A loaded machine may be late in some of them.
  for (let round = 0; round < 30; round++) {
    await aggregator.verify(newPayload(), requirements()).catch(() => {})
    if (lanesOf(aggregator, 'verify')[0]?.circuit === 'open') return
  }
  expect.fail('its circuit never opened')
})
