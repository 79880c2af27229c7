import { HTTPFacilitatorClient } from '@x402/core/server'
import { type PaymentPayload, SettleError, VerifyError } from '@x402/core/types'
import { describe, expect, it, vi } from 'vitest'
import { IdempotentAnswers } from '../../src/http/idempotency.ts'
import type { AnswerStore } from '../../src/http/index.ts'
import { MemoryLedger } from '../../src/index.ts'
import { listen } from '../../src/node/index.ts'
import { untyped } from '../untyped.ts'
import {
  done,
  hanging,
  httpError,
  kind,
  newPayload,
  payload,
  payloadV1,
  probeOf,
  refusal,
  refused,
  requirements,
  requirementsV1,
  settled,
  supporting,
  unspent,
  valid,
} from './builders.ts'
import {
  a,
  aggregator,
  ask,
  b,
  type Gateway,
  get,
  json,
  open,
  pay,
  payment,
  post,
  settle,
} from './gateway-harness.ts'

describe('the gateway answers as a facilitator does', () => {
  it('verify, settle and supported', async () => {
    const gateway = open()
    expect(await post(gateway, '/verify', pay())).toMatchObject({ status: 200, body: valid })
    expect(await settle(gateway)).toMatchObject({ status: 200, body: settled })
    expect(await get(gateway, '/supported')).toMatchObject({
      status: 200,
      body: { kinds: [{ scheme: 'exact' }] },
    })
  })

  it('payments of protocol version 1', async () => {
    a.supportedAnswer = {
      kinds: [{ x402Version: 1, scheme: 'exact', network: 'base-sepolia' }],
      extensions: [],
      signers: {},
    }
    const gateway = open()
    expect(await post(gateway, '/verify', pay(payloadV1(), requirementsV1()))).toMatchObject({ body: valid })
    expect(await settle(gateway, pay(payloadV1(), requirementsV1()))).toMatchObject({ body: settled })
  })

  it('the discovery list, with its query', async () => {
    const queries: unknown[] = []
    Object.assign(a, {
      list: async (query: unknown) => {
        queries.push(query)
        return { x402Version: 2, items: [] }
      },
    })
    const gateway = open()
    expect(await get(gateway, '/discovery/resources?limit=5&type=http')).toMatchObject({
      status: 200,
      body: { x402Version: 2, items: [] },
    })
    expect(queries).toEqual([{ limit: '5', type: 'http' }])
  })

  it('what an in-process facilitator answers with a bigint', async () => {
    a.settleAnswer = { ...settled, extra: { gasUsed: 21_000n } }
    expect(await settle(open())).toMatchObject({ status: 200, body: { extra: { gasUsed: '21000' } } })
  })

  it('a success, though an in-process facilitator adds what JSON cannot hold', async () => {
    const round: Record<string, unknown> = {}
    round.self = round
    a.settleAnswer = { ...settled, extra: round }
    expect(await settle(open())).toMatchObject({ status: 200, body: settled })
  })

  it('an empty body with what may have happened to it', async () => {
    expect(await post(open(), '/verify', '')).toMatchObject({
      status: 400,
      body: { message: expect.stringContaining('was it read before, as by an express.json() in front?') },
    })
  })

  it('rejections as results', async () => {
    a.verifyAnswer = { isValid: false, invalidReason: 'insufficient_funds' }
    a.settleAnswer = refusal('insufficient_funds')
    const gateway = open()
    expect(await post(gateway, '/verify', pay())).toMatchObject({
      status: 200,
      body: { isValid: false, invalidReason: 'insufficient_funds' },
    })
    expect(await settle(gateway)).toMatchObject({
      status: 200,
      body: { success: false, errorReason: 'insufficient_funds' },
    })
  })

  it('what a facilitator says of extensions in its header', async () => {
    a.verifyAnswer = untyped({ ...valid, extensionResponses: { bazaar: { status: 'listed' } } })
    const { headers, body } = await post(open(), '/verify', pay())
    expect(body).toEqual(valid)
    expect(JSON.parse(atob(headers.get('extension-responses') ?? ''))).toEqual({
      bazaar: { status: 'listed' },
    })
  })

  it('under a base path', async () => {
    const gateway = open({ basePath: '/facilitator' })
    expect(await get(gateway, '/facilitator/supported')).toMatchObject({ status: 200 })
    expect(await get(gateway, '/supported')).toMatchObject({ status: 404, body: { error: 'NOT_FOUND' } })
  })
})

