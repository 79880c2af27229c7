/** The ledger in Durable Objects, in Cloudflare's own runtime. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { durableObjectLedger, type ObjectNamespace } from '../../src/durable-object/index.ts'
import { settlementLedgerConformance } from '../../src/testing/index.ts'
import { hasServer } from '../bed/ledger-servers.ts'
import { startWorkerd, type Workerd, workerdProgram } from '../bed/workerd.ts'
import { untyped } from '../untyped.ts'
import { all, newClaim, settled } from './payments.ts'

const isThere = hasServer(
  'Durable Objects',
  'workerd: npm ci --prefix test/runtimes, or set WORKERD',
  workerdProgram !== undefined,
)

describe.runIf(isThere)('the ledger in Durable Objects', () => {
  let worker: Workerd
  beforeAll(async () => {
    worker = await startWorkerd(new URL('durable-object-worker.ts', import.meta.url))
  })
  afterAll(() => worker?.[Symbol.asyncDispose]())

  /** The objects, as another process reaches them. */
  const namespaceOf = (query = '', prefix = ''): ObjectNamespace => ({
    idFromName: name => name,
    get: name => ({ fetch: (_url, init) => fetch(`${worker.url()}/${prefix}${name}${query}`, init) }),
  })
  let ledgers = 0
  const emptyLedger = (shards = 1) => durableObjectLedger(namespaceOf('', `${++ledgers}-`), { shards })

  const names = settlementLedgerConformance(() => durableObjectLedger(namespaceOf())).map(({ name }) => name)

  describe.each([1, 4])('over %i objects, within a Worker', shards => {
    it.each(names)('%s', async name => {
      const query = new URLSearchParams({ name, shards: `${shards}` })
      const answer = await fetch(`${worker.url()}/run?${query}`)
      expect(await answer.json()).toEqual({ isKnown: true })
    })
  })

  it('grants one of 50 claims, again and again', async () => {
    const ledger = emptyLedger()
    for (let round = 0; round < 10; round++) {
      const request = newClaim()
      const claims = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          ledger.claim({ ...request, claim: `${request.claim}-${index}` }),
        ),
      )
      expect(claims.filter(({ kind }) => kind === 'claimed')).toHaveLength(1)
    }
  })

  it('does not care that the clock of an isolate is ten minutes off', async () => {
    const ledger = emptyLedger()
    const request = newClaim()
    const now = Date.now()
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => now - 600_000)
    try {
      await ledger.claim(request)
    } finally {
      clock.mockRestore()
    }
    expect((await ledger.claim({ ...request, claim: 'another' })).kind).toBe('refused')
    expect(Math.abs(((await ledger.get(request.key))?.since ?? 0) - now)).toBeLessThan(10_000)
  })

  it('lists the payments of four objects by time, in pages of any size', async () => {
    const ledger = emptyLedger(4)
    const requests = Array.from({ length: 40 }, () => newClaim())
    for (const request of requests) await ledger.claim(request)
    const listed = await all(ledger, {}, 100)
    expect(new Set(listed.map(({ key }) => key))).toEqual(new Set(requests.map(({ key }) => key)))
    expect(listed.map(({ since }) => since)).toEqual(listed.map(({ since }) => since).sort((a, b) => a - b))
    for (const limit of [1, 7, 40]) expect(await all(ledger, {}, limit)).toEqual(await all(ledger, {}, 100))
  })

  it('finds what a payer did not get, and forgets what is over, in whichever object it is', async () => {
    const ledger = emptyLedger(4)
    const payer = '0xAbCdEf0000000000000000000000000000000001'
    const [open, done] = [newClaim({ payer }), newClaim({ payer, validBefore: 1 })]
    await ledger.claim(open)
    await ledger.claim(done)
    await ledger.update({ ...open, settlement: { state: 'unresolved' } })
    await ledger.update({ ...done, settlement: settled })
    const found = await ledger.undelivered?.({ ...open.query, payer: payer.toLowerCase() })
    expect(found?.map(({ key }) => key)).toEqual([open.key])
    await expect.poll(() => ledger.prune?.({ olderThanMs: 0 })).toBe(1)
    expect(await all(ledger)).toHaveLength(1)
  })

  it('knows every payment after the runtime was killed', async () => {
    const ledger = emptyLedger(2)
    const requests = Array.from({ length: 20 }, () => newClaim())
    await Promise.all(requests.map(request => ledger.claim(request)))
    const [first] = requests
    if (first) await ledger.update({ ...first, settlement: settled })
    await worker.restart()
    for (const request of requests)
      expect((await ledger.claim({ ...request, claim: 'another' })).kind).toBe('refused')
  })

  it('says what is wrong with the class, before anything is sent', async () => {
    const ledger = durableObjectLedger(namespaceOf('?without-sqlite'))
    await expect(ledger.claim(newClaim())).rejects.toThrow('change `new_classes` to `new_sqlite_classes`')
  })

  it('says that nobody answers', async () => {
    const nobody: ObjectNamespace = {
      idFromName: name => name,
      get: () => ({ fetch: () => Promise.reject(new Error('Network connection lost.')) }),
    }
    const error = await durableObjectLedger(nobody)
      .claim(newClaim())
      .catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({
      code: 'LEDGER_FAILED',
      message: expect.stringContaining('gives no answer (Network connection lost.)'),
    })
  })
})

describe('the options of a ledger in Durable Objects', () => {
  it.each([undefined, 'SETTLEMENTS', {}])('are refused with %s for a binding', namespace => {
    expect(() => durableObjectLedger(untyped(namespace))).toThrow('expected the binding')
  })

  it.each([0, 257, 1.5])('are refused with %d shards', shards => {
    const namespace: ObjectNamespace = { idFromName: name => name, get: () => ({ fetch }) }
    expect(() => durableObjectLedger(namespace, { shards })).toThrow('shards: expected')
  })
})
