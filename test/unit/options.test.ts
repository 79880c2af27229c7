import { describe, expect, it } from 'vitest'
import {
  FacilitatorAggregator,
  InvalidOptionsError,
  InvalidPaymentError,
  MemoryLedger,
  type SettlementOptions,
} from '../../src/index.ts'
import { untyped } from '../untyped.ts'
import { FakeFacilitator, payload, payloadV1, requirements, requirementsV1 } from './builders.ts'

const client = new FakeFacilitator()

function problems(options: unknown): readonly string[] {
  try {
    new FacilitatorAggregator(untyped(options))
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidOptionsError)
    return (error as InvalidOptionsError).problems
  }
  return []
}
const withFacilitator = (facilitator: object) => problems({ facilitators: [{ id: 'payai', ...facilitator }] })

describe('wrong options are refused at construction, with the option and the facilitator named', () => {
  it.each([undefined, {}, { facilitators: [] }, { facilitators: 'a' }])('no facilitators: %j', options => {
    expect(problems(options)).toEqual(['facilitators: expected a list of at least one facilitator'])
  })

  it('duplicate ids', () => {
    expect(
      problems({
        facilitators: [
          { id: 'a', client },
          { id: 'a', client },
        ],
      }),
    ).toEqual(['facilitators[1] "a".id is not unique'])
  })

  it.each([
    ['ftp://x.example', 'is not of https:// or http://'],
    ['x.example', 'is not a URL'],
    [42, 'is not a URL'],
    ['https://x.example?key=1', 'has a query or a fragment'],
  ])('a url that cannot be one: %s', (url, problem) => {
    expect(withFacilitator({ url })).toEqual([`facilitators[0] "payai".url ${problem}`])
  })

  it('a url with credentials, which are not repeated', () => {
    const [problem] = withFacilitator({ url: 'https://me:hunter2@x.example' })
    expect(problem).toContain('facilitators[0] "payai".url carries credentials')
    expect(problem).not.toContain('hunter2')
  })

  it('neither url nor client, or both', () => {
    expect(withFacilitator({})).toEqual([
      'facilitators[0] "payai".url is missing: give a url or a client; known of /known makes public ones',
    ])
    expect(withFacilitator({ url: 'https://x.example', client })).toEqual([
      'facilitators[0] "payai".client is given beside url: give a url or a client; known of /known makes public ones',
    ])
  })

  it('a client that is none, and headers beside a client', () => {
    expect(withFacilitator({ client: { verify() {} } })[0]).toContain(
      'facilitators[0] "payai".client: expected a facilitator client',
    )
    expect(withFacilitator({ client, createAuthHeaders: () => ({}) })[0]).toContain(
      'createAuthHeaders goes with url',
    )
  })

  it.each([-1, 0, 1.5, Number.NaN, Number.POSITIVE_INFINITY, '5s', 2 ** 31])('a time of %s', timeoutMs => {
    expect(withFacilitator({ client, timeoutMs })[0]).toContain(
      'facilitators[0] "payai".timeoutMs: expected milliseconds, a whole number from 1',
    )
    expect(problems({ facilitators: [{ id: 'a', client }], timeoutMs: { settle: timeoutMs } })[0]).toContain(
      'timeoutMs.settle: expected milliseconds',
    )
  })

  it.each([
    [{ retries: -1 }, 'retries: expected a whole number from 0, got -1'],
    [{ deadlineMs: -5 }, 'deadlineMs: expected milliseconds, a whole number from 100, got -5'],
    [{ strategy: 'random' }, "strategy: expected 'priority' or 'latency' or 'weighted'"],
    [{ whenAllUnhealthy: 'panic' }, "whenAllUnhealthy: expected 'try' or 'refuse'"],
    [
      { healthCheck: { intervalMs: -1 } },
      'healthCheck.intervalMs: expected milliseconds, a whole number from 1, got -1',
    ],
    [{ healthCheck: true }, 'healthCheck: expected an object'],
    [{ logger: {} }, 'logger: expected a logger: an object with debug, info, warn, error'],
    [{ logLevel: 'loud' }, "logLevel: expected 'debug' or 'info' or 'warn' or 'error'"],
    [{ maxLogEntries: 0.5 }, 'maxLogEntries: expected a whole number from 0, got 0.5'],
  ])('%j', (option, problem) => {
    expect(problems({ facilitators: [{ id: 'a', client }], ...option })).toEqual([problem])
  })

  it.each(['verify', 'settle', 'supported'])('a URL that ends in /%s', operation => {
    const url = `https://facilitator.example/v2/${operation}/`
    expect(problems({ facilitators: [{ id: 'a', url }] })).toEqual([
      'facilitators[0] "a".url ends in an operation: leave it out',
    ])
  })

  it('unknown options, with what was meant or what there is', () => {
    expect(
      problems({
        facilitators: [{ id: 'a', client, timeout: 5 }],
        retrys: 1,
        healthCheck: { interval: 1 },
        colour: 1,
      }),
    ).toEqual([
      'facilitators[0] "a".timeout is not an option, did you mean timeoutMs?',
      'retrys is not an option, did you mean retries?',
      'healthCheck.interval is not an option, did you mean intervalMs?',
      expect.stringMatching(/^colour is not an option; there are facilitators, .*retries/),
    ])
  })

  it('all at once', () => {
    const list = problems({ facilitators: [{ id: 'a' }, { url: 'ftp://x' }], retries: -1 })
    expect(list).toHaveLength(4)
  })
})