describe('an error of the aggregator', () => {
  it('that left the money alone is 502 or 503', async () => {
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    a.verifyAnswer = httpError(500)
    b.verifyAnswer = httpError(500)
    const gateway = open({}, { retries: 0 })
    expect(await settle(gateway)).toMatchObject({ status: 502, body: { error: 'ALL_FACILITATORS_FAILED' } })
    expect(await post(gateway, '/verify', pay())).toMatchObject({ status: 502 })
    const full = open({}, { settlement: { ledger: new MemoryLedger({ maxEntries: 1 }) } })
    await settle(full)
    const answer = await settle(full, pay(newPayload()))
    expect(answer).toMatchObject({ status: 503, body: { error: 'LEDGER_FULL' } })
    expect(answer.headers.get('retry-after')).toBe('1')
  })

  it('that left doubt does not look like a failure to upstream', async () => {
    a.settleAnswer = httpError(502)
    const gateway = open()
    const { status, body } = await settle(gateway)
    expect(status).toBe(200)
    expect(body).toMatchObject({ error: 'SETTLEMENT_INDETERMINATE', requestId: expect.any(String) })
    expect(body).not.toHaveProperty('success')
  })

  it('that nobody expected does not either, and says nothing of its cause', async () => {
    const gateway = open()
    vi.spyOn(aggregator, 'settle').mockRejectedValue(new Error('secret'))
    expect(await settle(gateway)).toMatchObject({
      status: 200,
      body: { error: 'INTERNAL_ERROR', message: 'the gateway met a fault of its own' },
    })
  })

  it('that was stopped is 503', async () => {
    const gateway = open()
    await aggregator.stop()
    expect(await settle(gateway)).toMatchObject({ status: 503, body: { error: 'AGGREGATOR_STOPPED' } })
  })
})

describe('bad requests', () => {
  it.each([
    ['{"paymentPayload":', 'body'],
    ['[]', 'body'],
    [{ x402Version: 2 }, 'paymentPayload'],
    [pay({ ...payload(), accepted: undefined }), 'paymentPayload.accepted'],
    [pay(payload(), { ...requirements(), payTo: '' }), 'paymentRequirements.payTo'],
  ])('are 400 with the path of the wrong field: %j', async (body, path) => {
    const gateway = open()
    for (const operation of ['/verify', '/settle'])
      expect(await post(gateway, operation, body)).toMatchObject({
        status: 400,
        body: { error: 'INVALID_PAYMENT', path, requestId: expect.any(String) },
      })
    expect(a.calls).toMatchObject({ verify: 0, settle: 0 })
  })

  it('of more than 256 kB are 413, whether they say so or not', async () => {
    const gateway = open()
    const long = JSON.stringify({ padding: 'x'.repeat(262_144) })
    expect(await settle(gateway, long)).toMatchObject({ status: 413, body: { error: 'TOO_LARGE' } })
    const stream = new Blob([long]).stream()
    const chunked = { headers: json, body: stream, duplex: 'half' } as RequestInit
    expect(await ask(gateway, 'POST', '/settle', chunked)).toMatchObject({ status: 413 })
    expect(await settle(open({ maxBodyBytes: 10 }))).toMatchObject({ status: 413 })
  })

  it('to another path are answered 404, with the paths that there are', async () => {
    expect((await get(open(), '/pay')).body.message).toContain('POST /settle')
  })

  it('keep their id', async () => {
    const { headers } = await get(open(), '/supported', { 'x-request-id': 'mine' })
    expect(headers.get('x-request-id')).toBe('mine')
    expect(headers.get('x-content-type-options')).toBe('nosniff')
  })
})

