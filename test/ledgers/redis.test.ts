/** The ledger on Redis, on a real one, with each client that sellers have. */
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { AggregatorError, type SettlementLedger } from '../../src/index.ts'
import { type RedisClient, redisLedger } from '../../src/redis/index.ts'
import { settlementLedgerConformance } from '../../src/testing/index.ts'
import { hasServer } from '../bed/ledger-servers.ts'
import {
  type RedisCluster,
  type RedisServer,
  redisServer,
  startRedis,
  startRedisCluster,
} from '../bed/redis.ts'
import { untyped } from '../untyped.ts'
import { all, newClaim, settled } from './payments.ts'
import { type Connected, clients, clusterClients, connectIoRedis, connectNodeRedis } from './redis-clients.ts'

const isThere = hasServer(
  'Redis',
  'redis-server and no valkey-server: apt-get install redis-server, or set REDIS_SERVER',
  !!redisServer,
)

let prefixes = 0
/** A ledger of its own in a server that others use too. */
const emptyLedger = (client: RedisClient, options: object = {}) =>
  redisLedger({ client, prefix: `test-${++prefixes}`, onWarning: () => {}, ...options })

describe.runIf(isThere)('the ledger on Redis', () => {
  let server: RedisServer
  const closings: (() => Promise<void>)[] = []
  const connect = async (how = connectNodeRedis, url = server.url): Promise<RedisClient> => {
    const { client, close } = await how(url)
    closings.push(close)
    return client
  }

  beforeAll(async () => {
    server = await startRedis({ appendfsync: 'no' })
  })
  afterAll(async () => {
    for (const close of closings) await close()
    await server[Symbol.asyncDispose]()
  })

  describe.each(Object.keys(clients))('by %s', name => {
    let connected: Connected
    beforeAll(async () => {
      const how = clients[name]
      if (how) connected = await how(server.url)
    })
    afterAll(() => connected.close())
    for (const demand of settlementLedgerConformance(() => emptyLedger(connected.client)))
      it(demand.name, demand.run)
  })

  it('grants one of 50 claims over eight connections, again and again', async () => {
    const connections = await Promise.all(Array.from({ length: 8 }, () => connect()))
    const ledgers = connections.map(client => emptyLedger(client, { prefix: 'race' }))
    for (let round = 0; round < 20; round++) {
      const request = newClaim()
      const claims = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          ledgers[index % ledgers.length]?.claim({ ...request, claim: `${request.claim}-${index}` }),
        ),
      )
      expect(claims.filter(claim => claim?.kind === 'claimed')).toHaveLength(1)
    }
  })

  it.each([-600_000, 600_000])('does not care that the clock of a replica is %i ms off', async offMs => {
    const client = await connect()
    const [ours, theirs] = [
      emptyLedger(client, { prefix: `clock${offMs}` }),
      emptyLedger(client, { prefix: `clock${offMs}` }),
    ]
    const request = newClaim()
    const now = Date.now()
    const clock = vi.spyOn(Date, 'now').mockImplementation(() => now + offMs)
    try {
      expect((await ours.claim(request)).kind).toBe('claimed')
    } finally {
      clock.mockRestore()
    }
    expect((await theirs.claim({ ...request, claim: 'theirs' })).kind).toBe('refused')
    const entry = await theirs.get(request.key)
    expect(entry?.settlement).toEqual({ state: 'settling' })
    expect(Math.abs((entry?.since ?? 0) - now)).toBeLessThan(10_000)
  })

  it('takes one round trip for a claim, an update and a look', async () => {
    const client = await connect(connectIoRedis)
    const ledger = emptyLedger(client)
    await use(ledger)
    const calls = countCalls(client)
    const request = newClaim()
    for (const step of [
      () => ledger.claim(request),
      () => ledger.update({ ...request, settlement: settled }),
      () => ledger.get(request.key),
    ]) {
      calls.count = 0
      await step()
      expect(calls.count).toBe(1)
    }
  })

  describe('when an answer is lost', () => {
    it('grants the claim once more, with what was there before it', async () => {
      const client = await connect()
      const [ledger, lossy] = twins(client)
      const request = newClaim()
      await ledger.claim(request)
      const unresolved = { state: 'unresolved', transaction: '0x02' } as const
      await ledger.update({ ...request, settlement: unresolved })
      const retry = { ...request, claim: 'retry' }
      await expect(lossy.claim(retry)).rejects.toThrow('the answer was lost')
      expect(await ledger.claim(retry)).toMatchObject({ kind: 'claimed', before: unresolved })
    })

    it('does not store an update twice, nor something else', async () => {
      const client = await connect()
      const [ledger] = twins(client)
      const request = newClaim()
      await ledger.claim(request)
      const update = { ...request, settlement: settled }
      expect(await ledger.update(update)).toBe(true)
      expect(await ledger.update(update)).toBe(true)
      expect(await ledger.update({ ...request, settlement: { ...settled, transaction: '0x03' } })).toBe(false)
      expect((await ledger.get(request.key))?.settlement).toEqual(settled)
    })
  })

  it('finds what a payer has paid and did not get by his address in any case', async () => {
    const ledger = emptyLedger(await connect())
    const payer = '0xAbCdEf0000000000000000000000000000000001'
    const [open, lost, done] = [newClaim({ payer }), newClaim({ payer }), newClaim({ payer })]
    for (const request of [open, lost, done]) await ledger.claim(request)
    await ledger.update({ ...open, settlement: { state: 'unresolved' } })
    await ledger.update({ ...done, settlement: settled })
    await ledger.update({ ...lost, settlement: settled })
    await ledger.update({
      ...lost,
      settlement: { state: 'undelivered', transaction: '0x01', redeliveries: 2, windowMs: 60_000 },
    })
    const found = await ledger.undelivered?.({ ...open.query, payer: payer.toLowerCase() })
    expect(found?.map(({ key }) => key)).toEqual([open.key, lost.key])
    expect(await ledger.undelivered?.({ ...open.query, payTo: '0x09' })).toEqual([])
    await ledger.claim({ ...lost, claim: 'again' })
    expect(await ledger.undelivered?.(open.query)).toHaveLength(1)
  })

  it.each(['redis', 'ioredis', 'upstash'])(
    'by %s: keeps one answer of several gateways, for its time',
    async name => {
      const client = await connect(clients[name])
      const { answers } = emptyLedger(client)
      expect(await answers.get('one')).toBeUndefined()
      const texts = Array.from({ length: 20 }, (_, index) => JSON.stringify({ answer: `${index}` }))
      const kept = await Promise.all(texts.map(text => answers.putIfAbsent('one', text, 60_000)))
      expect(new Set(kept)).toEqual(new Set([texts[0]]))
      expect(await answers.get('one')).toBe(texts[0])
      await answers.putIfAbsent('brief', '{}', 1)
      await expect.poll(() => answers.get('brief')).toBeUndefined()
    },
  )

  it('lists payments of all shards by time, in pages of any size', async () => {
    const ledger = emptyLedger(await connect())
    const requests = Array.from({ length: 60 }, () => newClaim())
    for (const request of requests) await ledger.claim(request)
    for (const limit of [1, 7, 60, 100])
      expect((await all(ledger, {}, limit)).map(({ key }) => key)).toEqual(requests.map(({ key }) => key))
    await ledger.update({ ...newest(requests), settlement: { state: 'unresolved' } })
    expect((await all(ledger, { states: ['unresolved'] })).map(({ key }) => key)).toEqual([
      newest(requests).key,
    ])
    await expect(ledger.list({ limit: 1, cursor: 'mine' })).rejects.toThrow('cursor is none')
  })

  it('forgets what is over by itself, and never what is open or undelivered', async () => {
    const client = await connect()
    const prefix = `test-${++prefixes}`
    const ledger = redisLedger({ client, prefix, keepMs: 60_000, onWarning: () => {} })
    const timeToLive = async (key: string) => {
      const [name] = await keysOf(server, `${prefix}:*payment:${key}`)
      return Number((await server.command('PTTL', name ?? '')).slice(1))
    }
    const lifetimes: Record<string, number> = {}
    for (const settlement of [
      settled,
      { state: 'rejected', reason: 'insufficient_funds' },
      { state: 'failed', wasSent: true },
      { state: 'unresolved' },
    ] as const) {
      const request = newClaim()
      await ledger.claim(request)
      expect(await timeToLive(request.key)).toBe(-1)
      await ledger.update({ ...request, settlement })
      lifetimes[settlement.state] = await timeToLive(request.key)
      if (settlement.state !== 'failed') continue
      await ledger.claim({ ...request, claim: 'again' })
      expect(await timeToLive(request.key)).toBe(-1)
    }
    // Until the authorization cannot be used, and some minutes for clocks that differ.
    const about = expect.toSatisfy(ms => ms > 800_000 && ms <= 900_000)
    expect(lifetimes).toEqual({ settled: about, rejected: about, failed: about, unresolved: -1 })
  })

  it('counts an authorization without an end as usable for 24 hours after its first claim', async () => {
    const prefix = `test-${++prefixes}`
    const ledger = redisLedger({ client: await connect(), prefix, onWarning: () => {} })
    const request = newClaim({ validBefore: undefined })
    await ledger.claim(request)
    await ledger.update({ ...request, settlement: { state: 'unresolved' } })
    await ledger.claim({ ...request, claim: 'again' })
    const [name = ''] = await keysOf(server, `${prefix}:*payment:*`)
    const numberIn = async (field: string) =>
      Number((await server.command('HGET', name, field)).split('\r\n')[1])
    const lifetimeMs = (await numberIn('usable_until_ms')) - (await numberIn('first_claimed_us')) / 1000
    expect(Math.round(lifetimeMs / 1000)).toBe(24 * 60 * 60)
  })

  it('does not grow with payments that are over', async () => {
    const client = await connect()
    const prefix = `test-${++prefixes}`
    const ledger = redisLedger({ client, prefix, onWarning: () => {} })
    const payer = '0x00000000000000000000000000000000000000aa'
    const settle = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const request = newClaim({ payer })
        await ledger.claim(request)
        await ledger.update({ ...request, settlement: settled })
      }
    }
    await settle(40)
    await timePasses(server, prefix)
    await settle(10)
    const names = await keysOf(server, `${prefix}:*`)
    expect(names.filter(name => name.includes('payment:'))).toHaveLength(10)
    for (const index of ['payments-by-time', 'forget-at']) {
      const [name = ''] = names.filter(name => name.endsWith(index))
      expect(await server.command('ZCARD', name)).toBe(':10\r\n')
    }
  })

  it('forgets the addresses of its payers with their payments', async () => {
    const client = await connect()
    const prefix = `test-${++prefixes}`
    const ledger = redisLedger({ client, prefix, onWarning: () => {} })
    const request = newClaim({ validBefore: 1 })
    await ledger.claim(request)
    await ledger.update({ ...request, settlement: settled })
    await ledger.update({
      ...request,
      settlement: { state: 'undelivered', transaction: '0x01', redeliveries: 0, windowMs: 1 },
    })
    await vi.waitUntil(async () => (await ledger.get(request.key))?.settlement.state === 'settled')
    expect(await ledger.prune?.({ olderThanMs: 0 })).toBe(1)
    const left = (await keysOf(server, `${prefix}:*`)).filter(name => !name.endsWith('layout'))
    expect(left).toEqual([])
  })

  describe('says in one error what is wrong, before anything is sent', () => {
    const refusal = async (ledger: SettlementLedger) => {
      const error = await ledger.claim(newClaim()).catch(thrown => thrown)
      expect(error).toBeInstanceOf(AggregatorError)
      expect(error.cause).toBeUndefined()
      return error.message as string
    }

    it.each([
      ['nothing', undefined],
      ['a URL', 'redis://127.0.0.1'],
      ['a client of something else', { query: async () => [] }],
    ])('the client is %s', (_, client) => {
      expect(() => redisLedger({ client: untyped(client) })).toThrow(/client is none of redis/)
    })

    it.each(['', 'a b', '{a}', 'a'.repeat(65)])('the prefix is "%s"', async prefix => {
      const client = await connect()
      expect(() => redisLedger({ client, prefix })).toThrow('prefix: expected 1 to 64 characters')
    })

    it('the server would evict payments', async () => {
      await using evicting = await startRedis({ 'maxmemory-policy': 'volatile-lru' })
      const client = await connect(connectNodeRedis, evicting.url)
      expect(await refusal(emptyLedger(client))).toContain('maxmemory-policy volatile-lru')
      await evicting.command('CONFIG', 'SET', 'maxmemory-policy', 'noeviction')
      const ledger = emptyLedger(client)
      expect((await ledger.claim(newClaim())).kind).toBe('claimed')
    })

    it('the server is full', async () => {
      await using full = await startRedis({ maxmemory: '1mb' })
      const client = await connect(connectNodeRedis, full.url)
      expect(await refusal(emptyLedger(client))).toContain('Redis has used up its maxmemory')
    })

    it('the entries are of another version', async () => {
      const client = await connect()
      await server.command('SET', 'newer:{3}:layout', '2')
      expect(await refusal(emptyLedger(client, { prefix: 'newer' }))).toContain('layout 2, not 1')
    })

    it('the keys are used by something else', async () => {
      const client = await connect()
      for (let shard = 0; shard < 16; shard++)
        await server.command('SET', `foreign:{${shard}}:payments-by-time`, 'text')
      expect(await refusal(emptyLedger(client, { prefix: 'foreign' }))).toContain('choose another prefix')
    })

    it('the user may not write', async () => {
      await server.command('ACL', 'SETUSER', 'reader', 'on', '>secret-word', '~*', '+@all', '-@write')
      const url = server.url.replace('redis://', 'redis://reader:secret-word@')
      const message = await refusal(emptyLedger(await connect(connectNodeRedis, url)))
      expect(message).toContain('allow it +@read')
      expect(message).not.toContain('secret-word')
    })

    it('the server is a replica', async () => {
      await using replica = await startRedis({ replicaof: `127.0.0.1 ${server.port}` })
      await vi.waitUntil(
        async () => (await replica.command('INFO', 'replication')).includes('link_status:up'),
        10_000,
      )
      const client = await connect(connectNodeRedis, replica.url)
      expect(await refusal(emptyLedger(client))).toContain('read-only replica')
    })

    it('the server is not there, and no signature is in the error', async () => {
      const { client, close } = await connectIoRedis('redis://user:secret-word@127.0.0.1:9')
      const ledger = emptyLedger(Object.assign(client, { options: { maxRetriesPerRequest: 1 } }))
      const request = newClaim()
      const error = await ledger.claim({ ...request, fingerprint: 'the signature' }).catch(thrown => thrown)
      await close()
      expect(`${error.message} ${JSON.stringify(error)}`).not.toMatch(/secret-word|the signature/)
    })
  })

  it('warns where a restart would forget, or nobody tells', async () => {
    await using forgetful = await startRedis({ appendonly: 'no' })
    const warnings: string[] = []
    const onWarning = (message: string) => warnings.push(message)
    await emptyLedger(await connect(connectNodeRedis, forgetful.url), { onWarning }).claim(newClaim())
    expect(warnings).toEqual([expect.stringContaining('appendonly no')])
    await forgetful.command('ACL', 'SETUSER', 'app', 'on', '>pass', '~*', '+@all', '-info')
    const url = forgetful.url.replace('redis://', 'redis://app:pass@')
    await emptyLedger(await connect(connectNodeRedis, url), { onWarning }).claim(newClaim())
    expect(warnings[1]).toContain('does not tell its maxmemory-policy')
  })
})

