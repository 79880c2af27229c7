/** What an aggregator and the gateway say when nobody has asked them to. */
import { afterEach, beforeEach, describe, expect, it, type MockInstance, vi } from 'vitest'
import { createGateway } from '../../src/http/index.ts'
import { type AggregatorOptions, FacilitatorAggregator, MemoryLedger } from '../../src/index.ts'
import { createFacilitatorConfig, listen, shutDown } from '../../src/node/index.ts'
import {
  FakeFacilitator,
  hanging,
  ledgerWith,
  newPayload,
  outcome,
  payer,
  probeOf,
  refused,
  requirements,
  unspent,
  valid,
} from './builders.ts'

let a: FakeFacilitator
let b: FakeFacilitator
let printed: Record<'debug' | 'info' | 'warn' | 'error', MockInstance>
const ends: (() => unknown)[] = []

beforeEach(() => {
  a = new FakeFacilitator()
  b = new FakeFacilitator()
  const silenced = (level: 'debug' | 'info' | 'warn' | 'error') =>
    vi.spyOn(console, level).mockImplementation(() => {})
  printed = {
    debug: silenced('debug'),
    info: silenced('info'),
    warn: silenced('warn'),
    error: silenced('error'),
  }
})
afterEach(async () => {
  for (const end of ends.splice(0)) await end()
  vi.restoreAllMocks()
})

const probed = { settlement: { probes: [probeOf(() => unspent)] } }

function pool(options: Partial<AggregatorOptions> = {}): FacilitatorAggregator {
  const aggregator = new FacilitatorAggregator({
    facilitators: [
      { id: 'a', client: a },
      { id: 'b', client: b },
    ],
    healthCheck: false,
    retries: 0,
    ...options,
  })
  ends.push(() => aggregator.stop({ inFlight: 'abort' }))
  return aggregator
}

const messages = (level: 'warn' | 'error') => printed[level].mock.calls.map(([message]) => message)
const settle = (aggregator: FacilitatorAggregator) => outcome(aggregator.settle(newPayload(), requirements()))

describe('an aggregator without a logger', () => {
  it('prints warnings and errors, and nothing of a payment that went well', async () => {
    const aggregator = pool(probed)
    expect(await settle(aggregator)).toBe('success')
    expect(Object.values(printed).flatMap(({ mock }) => mock.calls)).toEqual([])
    a.verifyAnswer = refused()
    expect(await aggregator.verify(newPayload(), requirements())).toEqual(valid)
    expect(messages('warn')).toEqual([
      expect.stringMatching(/^\[Facilitator\] a: verify on eip155:84532 unreachable/),
      expect.stringMatching(/^\[Facilitator\] verify goes on from a to b/),
    ])
    expect(printed.info).not.toHaveBeenCalled()
  })

  it('prints that a buyer may have been charged', async () => {
    a.settleAnswer = new Error('socket hang up')
    expect(await settle(pool())).toBe('SETTLEMENT_INDETERMINATE')
    expect(messages('error').join('\n')).toMatch(/may have been charged|nobody could say|indeterminate/i)
  })

  it('prints nothing with a logger of false, and keeps its log all the same', async () => {
    a.settleAnswer = new Error('socket hang up')
    const aggregator = pool({ logger: false })
    expect(await settle(aggregator)).toBe('SETTLEMENT_INDETERMINATE')
    expect(Object.values(printed).flatMap(({ mock }) => mock.calls)).toEqual([])
    expect(aggregator.getRecentLogs().map(({ level }) => level)).toContain('error')
  })

  it('warns once of each network that it settles on without a probe', async () => {
    const aggregator = pool()
    const elsewhere = { network: 'eip155:8453' as const }
    for (let i = 0; i < 2; i++) {
      await settle(aggregator)
      const accepted = requirements(elsewhere)
      a.settleAnswer = { success: true, transaction: `0x${'cd'.repeat(32)}`, payer, ...elsewhere }
      await outcome(aggregator.settle(newPayload({ accepted }), accepted))
      a.settleAnswer = new FakeFacilitator().settleAnswer
    }
    expect(messages('warn').filter(message => message.includes('no probe'))).toEqual([
      expect.stringContaining('eip155:84532'),
      expect.stringContaining('eip155:8453'),
    ])
  })
})