describe('over real HTTP', () => {
  it('reads a body without a content length, and refuses one that is too long', async () => {
    const server = await listen(open({ maxBodyBytes: 2_000 }), { port: 0 })
    const stream = (text: string) =>
      ({ method: 'POST', headers: json, body: new Blob([text]).stream(), duplex: 'half' }) as RequestInit
    const answer = await fetch(`${server.url}/verify`, stream(JSON.stringify(payment)))
    expect([answer.status, await answer.json()]).toEqual([200, valid])
    expect((await fetch(`${server.url}/verify`, stream('x'.repeat(2_001)))).status).toBe(413)
    await server.close()
  })

  it('closes the connections that stand when it drains', async () => {
    const gateway = open()
    gateway.drain()
    expect((await get(gateway, '/supported')).headers.get('connection')).toBe('close')
  })

  it('refuses ports that are none, and addresses that others reach', async () => {
    await expect(listen(open(), { port: 70_000 })).rejects.toThrow('port: expected a whole number')
    await expect(listen(open(), untyped({ maxConections: 5 }))).rejects.toThrow(
      'listen: maxConections is not an option, did you mean maxConnections?',
    )
    await expect(listen(untyped({}), { port: 0 })).rejects.toThrow('expected the gateway that createGateway')
    await expect(listen(open(), { port: 0, hostname: '0.0.0.0' })).rejects.toThrow(
      'must not listen on 0.0.0.0',
    )
  })
})

describe('options of the gateway', () => {
  it.each([
    [{ token: 't' }, 'token is not an option, did you mean tokens?'],
    [{ tokens: 't' }, 'tokens: expected a list'],
    [{ maxBodyBytes: -1 }, 'maxBodyBytes: expected a whole number above 0'],
    [{ rateLimit: { perSecond: 0, burst: 1 } }, 'rateLimit: expected perSecond above 0'],
  ])('are refused when they are wrong: %j', (options, message) => {
    expect(() => open(untyped(options))).toThrow(message)
  })
})

describe('a buyer cannot hurt others', () => {
  it('with a payload that is nested too deep to be sent on', async () => {
    const clients = [
      { id: 'by-url', url: 'http://x.example', fetch: async () => Response.json(valid) },
      { id: 'by-client', client: new HTTPFacilitatorClient({ url: 'http://y.example' }) },
    ]
    const gateway = open({}, { facilitators: clients, retries: 0 })
    const deep = JSON.stringify(payment).replace(
      '"payload":{',
      `"payload":{"deep":${'['.repeat(20_000)}${']'.repeat(20_000)},`,
    )
    for (let i = 0; i < 4; i++) expect((await post(gateway, '/verify', deep)).status).toBe(502)
    expect(aggregator.getHealthStatus().summary).toMatchObject({ healthy: 2 })
  })
})

describe('on Workers', () => {
  it('a request that is being answered keeps its context alive', async () => {
    const works: Promise<unknown>[] = []
    const gateway = open()
    const request = new Request('http://gateway.example/supported')
    const response = await gateway.fetch(request, {}, { waitUntil: work => works.push(work) })
    expect(response.status).toBe(200)
    expect(works).toHaveLength(1)
    await works[0]
  })
})

