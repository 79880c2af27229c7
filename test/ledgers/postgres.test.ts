import { PGlite } from '@electric-sql/pglite'
import pg from 'pg'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import {
  type PostgresClient,
  type PostgresLedgerOptions,
  postgresLedger,
  postgresLedgerSchema,
} from '../../src/postgres/index.ts'
import { PostgresStore } from '../../src/postgres/store.ts'
import type { ClaimRequest } from '../../src/settlement/ledger.ts'
import { settlementLedgerConformance } from '../../src/testing/index.ts'
import { untyped } from '../untyped.ts'
import { newClaim, settled, unresolved } from './claims.ts'
import { hasPostgres, type Server, startPostgres } from './servers.ts'

describe('a ledger in PGlite', () => {
  const client = new PGlite()
  const ledger = postgresLedger({ client })
  beforeAll(() => ledger.migrate(), 60_000)
  afterAll(() => client.close())

  for (const { name, run } of settlementLedgerConformance(() => ledger)) it(name, run, 20_000)
})

describe('postgresLedger is refused', () => {
  it.each<[string, Partial<PostgresLedgerOptions>, string]>([
    [
      'without a client',
      { client: untyped(undefined) },
      'client: expected an object with query(text, values)',
    ],
    ['with a URL for a client', { client: untyped('postgres://me:hunter2@db/x') }, 'such as a Pool of pg'],
    ['with a table that is not a plain name', { table: 'x"; DROP TABLE y; --' }, 'table: expected letters'],
    ['with a table of a database', { table: 'a.b.c' }, 'table: expected letters'],
    ['with a table without a name', { table: '' }, 'table: expected letters'],
  ])('%s', (_, options, message) => {
    const client: PostgresClient = { query: async () => ({ rows: [] }) }
    const making = () => postgresLedger({ client, ...options })
    expect(making).toThrow(message)
    expect(making).not.toThrow('hunter2')
  })

  it('when its client does not answer with rows', async () => {
    const ledger = postgresLedger({ client: { query: untyped(async () => []) } })
    await expect(ledger.claim(newClaim())).rejects.toThrow(
      'the ledger in Postgres cannot be used: query(text, values) of the client does not answer with { rows }.',
    )
  })

  it.each([
    ['ECONNREFUSED', 'the server does not answer: check host, port and network of the connection'],
    ['28P01', 'the server refuses the user or the password'],
    ['3D000', 'there is no such database'],
    ['53300', 'the server has no connection left'],
  ])('with what to do when the connection fails with %s', async (code, message) => {
    const error = Object.assign(new Error('postgres://me:hunter2@db failed'), { code })
    const ledger = postgresLedger({ client: { query: () => Promise.reject(error) } })
    await expect(ledger.claim(newClaim())).rejects.toMatchObject({
      code: 'LEDGER_FAILED',
      message: expect.stringContaining(message),
    })
  })

  it('without the password that an error repeats', async () => {
    const query = () => Promise.reject(new Error('cannot reach postgres://me:hunter2@db:5432/x'))
    await expect(postgresLedger({ client: { query } }).get('key')).rejects.toThrow(
      'cannot be used: cannot reach postgres://db:5432/x.',
    )
  })
})