describe.runIf(isThere)('the ledger on a cluster of three primaries', () => {
  let cluster: RedisCluster
  beforeAll(async () => {
    cluster = await startRedisCluster()
  })
  afterAll(() => cluster[Symbol.asyncDispose]())

  describe.each(Object.keys(clusterClients))('by %s', name => {
    let connected: Connected
    beforeAll(async () => {
      const how = clusterClients[name]
      if (how) connected = await how(cluster.nodes.map(({ url }) => url))
    })
    afterAll(() => connected.close())
    for (const demand of settlementLedgerConformance(() => emptyLedger(connected.client)))
      it(demand.name, demand.run)

    it('spreads payments over all of them, and lists them by time', async () => {
      const prefix = `spread-${name}`
      const ledger = emptyLedger(connected.client, { prefix })
      const requests = Array.from({ length: 40 }, () => newClaim())
      for (const request of requests) await ledger.claim(request)
      const counts = await Promise.all(
        cluster.nodes.map(async node => (await keysOf(node, `${prefix}:*payment:*`)).length),
      )
      expect(Math.min(...counts)).toBeGreaterThan(0)
      expect(await all(ledger)).toHaveLength(40)
    })
  })
})

/** From then on the server knows the scripts. */
async function use(ledger: SettlementLedger): Promise<void> {
  const request = newClaim()
  await ledger.claim(request)
  await ledger.update({ ...request, settlement: settled })
  await ledger.get(request.key)
}