describe('a purchase that its buyer has named', () => {
  const id = 'pay_7d5d747be160e280504c099d984bcfe0'
  const named = (changes: Partial<PaymentPayload> = {}, name = id) => {
    const extensions = { 'payment-identifier': { info: { required: false, id: name } } }
    return pay(newPayload({ extensions, ...changes }))
  }
  const reused = { status: 409, body: { error: 'PAYMENT_IDENTIFIER_REUSED' } }

  it('is charged for by one payment: another one is refused by verify and by settle', async () => {
    const gateway = open()
    expect(await settle(gateway, named())).toMatchObject({ status: 200, body: settled })
    expect(await post(gateway, '/verify', named())).toMatchObject(reused)
    expect(await settle(gateway, named())).toMatchObject(reused)
    expect(a.calls).toMatchObject({ verify: 0, settle: 1 })
  })

  it('is charged once when two payments for it are settled at once', async () => {
    let finish = () => {}
    a.settleAnswer = () =>
      new Promise(resolve => {
        finish = () => resolve(settled)
      })
    const gateway = open()
    const first = settle(gateway, named())
    await vi.waitFor(() => expect(a.calls.settle).toBe(1))
    const second = settle(gateway, named())
    // Other purchases, which are read in the same way, are answered meanwhile.
    for (let i = 0; i < 3; i++) await post(gateway, '/verify', named({}, `${id}_${i}`))
    expect(a.calls.settle).toBe(1)
    finish()
    expect(await Promise.all([first, second])).toMatchObject([{ status: 200, body: settled }, reused])
    expect(a.calls.settle).toBe(1)
  })

  it('is not delivered twice by the same payment, though it is sent twice at once', async () => {
    const gateway = open()
    const payment = named()
    const answers = await Promise.all([settle(gateway, payment), settle(gateway, payment)])
    expect(answers.filter(({ body }) => (body as { success?: boolean }).success === true)).toHaveLength(1)
  })

  it('goes on with another payment after an end that charged nothing', async () => {
    const gateway = open({}, { retries: 0 })
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    expect(await settle(gateway, named())).toMatchObject({ status: 502 })
    a.settleAnswer = settled
    expect(await settle(gateway, named())).toMatchObject({ status: 200, body: settled })
  })

  it('is another one at another seller', async () => {
    const gateway = open()
    await settle(gateway, named())
    const other = { ...requirements(), payTo: '0x4444444444444444444444444444444444444444' }
    const elsewhere = { ...named({ accepted: other }), paymentRequirements: other }
    expect(await settle(gateway, elsewhere)).toMatchObject({ status: 200, body: settled })
  })

  it('is forgotten after its time', async () => {
    vi.useFakeTimers()
    const gateway = open({ idempotencyMs: 1_000 })
    await settle(gateway, named())
    vi.advanceTimersByTime(1_001)
    expect(await settle(gateway, named())).toMatchObject({ status: 200, body: settled })
  })
})