describe.runIf(hasPostgres())('a ledger in Postgres', { timeout: 30_000 }, () => {
  let server: Server
  let pool: pg.Pool
  beforeAll(async () => {
    server = await startPostgres()
    pool = new pg.Pool({ connectionString: server.url, max: 20 })
  }, 60_000)
  afterAll(async () => {
    await pool?.end()
    await server?.stop()
  })

  let tables = 0
  const newTable = () => `ledger_${process.pid}_${tables++}`
  const newLedger = async (table = newTable(), client: PostgresClient = pool) => {
    const ledger = postgresLedger({ client, table })
    await ledger.migrate()
    return ledger
  }
  const newStore = async (client: PostgresClient = pool, table = newTable()) => {
    const store = new PostgresStore(client, table)
    await new PostgresStore(pool, table).migrate()
    return store
  }

  describe('conforms:', () => {
    for (const { name, run } of settlementLedgerConformance(() => newLedger())) it(name, run)
  })

  describe('conforms where transactions are serializable:', () => {
    let strict: pg.Pool
    beforeAll(() => {
      strict = new pg.Pool({
        connectionString: server.url,
        options: '-c default_transaction_isolation=serializable',
        max: 20,
      })
    })
    afterAll(() => strict.end())
    for (const { name, run } of settlementLedgerConformance(() => newLedger(newTable(), strict)))
      it(name, run)
  })

  it('grants one of 50 claims over as many connections, again and again, and shows the others what it is now', async () => {
    const many = new pg.Pool({ connectionString: server.url, max: 50 })
    const store = await newStore(many)
    for (let round = 0; round < 40; round++) {
      const request = newClaim()
      const race = (rivals: number) =>
        Promise.all(
          Array.from({ length: rivals }, (_, index) =>
            store.claim({ ...request, claim: `${request.key}-${round}-${index}` }),
          ),
        )
      for (const before of [undefined, unresolved]) {
        const claims = await race(50)
        const granted = claims.filter(claim => claim.kind === 'claimed')
        expect(granted).toHaveLength(1)
        expect(granted[0]).toMatchObject({ before })
        for (const claim of claims)
          if (claim.kind === 'refused') expect(claim.entry.settlement).toEqual({ state: 'settling' })
        const entry = await store.get(request.key)
        expect(
          await store.update({ key: request.key, claim: entry?.claim ?? '', settlement: unresolved }),
        ).toBe(true)
      }
    }
    await many.end()
  })

  it('asks its database once for each claim, update and question', async () => {
    const asked: string[] = []
    const client: PostgresClient = {
      query: (text, values) => {
        asked.push(text)
        return pool.query(text, values)
      },
    }
    const store = await newStore(client)
    const request = newClaim()
    await store.get(request.key)
    const timesAsked = async (work: () => Promise<unknown>) => {
      asked.length = 0
      await work()
      return asked.length
    }
    expect(await timesAsked(() => store.claim(request))).toBe(1)
    expect(await timesAsked(() => store.claim({ ...request, claim: 'another' }))).toBe(1)
    expect(await timesAsked(() => store.update({ ...request, settlement: settled }))).toBe(1)
    expect(await timesAsked(() => store.get(request.key))).toBe(1)
    expect(await timesAsked(() => store.undelivered(request.query))).toBe(1)
  })

  it('judges leases by the clock of the database, whatever the clocks of the processes are', async () => {
    const ledger = await newLedger()
    const request = newClaim()
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() - 10 * 60_000 })
    try {
      const claimed = await ledger.claim({ ...request, leaseMs: 60_000 })
      vi.setSystemTime(Date.now() + 20 * 60_000)
      expect((await ledger.get(request.key))?.settlement).toEqual({ state: 'settling' })
      expect(await ledger.claim({ ...request, claim: 'another' })).toMatchObject({ kind: 'refused' })
      const [{ now }] = (await pool.query('SELECT extract(epoch FROM now()) * 1000 AS now')).rows
      expect(Math.abs(Number(now) - (claimed.kind === 'claimed' ? claimed.since : 0))).toBeLessThan(10_000)
    } finally {
      vi.useRealTimers()
    }
  })

  it.each(['claim', 'update', 'get', 'list', 'undelivered', 'prune'] as const)(
    'answers a %s though its connection is lost after the statement',
    async call => {
      let isLost = false
      const client: PostgresClient = {
        async query(text, values) {
          const answer = await pool.query(text, values)
          if (!isLost) return answer
          isLost = false
          throw new Error('Connection terminated unexpectedly')
        },
      }
      const store = await newStore(client)
      const request = newClaim()
      await store.claim(newClaim())
      if (call === 'update') await store.claim(request)
      isLost = true
      const answers = {
        claim: () => store.claim(request),
        update: () => store.update({ ...request, settlement: settled }),
        get: async () => (await store.get('nothing')) ?? 'nothing',
        list: async () => (await store.list({ limit: 10 })).entries.length,
        undelivered: async () => (await store.undelivered(request.query)).length,
        prune: () => store.prune({ olderThanMs: 0 }),
      }
      const expected = {
        claim: { kind: 'claimed', before: undefined },
        update: true,
        get: 'nothing',
        list: 1,
        undelivered: 0,
        prune: 0,
      }
      const answer: unknown = await answers[call]()
      if (call === 'claim') expect(answer).toMatchObject({ kind: 'claimed', before: undefined })
      else expect(answer).toBe(expected[call])
      expect(isLost).toBe(false)
    },
  )

  it('reads, for an export, where it may not write', async () => {
    const table = newTable()
    const ledger = await newLedger(table)
    const request = newClaim()
    await ledger.claim(request)
    const options = '-c default_transaction_read_only=on'
    const replica = new pg.Pool({ connectionString: server.url, options })
    const reader = postgresLedger({ client: replica, table })
    expect((await reader.list({ limit: 10 })).entries.map(({ key }) => key)).toEqual([request.key])
    await expect(reader.claim(newClaim())).rejects.toThrow('the database is read-only')
    await replica.end()
  })

  it('lets ten replicas migrate at the same time', async () => {
    const table = newTable()
    await Promise.all(Array.from({ length: 10 }, () => newLedger(table)))
    const ledger = await newLedger(table)
    expect((await ledger.claim(newClaim())).kind).toBe('claimed')
  })

  it('works in a table that the seller made of its SQL, in a schema of its own', async () => {
    await pool.query('CREATE SCHEMA IF NOT EXISTS shop')
    await pool.query(postgresLedgerSchema('shop.Payments'))
    await pool.query(postgresLedgerSchema('shop.Payments'))
    const ledger = postgresLedger({ client: pool, table: 'shop.Payments' })
    expect((await ledger.claim(newClaim())).kind).toBe('claimed')
    await ledger.migrate()
    expect((await ledger.list({ limit: 10 })).entries).toHaveLength(1)
  })

  describe('refuses before anything is sent to a facilitator', () => {
    const claimAs = async (options: string, table: string, user = 'postgres') => {
      const url = new URL(server.url)
      url.username = user
      const other = new pg.Pool({ connectionString: url.href, options, max: 1 })
      try {
        return await postgresLedger({ client: other, table }).claim(newClaim())
      } finally {
        await other.end()
      }
    }

    it('without a table', async () => {
      const ledger = postgresLedger({ client: pool, table: 'not_made' })
      const claiming = ledger.claim(newClaim())
      await expect(claiming).rejects.toMatchObject({ code: 'LEDGER_FAILED' })
      await expect(claiming).rejects.toThrow(
        'there is no table "not_made": call migrate() of the ledger once, or run the SQL of postgresLedgerSchema().',
      )
      await newLedger('not_made')
      expect((await ledger.claim(newClaim())).kind).toBe('claimed')
    })

    it('with a table of another version, which it leaves as it is', async () => {
      const table = newTable()
      await newLedger(table)
      const prefix = 'Settlements of x402-facilitator-aggregator, version '
      await pool.query(`COMMENT ON TABLE ${table} IS '${prefix}2'`)
      const ledger = postgresLedger({ client: pool, table })
      const message = `the table "${table}" is of version 2, and this release needs version 1`
      await expect(ledger.claim(newClaim())).rejects.toThrow(message)
      await expect(ledger.migrate()).rejects.toThrow(message)
    })

    it("with somebody else's table", async () => {
      const table = newTable()
      await pool.query(`CREATE TABLE ${table} (id integer)`)
      await expect(postgresLedger({ client: pool, table }).migrate()).rejects.toThrow("is not a ledger's")
    })

    it('without the right to write', async () => {
      const table = newTable()
      await newLedger(table)
      await pool.query('DROP ROLE IF EXISTS reader').catch(() => {})
      await pool.query(`CREATE ROLE reader LOGIN; GRANT SELECT ON ${table} TO reader`)
      await expect(claimAs('', table, 'reader')).rejects.toThrow(
        `the role reader may not write: GRANT SELECT, INSERT, UPDATE, DELETE ON "${table}" to it`,
      )
      await pool.query(`REVOKE ALL ON ${table} FROM reader; DROP ROLE reader`)
    })

    it.each([
      ['in a database that is read-only', 'default_transaction_read_only=on', 'the database is read-only'],
      ['where a crash may forget a payment', 'synchronous_commit=off', 'synchronous_commit is off'],
    ])('%s', async (_, setting, message) => {
      const table = newTable()
      await newLedger(table)
      await expect(claimAs(`-c ${setting}`, table)).rejects.toThrow(message)
    })

    it('in a table that a crash empties', async () => {
      const table = newTable()
      await newLedger(table)
      await pool.query(`ALTER TABLE ${table} SET UNLOGGED`)
      await expect(postgresLedger({ client: pool, table }).claim(newClaim())).rejects.toThrow('is unlogged')
    })

    it('where nobody listens', async () => {
      const nobody = new pg.Pool({ connectionString: 'postgres://me:hunter2@127.0.0.1:9/x' })
      const claiming = postgresLedger({ client: nobody }).claim(newClaim())
      await expect(claiming).rejects.toThrow('the server does not answer')
      await expect(claiming).rejects.not.toThrow('hunter2')
      await nobody.end()
    })
  })

  it('finds what a buyer is owed, and what is unresolved, by an index', async () => {
    const table = newTable()
    const asked: [string, (string | null)[]][] = []
    const client: PostgresClient = {
      query: (text, values) => {
        asked.push([text, values])
        return pool.query(text, values)
      },
    }
    const store = await newStore(client, table)
    await pool.query(`INSERT INTO ${table} SELECT 'key' || n, 'f', now() - n * interval '1 minute', 'c',
      CASE WHEN n % 1000 = 0 THEN 'unresolved' ELSE 'settled' END, NULL, '{"state":"unresolved"}', NULL,
      'eip155:8453', 'asset', 'payer' || n % 500, 'payee', 1, '{"amount":"1"}', now() FROM generate_series(1, 20000) AS n`)
    await pool.query(`ANALYZE ${table}`)
    const { query }: ClaimRequest = newClaim()
    await store.undelivered(query)
    await store.list({ states: ['unresolved'], limit: 100 })
    await store.list({ from: Date.now() - 3_600_000, limit: 100 })
    const explained = asked.slice(-3).map(async ([text, values]) => {
      const plan = await pool.query(`EXPLAIN ${text}`, values)
      return JSON.stringify(plan.rows)
    })
    const [byPayer, unfinished, byTime] = await Promise.all(explained)
    expect(byPayer).toContain(`${table}_by_payer`)
    expect(unfinished).toContain(`${table}_unfinished`)
    expect(byTime).toContain(`${table}_by_time`)
  })

  it('counts an authorization without an end as usable for 24 hours after its first claim', async () => {
    const table = newTable()
    const ledger = await newLedger(table)
    const request = newClaim()
    const query = { ...request.query, validBefore: undefined }
    await ledger.claim({ ...request, query })
    await ledger.update({ ...request, settlement: unresolved })
    await ledger.claim({ ...request, query, claim: 'again' })
    const { rows } = await pool.query(
      `SELECT extract(epoch FROM authorization_ends_at - first_claimed_at)::float8 AS lifetime FROM ${table}`,
    )
    expect(rows[0].lifetime).toBeCloseTo(24 * 60 * 60, 1)
  })

  it('forgets more than a batch', async () => {
    const table = newTable()
    const ledger = await newLedger(table)
    await pool.query(`INSERT INTO ${table} SELECT 'key' || n, 'f', now() - interval '2 hours', 'c', 'settled', NULL,
      '{"state":"settled"}', NULL, 'eip155:8453', 'asset', 'payer', 'payee', 1, '{}', now() - interval '1 hour'
      FROM generate_series(1, 6000) AS n`)
    expect(await ledger.prune?.({ olderThanMs: 3_600_000 })).toBe(6_000)
    expect(await ledger.prune?.({ olderThanMs: 3_600_000 })).toBe(0)
  })
})