const newest = <T>(list: readonly T[]): T => list.at(-1) as T

/** The names of a server's keys. */
async function keysOf(server: RedisServer, pattern: string): Promise<string[]> {
  const answer = await server.command(
    'EVAL',
    "return table.concat(redis.call('KEYS', ARGV[1]), '\\n')",
    '0',
    pattern,
  )
  return answer.split('\r\n').slice(1).join('').split('\n').filter(Boolean)
}

/** All that waits to be forgotten has waited for long enough. */
async function timePasses(server: RedisServer, prefix: string): Promise<void> {
  for (const index of await keysOf(server, `${prefix}:*forget-at`)) {
    const script = `for _, key in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do redis.call('ZADD', KEYS[1], 1, key) end`
    await server.command('EVAL', script, '1', index)
  }
}

/** How often a client is called from now on. */
function countCalls(client: RedisClient): { count: number } {
  const calls = { count: 0 }
  const redis = client as unknown as { sendCommand(command: object): Promise<unknown> }
  const send = redis.sendCommand.bind(redis)
  redis.sendCommand = command => {
    calls.count++
    return send(command)
  }
  return calls
}

/** Two ledgers over the same entries; the answers of the second are lost. */
function twins(client: RedisClient): [SettlementLedger, SettlementLedger] {
  const prefix = `test-${++prefixes}`
  const redis = client as unknown as Record<'eval' | 'evalSha', (...args: unknown[]) => Promise<unknown>>
  const lossy = {
    eval: async (...args: unknown[]) => redis.eval(...args),
    evalSha: async (...args: unknown[]) => {
      await redis.evalSha(...args)
      if (JSON.stringify(args).includes('fingerprint')) throw new Error('the answer was lost')
      return redis.evalSha(...args)
    },
  }
  return [emptyLedger(client, { prefix }), emptyLedger(untyped(lossy), { prefix })]
}