describe('Idempotency-Key', () => {
  const key = { 'idempotency-key': 'k' }

  it('gives the same answer again, and settles once', async () => {
    const gateway = open()
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 200, body: settled })
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 200, body: settled })
    expect(a.calls.settle).toBe(1)
  })

  it('without it, the same payment is a duplicate', async () => {
    const gateway = open()
    await settle(gateway, payment, key)
    const duplicate = { success: false, errorReason: 'duplicate_settlement' }
    expect(await settle(gateway)).toMatchObject({ status: 200, body: duplicate })
    expect(await settle(gateway, payment, { 'idempotency-key': 'other' })).toMatchObject({ body: duplicate })
    expect(await settle(gateway, payment, key)).toMatchObject({ body: settled })
  })

  describe('with a store that replicas share', () => {
    const sharedStore = () => {
      const kept = new Map<string, string>()
      const answers: AnswerStore = {
        get: async name => kept.get(name),
        putIfAbsent: async (name, answer) => {
          if (!kept.has(name)) kept.set(name, answer)
          return kept.get(name) ?? ''
        },
      }
      return { kept, answers }
    }

    it('gives the answer that another replica gave', async () => {
      const { answers } = sharedStore()
      const [one, other] = [open({ answers }), open({ answers })]
      expect(await settle(one, payment, key)).toMatchObject({ status: 200, body: settled })
      expect(await settle(other, payment, key)).toMatchObject({ status: 200, body: settled })
      expect(a.calls.settle).toBe(1)
    })

    it('refuses a key under which another replica has answered for another payment', async () => {
      const { answers } = sharedStore()
      await settle(open({ answers }), payment, key)
      const { status } = await settle(open({ answers }), { ...payment, x402Version: 1 }, key)
      expect(status).toBe(422)
    })

    it('keeps nothing that decides nothing', async () => {
      const { answers, kept } = sharedStore()
      const gateway = open({ answers })
      a.settleAnswer = b.settleAnswer = () => Promise.reject(new Error('down'))
      await settle(gateway, payment, key)
      expect(kept.size).toBe(0)
    })

    it('answers without it when it fails', async () => {
      const fail = () => Promise.reject(new Error('no route'))
      const gateway = open({ answers: { get: fail, putIfAbsent: fail } })
      expect(await settle(gateway, payment, key)).toMatchObject({ status: 200, body: settled })
    })
  })

  it('waits for the answer that is on its way', async () => {
    let finish = () => {}
    a.settleAnswer = () =>
      new Promise(resolve => {
        finish = () => resolve(settled)
      })
    const gateway = open()
    const both = Promise.all([settle(gateway, payment, key), settle(gateway, payment, key)])
    await vi.waitFor(() => expect(a.calls.settle).toBe(1))
    finish()
    for (const answer of await both) expect(answer).toMatchObject({ status: 200, body: settled })
    expect(a.calls.settle).toBe(1)
  })

  it('is refused for another payment', async () => {
    const gateway = open()
    await settle(gateway, payment, key)
    expect(await settle(gateway, pay(newPayload()), key)).toMatchObject({
      status: 422,
      body: { error: 'IDEMPOTENCY_KEY_REUSED' },
    })
    expect(a.calls.settle).toBe(1)
  })

  it('belongs to one client', async () => {
    const gateway = open({ tokens: ['one', 'two'] })
    await settle(gateway, pay(), { ...key, authorization: 'Bearer one' })
    expect(await settle(gateway, pay(newPayload()), { ...key, authorization: 'Bearer two' })).toMatchObject({
      status: 200,
      body: settled,
    })
  })

  it('goes on where an answer that decided nothing ended', async () => {
    a.settleAnswer = refused()
    b.settleAnswer = refused()
    const gateway = open({}, { retries: 0 })
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 502 })
    a.settleAnswer = settled
    expect(await settle(gateway, payment, key)).toMatchObject({ status: 200, body: settled })
  })

  it('goes on after a refusal that another time may not get', async () => {
    a.settleAnswer = refusal('unsupported_scheme')
    b.settleAnswer = refusal('unsupported_scheme')
    vi.useFakeTimers()
    const gateway = open({}, { settlement: { probes: [probeOf(() => unspent)] } })
    expect(await done(settle(gateway, payment, key))).toMatchObject({ body: { success: false } })
    a.settleAnswer = settled
    expect(await done(settle(gateway, payment, key))).toMatchObject({ status: 200, body: settled })
  })

  it('is forgotten after its time', async () => {
    vi.useFakeTimers()
    const gateway = open({ idempotencyMs: 1_000 })
    await settle(gateway, payment, key)
    vi.advanceTimersByTime(1_001)
    expect(await settle(gateway, pay(newPayload()), key)).toMatchObject({ status: 200, body: settled })
    expect(a.calls.settle).toBe(2)
  })

  it('is kept for a bounded number of payments, and never dropped while one is running', async () => {
    const answers = new IdempotentAnswers(60_000, 2)
    const worked: string[] = []
    const work = (name: string) => async () => {
      worked.push(name)
      return { status: 200, body: { name }, headers: {}, isFinal: true } as const
    }
    let finish = () => {}
    const running = answers.once('running', 'body', async () => {
      await new Promise<void>(resolve => {
        finish = resolve
      })
      return work('running')()
    })
    await vi.waitFor(() => expect(finish).toHaveLength(1))
    for (const name of ['one', 'two', 'three']) await answers.once(name, name, work(name))
    const again = answers.once('running', 'body', work('running twice'))
    finish()
    expect(await again).toBe(await running)
    for (const name of ['three', 'one']) await answers.once(name, name, work(`${name} once more`))
    expect(worked).toEqual(['one', 'two', 'three', 'running', 'one once more'])
  })

  it('is 1 to 255 characters long', async () => {
    const long = { 'idempotency-key': 'x'.repeat(256) }
    expect(await settle(open(), pay(), long)).toMatchObject({
      status: 400,
      body: { error: 'INVALID_REQUEST' },
    })
  })
})