describe('a mistake in the configuration is refused', () => {
  it.each<[object, RegExp]>([
    [{ retrys: 2 }, /^retrys is not an option; there are .*retries/],
    [{ healthCheck: { interval: 5 } }, /^healthCheck\.interval is not .*intervalMs/],
    [{ timeoutMs: 5 }, /^timeoutMs: expected milliseconds, a whole number from 100, got 5$/],
    [{ deadlineMs: { settle: 60 } }, /^deadlineMs\.settle: expected milliseconds, .* from 100, got 60$/],
    [{ logger: true }, /^logger: expected a logger/],
  ])('at %j', (options, problem) => {
    expect(() => pool(options as Partial<AggregatorOptions>)).toThrow(
      expect.objectContaining({ problems: [expect.stringMatching(problem)] }),
    )
  })

  it('at version 1 middleware without a probe, which asks a buyer in doubt to pay again', async () => {
    await expect(createFacilitatorConfig(pool())).rejects.toMatchObject({
      code: 'INVALID_OPTIONS',
      message: expect.stringMatching(/settlement\.probes is missing.*acceptLostPayments/),
    })
    expect((await createFacilitatorConfig(pool(), { acceptLostPayments: true })).url).toMatch(/^http:/)
    expect((await createFacilitatorConfig(pool(probed))).url).toMatch(/^http:/)
  })
})

describe('a gateway that ends with a settlement in doubt', () => {
  async function endWith(options: Partial<AggregatorOptions>): Promise<string[]> {
    a.settleAnswer = hanging
    const aggregator = pool({ logger: false, ...options })
    const server = await listen(createGateway(aggregator), { port: 0 })
    ends.push(() => server.cut())
    const body = { x402Version: 2, paymentPayload: newPayload(), paymentRequirements: requirements() }
    const settling = fetch(`${server.url}/settle`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    })
    await vi.waitFor(() => expect(a.calls.settle).toBe(1))
    const log: string[] = []
    await shutDown(server, aggregator, { graceMs: 50, log: message => log.push(message) })
    expect(await (await settling).json()).toMatchObject({ error: 'SETTLEMENT_INDETERMINATE' })
    return log
  }

  it('reports it as lost, with its key, network and payer, when the ledger is in memory', async () => {
    expect(await endWith({})).toEqual([
      'not everything was finished within 50 ms: aborting it',
      expect.stringMatching(
        new RegExp(
          `^lost with this process.*: 10000 of 0x\\w+ on eip155:84532 by ${payer}, key eip3009\\|eip155:84532.*refund$`,
        ),
      ),
    ])
  })

  it('reports where it is when the ledger outlives the process', async () => {
    const settlement = { ledger: ledgerWith(new MemoryLedger(), {}) }
    expect((await endWith({ settlement })).at(-1)).toMatch(
      /^unresolved in the ledger: .* then close eip3009\|/,
    )
  })

  it('ends in time though its ledger does not answer, and reports that too', async () => {
    const ledger = ledgerWith(new MemoryLedger(), { list: () => hanging() })
    const begunAt = performance.now()
    expect((await endWith({ settlement: { ledger } })).at(-1)).toMatch(/^the ledger does not answer/)
    expect(performance.now() - begunAt).toBeLessThan(7_000)
  })

  it('reports on stderr unless it is told where', async () => {
    const aggregator = pool({ logger: false })
    const gateway = createGateway(aggregator)
    gateway.fetch(
      new Request('http://gateway.example/settle', {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: JSON.stringify({
          x402Version: 2,
          paymentPayload: newPayload(),
          paymentRequirements: requirements(),
        }),
      }),
    )
    a.settleAnswer = new Error('socket hang up')
    await vi.waitFor(async () => expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1))
    await shutDown(await listen(gateway, { port: 0 }), aggregator)
    expect(messages('error')).toEqual([expect.stringContaining('lost with this process')])
  })
})