describe('a payment that is not in the shape of the protocol is refused at the call, with the field named', () => {
  const aggregator = new FacilitatorAggregator({ facilitators: [{ id: 'a', client }], healthCheck: false })
  const without = <T extends object>(object: T, key: keyof T) => ({ ...object, [key]: undefined })

  it.each([
    ['no payload', undefined, requirements(), 'paymentPayload'],
    ['a string', 'payload', requirements(), 'paymentPayload'],
    ['version 3', { ...payload(), x402Version: 3 }, requirements(), 'paymentPayload.x402Version'],
    ['no inner payload', without(payload(), 'payload'), requirements(), 'paymentPayload.payload'],
    ['no accepted requirements', without(payload(), 'accepted'), requirements(), 'paymentPayload.accepted'],
    ['no requirements', payload(), undefined, 'paymentRequirements'],
    ['no amount', payload(), without(requirements(), 'amount'), 'paymentRequirements.amount'],
    ['no payee', payload(), { ...requirements(), payTo: '' }, 'paymentRequirements.payTo'],
    [
      'no time',
      payload(),
      { ...requirements(), maxTimeoutSeconds: 0 },
      'paymentRequirements.maxTimeoutSeconds',
    ],
    [
      'a version 1 network in version 2',
      payload(),
      requirements({ network: untyped('base') }),
      'paymentRequirements.network',
    ],
    [
      'version 1 without an amount',
      payloadV1(),
      without(requirementsV1(), 'maxAmountRequired'),
      'paymentRequirements.maxAmountRequired',
    ],
  ])('%s', async (_, brokenPayload, brokenRequirements, field) => {
    for (const operation of ['verify', 'settle'] as const) {
      const error = await aggregator[operation](untyped(brokenPayload), untyped(brokenRequirements)).catch(
        (thrown: unknown) => thrown,
      )
      expect(error).toBeInstanceOf(InvalidPaymentError)
      expect((error as Error).message).toContain(`Not an x402 payment: ${field}`)
    }
    expect(client.calls.verify + client.calls.settle).toBe(0)
  })
})

describe('an aggregator that is switched off', () => {
  it('is its first enabled facilitator', () => {
    const aggregator = new FacilitatorAggregator({
      enabled: false,
      facilitators: [
        { id: 'a', client, priority: 3 },
        { id: 'b', client, priority: 1, enabled: false },
        { id: 'c', client, priority: 2 },
      ],
    })
    const { enabled, facilitators } = aggregator.getConfig()
    expect(enabled).toBe(false)
    expect(facilitators.map(({ id }) => id)).toEqual(['c'])
  })
})

it('a deadline leaves time for another facilitator, unless it is given', () => {
  const config = (options: object) =>
    new FacilitatorAggregator({
      facilitators: [
        { id: 'a', url: 'https://a.example' },
        { id: 'b', url: 'https://b.example', timeoutMs: { settle: 45_000 } },
      ],
      ...options,
    }).getConfig().deadlineMs
  expect(config({})).toEqual({ verify: 10_000, settle: 90_000, supported: 10_000, list: 10_000 })
  expect(config({ timeoutMs: 20_000 })).toMatchObject({ verify: 40_000, settle: 90_000 })
  expect(config({ timeoutMs: 20_000, deadlineMs: { verify: 15_000 } })).toMatchObject({ verify: 15_000 })
})

it('audit without a probe is refused, as it would check nothing', () => {
  const options = (settlement: SettlementOptions) => ({
    facilitators: [{ id: 'a', url: 'https://a.example' }],
    settlement,
  })
  expect(() => new FacilitatorAggregator(options({ audit: 'always' }))).toThrow(
    'settlement.audit needs settlement.probes',
  )
  expect(() => new FacilitatorAggregator(options({ audit: 'off' }))).not.toThrow()
})

it.each([0, -1, 1.5, Number.NaN, 'x'])('a ledger of %s entries is refused', maxEntries => {
  expect(() => new MemoryLedger({ maxEntries: maxEntries as number })).toThrow(
    'maxEntries is no whole number above 0',
  )
})