describe('readiness', () => {
  it('is lost while no facilitator can be used, with the reasons', async () => {
    const gateway = open({}, { healthCheck: { maxConsecutiveFailures: 1 }, retries: 0 })
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 200,
      body: { status: 'ready', reasons: [] },
    })
    aggregator.setFacilitatorEnabled('b', false)
    expect(await get(gateway, '/readyz')).toMatchObject({ status: 200, body: { reasons: ['b is disabled'] } })
    a.supportedAnswer = refused()
    await aggregator.checkHealth()
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { status: 'not ready', reasons: ['a is unhealthy: a circuit is open', 'b is disabled'] },
    })
  })

  it('is not lost for a discovery list that nobody has, or for trouble on one network', async () => {
    const polygon = 'eip155:137'
    a.supportedAnswer = supporting(kind(), kind({ network: polygon }))
    b.supportedAnswer = a.supportedAnswer
    const gateway = open({}, { healthCheck: { maxConsecutiveFailures: 1 }, retries: 0 })
    await get(gateway, '/discovery/resources')
    expect(await settle(gateway)).toMatchObject({ body: settled })
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    for (let i = 0; i < 2; i++) await settle(gateway, pay(newPayload(), requirements({ network: polygon })))
    expect(await get(gateway, '/readyz')).toMatchObject({ status: 200 })
  })

  it('is lost when no network can be paid on', async () => {
    const gateway = open(
      {},
      { healthCheck: { maxConsecutiveFailures: 1 }, retries: 0, settlement: { credit: false } },
    )
    a.settleAnswer = httpError(502)
    b.settleAnswer = httpError(502)
    for (let i = 0; i < 2; i++) await settle(gateway, pay(newPayload()))
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { reasons: ['a is unhealthy: a circuit is open', 'b is unhealthy: a circuit is open'] },
    })
  })

  it('is lost when the ledger is nearly full, before it refuses settlements', async () => {
    const gateway = open()
    const ledger = { entries: 95, maxEntries: 100, isNearlyFull: true }
    const health = { ...aggregator.getHealthStatus(), ledger }
    vi.spyOn(aggregator, 'getHealthStatus').mockReturnValue(health)
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { reasons: ['the ledger is nearly full'] },
    })
    vi.spyOn(aggregator, 'getHealthStatus').mockReturnValue({
      ...health,
      ledger: { ...ledger, isNearlyFull: false },
    } as typeof health)
    expect(await get(gateway, '/readyz')).toMatchObject({ status: 200 })
  })

  it('is lost after the first check that nobody answered, before any circuit opens', async () => {
    const gateway = open({}, { retries: 0 })
    a.supportedAnswer = refused()
    b.supportedAnswer = refused()
    await aggregator.checkHealth()
    expect(await get(gateway, '/readyz')).toMatchObject({
      status: 503,
      body: { reasons: ['a did not answer its last check', 'b did not answer its last check'] },
    })
  })
})

describe("upstream's client at the gateway", () => {
  /** Upstream's client has no `fetch` of its own: the global one is led to the gateway meanwhile. */
  async function through<T>(
    gateway: Gateway,
    call: (client: HTTPFacilitatorClient) => Promise<T>,
  ): Promise<T> {
    const spy = vi
      .spyOn(globalThis, 'fetch')
      .mockImplementation(async (input, init) => gateway.fetch(new Request(input as string, init)))
    try {
      return await call(new HTTPFacilitatorClient({ url: 'http://gateway.example' }))
    } finally {
      spy.mockRestore()
    }
  }

  it('takes doubt for "the facilitator could not answer"', async () => {
    a.settleAnswer = httpError(504)
    const doubt = through(open(), client => client.settle(payload(), requirements()))
    await expect(doubt).rejects.toMatchObject({ name: 'FacilitatorResponseError' })
    await expect(doubt).rejects.toThrow('SETTLEMENT_INDETERMINATE')
  })

  it('sees no verdict where nobody gave one', async () => {
    a.verifyAnswer = refused()
    b.verifyAnswer = refused()
    const failure = await through(open({}, { retries: 0 }), client =>
      client.verify(payload(), requirements()),
    ).catch((error: unknown) => error)
    expect(failure).not.toBeInstanceOf(VerifyError)
    expect(failure).not.toBeInstanceOf(SettleError)
    expect(String(failure)).toContain('(502)')
  })

  it('waits no longer than the aggregator for a facilitator that hangs', async () => {
    a.settleAnswer = () => hanging()
    const doubt = through(open({}, { timeoutMs: 100 }), client => client.settle(payload(), requirements()))
    await expect(doubt).rejects.toMatchObject({ name: 'FacilitatorResponseError' })
  })
})
