import { expect, it, vi } from 'vitest'
import type { FacilitatorAggregator } from '../../src/index.ts'
import {
  aggregatorOf,
  FakeFacilitator,
  newPayload,
  outcome,
  payloadV1,
  refusal,
  requirements,
  requirementsV1,
  settled,
} from '../unit/builders.ts'

const forged = 'eip155:1\n2026-01-01 [error] the shop was sold\u001b[2J'
type Terms = ReturnType<typeof requirements>

it.each([
  ['a network with a line break', { network: forged }],
  ['a network of a megabyte', { network: `eip155:${'1'.repeat(1_000_000)}` }],
  ['a network without a namespace', { network: ':1' }],
  ['a network that stands for many', { network: 'eip155:*' }],
  ['a scheme with a line break', { scheme: 'exact\nsold' }],
  ['a scheme of a megabyte', { scheme: 'e'.repeat(1_000_000) }],
  ['a token of a megabyte', { asset: `0x${'1'.repeat(1_000_000)}` }],
  ['a payee with an escape sequence', { payTo: 'me\u001b[2J' }],
  ['an amount of a megabyte', { amount: '1'.repeat(1_000_000) }],
  ['an amount with a line break', { scheme: 'unknown', amount: '1\n2' }],
])('a payment on %s is refused before anything of it is kept', async (_, terms) => {
  const a = new FakeFacilitator()
  const aggregator = aggregatorOf({ a }, {}, {})
  for (const operation of ['verify', 'settle'] as const) {
    const paying: Promise<unknown> = aggregator[operation](
      newPayload(),
      requirements(terms as Partial<Terms>),
    )
    await expect(paying).rejects.toMatchObject({
      code: 'INVALID_PAYMENT',
      path: expect.stringMatching(/^paymentRequirements\.\w+$/),
    })
  }
  const kept = JSON.stringify([aggregator.getHealthStatus(), aggregator.getRecentLogs()])
  expect(kept.length).toBeLessThan(1_000)
  expect(a.calls).toMatchObject({ verify: 0, settle: 0 })
})

it.each(['base', 'polygon', 'a-chain-of-tomorrow', 'eip155:8453'])(
  'a payment of protocol version 1 on %s goes on to a facilitator',
  async name => {
    const a = new FakeFacilitator()
    const network = name as ReturnType<typeof requirementsV1>['network']
    await aggregatorOf({ a }, {}, {}).verify({ ...payloadV1(), network }, requirementsV1({ network }))
    expect(a.calls.verify).toBe(1)
  },
)

it('a payment on Algorand, whose reference is a hash in base64, goes on to a facilitator', async () => {
  const a = new FakeFacilitator()
  const network = 'algorand:wGHE2Pwdvd7S12BL5FaOP20EGYesN73ktiC1qzkkit8='
  await aggregatorOf({ a }, {}, {}).verify(newPayload(), requirements({ network }))
  expect(a.calls.verify).toBe(1)
})

it('a field of a buyer with a name of a megabyte makes no error of a megabyte', async () => {
  const name = 'n'.repeat(1_000_000)
  const payment = newPayload()
  Object.assign(payment.payload, { [name]: 1, [name.toUpperCase()]: 2 })
  const thrown = await aggregatorOf({ a: new FakeFacilitator() }, {}, {})
    .verify(payment, requirements())
    .catch((error: Error) => error)
  expect((thrown as Error).message.length).toBeLessThan(500)
})

const controls = /[\p{Cc}\p{Cf}\p{Cs}\u2028\u2029]/u

it('no control character of a facilitator reaches the log, an event, the console or an error', async () => {
  const evil = 'no\u001b[2J\u0007\u0000\u009b31m\u202e\u2028such\r\n[error] sold\ud800'
  const answers = [
    { verifyAnswer: { isValid: false, invalidReason: evil, invalidMessage: evil } },
    { verifyAnswer: new Error(evil) },
    { settleAnswer: refusal(evil, evil) },
    { settleAnswer: { ...settled, transaction: evil } },
    { settleAnswer: new Error(evil) },
    { settleAnswer: refusal('settlement_pending', evil) },
  ]
  const lines: string[] = []
  const write = (text: unknown) => lines.push(String(text))
  const logger = { debug: write, info: write, warn: write, error: write }
  for (const one of answers) {
    const a = new FakeFacilitator({ supportedAnswer: new Error(evil) })
    Object.assign(a, one)
    const probes = [
      { supports: () => true, ask: async () => ({ state: 'cannot-tell', reason: evil }) as const },
    ]
    const options = { logger, logLevel: 'debug', deadlineMs: { settle: 100 } } as const
    const aggregator = aggregatorOf({ a }, { probes, audit: 'always' }, options)
    for (const event of [
      'attempt',
      'failover',
      'settlement:indeterminate',
      'facilitator:quarantined',
    ] as const)
      aggregator.on(event, data =>
        lines.push(
          JSON.stringify(data).replaceAll(/\\u([\da-f]{4})/g, (_, code) =>
            String.fromCharCode(Number.parseInt(code, 16)),
          ),
        ),
      )
    await aggregator.getSupported().catch(() => {})
    await aggregator
      .verify(newPayload(), requirements())
      .catch(error => lines.push(...error.message.split('\n')))
    await aggregator
      .settle(newPayload(), requirements())
      .catch(error => lines.push(...error.message.split('\n')))
  }
  expect(lines.length).toBeGreaterThan(10)
  expect(lines.filter(line => controls.test(line))).toEqual([])
})

it('what a facilitator says in a megabyte is not kept whole behind the 200 letters that the log shows', async () => {
  const a = new FakeFacilitator()
  let index = 0
  a.verifyAnswer = () => ({
    isValid: false,
    invalidReason: JSON.parse(`"${++index}${'.,'.repeat(250_000)}"`),
  })
  const aggregator = aggregatorOf({ a }, {}, {})
  const heapMiB = await heap()
  const before = heapMiB()
  for (let round = 0; round < 100; round++) await aggregator.verify(newPayload(), requirements())
  // They weigh 48 MiB together.
  expect(heapMiB() - before).toBeLessThan(10)
  expect(aggregator.getRecentLogs().length).toBeGreaterThanOrEqual(100)
})

async function heap(): Promise<() => number> {
  const { setFlagsFromString } = await import('node:v8')
  const { runInNewContext } = await import('node:vm')
  setFlagsFromString('--expose-gc')
  const gc: () => void = runInNewContext('gc')
  return () => {
    gc()
    return process.memoryUsage().heapUsed / 1024 / 1024
  }
}

it('1,500 networks leave no more in the status than a few hundred', async () => {
  vi.useRealTimers()
  const a = new FakeFacilitator()
  const aggregator: FacilitatorAggregator = aggregatorOf({ a }, {}, {})
  for (let index = 0; index < 1_500; index++)
    await outcome(aggregator.settle(newPayload(), requirements({ network: `eip155:${index}` })))
  expect(aggregator.getHealthStatus().facilitators[0]?.lanes.length).toBeLessThanOrEqual(256)
})
