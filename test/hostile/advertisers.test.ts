import { expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../src/index.ts'
import {
  aggregatorOf,
  FakeFacilitator,
  kind,
  newPayload,
  outcome,
  refused,
  requirements,
  supporting,
} from '../unit/builders.ts'
import { medianMs } from './measure.ts'

/** Everything that `facilitator` advertises has been asked for. */
async function poolOf(clients: Readonly<Record<string, FakeFacilitator>>): Promise<FacilitatorAggregator> {
  const aggregator = aggregatorOf(clients, {}, {})
  await aggregator.getSupported()
  return aggregator
}

const chains = (count: number) =>
  Array.from({ length: count }, (_, index) => kind({ network: `eip155:${index + 1}` }))

it('a facilitator that advertises 4,000 kinds makes no getSupported() longer than a few parsings of its answer', async () => {
  const answer = supporting(
    ...chains(4_000).map(one => ({ ...one, extra: { name: 'USD Coin', version: '2' } })),
  )
  const text = JSON.stringify(answer)
  const hostile = new FakeFacilitator({ supportedAnswer: () => JSON.parse(text) })
  const aggregator = await poolOf({ hostile, b: new FakeFacilitator(), c: new FakeFacilitator() })
  const parsing = await medianMs(() => JSON.parse(text))
  expect((await medianMs(() => aggregator.getSupported())) / parsing).toBeLessThan(10)
  expect((await medianMs(() => aggregator.checkHealth('hostile'))) / parsing).toBeLessThan(30)
})

it('what one facilitator advertises beyond 256 kinds is left out, and the others lose nothing', async () => {
  const hostile = new FakeFacilitator({ supportedAnswer: supporting(...chains(4_000)) })
  const honest = new FakeFacilitator({ supportedAnswer: supporting(kind({ scheme: 'upto' })) })
  const { kinds } = await (await poolOf({ hostile, honest })).getSupported()
  expect(kinds).toHaveLength(257)
  expect(kinds.at(-1)?.scheme).toBe('upto')
})

it('a kind with an extra that is nested deep, or of many kilobytes, is not advertised, and its neighbour is', async () => {
  let deep: unknown = 'x'
  for (let depth = 0; depth < 20_000; depth++) deep = [deep]
  const extras = [{ deep }, { long: 'x'.repeat(100_000) }, { feePayer: 'x' }]
  const answer = supporting(...extras.map((extra, index) => kind({ network: `eip155:${index + 1}`, extra })))
  const aggregator = await poolOf({ hostile: new FakeFacilitator({ supportedAnswer: answer }) })
  expect((await aggregator.getSupported()).kinds).toEqual([answer.kinds[2]])
})

it('an extra whose arrays are nested thirty deep is compared without writing it out 2^30 characters long', async () => {
  let nested: unknown = '"'
  for (let depth = 0; depth < 30; depth++) nested = [nested]
  const answer = supporting(kind({ extra: { nested } }))
  const aggregator = await poolOf({ hostile: new FakeFacilitator({ supportedAnswer: answer }) })
  expect((await aggregator.getSupported()).kinds).toEqual(answer.kinds)
}, 5_000)

it('names that no network and no scheme can have are not advertised', async () => {
  const answer = supporting(
    kind({ network: 'eip155:1\n[error] forged' as `${string}:${string}` }),
    kind({ network: `eip155:${'1'.repeat(100_000)}` }),
    kind({ scheme: 'exact\u001b[2J' }),
    kind({ network: 'eip155:*1*1*1*1' }),
    kind({ network: 'solana:*' }),
    kind(),
  )
  const aggregator = await poolOf({ hostile: new FakeFacilitator({ supportedAnswer: answer }) })
  expect((await aggregator.getSupported()).kinds).toEqual(answer.kinds.slice(4))
})

it('thousands of signers, extensions and families of them are left out', async () => {
  const names = Array.from({ length: 5_000 }, (_, index) => `0x${index.toString(16).padStart(40, '0')}`)
  const families = Object.fromEntries(names.map(name => [name, names.slice(0, 2)]))
  const hostile = new FakeFacilitator({
    supportedAnswer: { kinds: [kind()], extensions: names, signers: { ...families, 'eip155:*': names } },
  })
  expect(JSON.stringify(await (await poolOf({ hostile })).getSupported()).length).toBeLessThan(100_000)
})

it('300 advertised kinds make no lanes: they cannot push out the open circuit of a real one', async () => {
  const a = new FakeFacilitator({ verifyAnswer: refused() })
  const hostile = new FakeFacilitator({ supportedAnswer: supporting(...chains(300)) })
  const aggregator = await poolOf({ hostile, a })
  for (let round = 0; round < 3; round++) await outcome(aggregator.settle(newPayload(), requirements()))
  await aggregator.getSupported()
  for (const { lanes } of aggregator.getHealthStatus().facilitators) expect(lanes.length).toBeLessThan(4)
})

const open = (aggregator: FacilitatorAggregator, network: string) =>
  aggregator
    .getHealthStatus()
    .facilitators[0]?.lanes.some(lane => lane.network === network && lane.circuit === 'open')

it('payments on 1,500 other networks do not push out the open circuit of a real lane', async () => {
  const a = new FakeFacilitator({ verifyAnswer: refused(), supportedAnswer: refused() })
  const aggregator = aggregatorOf(
    { a },
    {},
    { retries: 0, healthCheck: { intervalMs: 100_000 }, autoStart: false },
  )
  const verify = (network: `${string}:${string}`) =>
    aggregator.verify(newPayload(), requirements({ network })).catch(() => {})
  for (let round = 0; round < 3; round++) await verify('eip155:8453')
  expect(open(aggregator, 'eip155:8453')).toBe(true)
  for (let chain = 1; chain <= 1_500; chain++) await verify(`eip155:${chain * 1_000_000}`)
  expect(open(aggregator, 'eip155:8453')).toBe(true)
  expect(JSON.stringify(aggregator.getHealthStatus()).length).toBeLessThan(100_000)
})

it('the lanes of payments that a facilitator turned out not to support are forgotten when it says what it does', async () => {
  const a = new FakeFacilitator({ verifyAnswer: refused(), supportedAnswer: refused() })
  const aggregator = aggregatorOf({ a }, {}, { retries: 0 })
  for (let chain = 1; chain <= 300; chain++)
    await aggregator.verify(newPayload(), requirements({ network: `eip155:${chain}` })).catch(() => {})
  a.supportedAnswer = supporting()
  await aggregator.checkHealth()
  for (let round = 0; round < 3; round++)
    await aggregator.verify(newPayload(), requirements()).catch(() => {})
  expect(open(aggregator, requirements().network)).toBe(true)
})

const hostileSigner = (names: string[]) =>
  new FakeFacilitator({
    supportedAnswer: { kinds: [kind()], extensions: [], signers: { 'eip155:*': names } },
  })

it('a facilitator that lists the name and the version of a token as its signers captures no payment', async () => {
  const hostile = hostileSigner(['USDC', '2', 'usdc'])
  const a = new FakeFacilitator()
  const aggregator = await poolOf({ a, hostile })
  await aggregator.settle(newPayload(), requirements())
  expect([a.calls.settle, hostile.calls.settle]).toEqual([1, 0])
})

it('a facilitator that lists the contract of a token as its signer stops no sale when it is disabled', async () => {
  const verifyingContract = requirements().asset
  const hostile = hostileSigner([verifyingContract])
  const a = new FakeFacilitator()
  const aggregator = await poolOf({ a, hostile })
  aggregator.setFacilitatorEnabled('hostile', false)
  const terms = requirements({ extra: { verifyingContract } })
  expect(await outcome(aggregator.settle(newPayload(), terms))).toBe('success')
  expect(a.calls.settle).toBe(1)
})

it('an extension that only a disabled facilitator advertises stops no sale', async () => {
  const hostile = new FakeFacilitator({
    supportedAnswer: { kinds: [kind()], extensions: ['payment-identifier'], signers: {} },
  })
  const a = new FakeFacilitator()
  const aggregator = await poolOf({ a, hostile })
  const payment = newPayload({ extensions: { 'payment-identifier': {} } })
  aggregator.setFacilitatorEnabled('hostile', false)
  expect(await outcome(aggregator.settle(payment, requirements()))).toBe('success')
})

it('a payment made for a facilitator that was disabled is not sent to another one', async () => {
  const feePayer = '0x3333333333333333333333333333333333333333'
  const bound = hostileSigner([feePayer])
  const a = new FakeFacilitator()
  const aggregator = await poolOf({ a, bound })
  aggregator.setFacilitatorEnabled('bound', false)
  const settling = aggregator.settle(newPayload(), requirements({ extra: { feePayer } }))
  expect(await outcome(settling)).toBe('NO_ELIGIBLE_FACILITATOR')
  expect(a.calls.settle).toBe(0)
})

it('a facilitator that advertises kinds, and neither extensions nor signers, is read all the same', async () => {
  const { kinds } = supporting()
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'a', url: 'https://a.example', fetch: async () => Response.json({ kinds }) }],
    healthCheck: false,
  })
  expect(await aggregator.getSupported()).toEqual({ kinds, extensions: [], signers: {} })
})
