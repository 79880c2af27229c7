import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { chmod, readFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { type Database, openDatabase } from '../../src/sqlite/driver.ts'
import { sqliteFault } from '../../src/sqlite/faults.ts'
import { sqliteLedger } from '../../src/sqlite/index.ts'
import { SqliteStore } from '../../src/sqlite/store.ts'
import { settlementLedgerConformance } from '../../src/testing/index.ts'
import { untyped } from '../untyped.ts'
import { newClaim, settled, unresolved } from './claims.ts'
import { hasSqlite } from './servers.ts'

const folder = mkdtempSync(join(tmpdir(), 'x402-sqlite-'))
afterAll(() => rmSync(folder, { recursive: true }))

const isRoot = process.getuid?.() === 0

let files = 0
const newPath = () => join(folder, `${files++}.db`)

describe('sqliteLedger is refused', () => {
  it.each([[undefined], [''], [7]])('with %j for a path', path => {
    expect(() => sqliteLedger({ path: untyped(path) })).toThrow('path: expected the path of a file')
  })
})

describe('what each driver calls an error is explained', () => {
  it.each([
    ['better-sqlite3', { code: 'SQLITE_READONLY_DBMOVED' }, 'x.db is read-only'],
    ['bun:sqlite', { code: 'SQLITE_FULL', errno: 13 }, 'the disk of x.db is full'],
    ['node:sqlite', { code: 'ERR_SQLITE_ERROR', errcode: 1032 }, 'x.db is read-only'],
    ['node:sqlite', { code: 'ERR_SQLITE_ERROR', errcode: 11 }, 'x.db is damaged'],
    ['Deno', { code: 'ERR_SQLITE_ERROR', message: 'database is locked' }, 'another process holds x.db'],
  ])('of %s: %j', (_, error, message) => {
    expect(sqliteFault(Object.assign(new Error(), error), 'x.db').message).toContain(message)
  })
})

describe.runIf(await hasSqlite())('a ledger in SQLite', { timeout: 30_000 }, () => {
  describe('conforms:', () => {
    for (const { name, run } of settlementLedgerConformance(() => sqliteLedger({ path: newPath() })))
      it(name, run)
  })

  describe('conforms where another connection has the file open:', () => {
    const path = newPath()
    for (const { name, run } of settlementLedgerConformance(() => sqliteLedger({ path }))) it(name, run)
  })

  it('has what was recorded before a restart', async () => {
    const path = newPath()
    const request = newClaim()
    const first = sqliteLedger({ path })
    await first.claim(request)
    await first.update({ ...request, settlement: settled })
    await first.close()
    const second = sqliteLedger({ path })
    expect((await second.get(request.key))?.settlement).toEqual(settled)
    expect(await second.claim({ ...request, claim: 'another' })).toMatchObject({ kind: 'refused' })
  })

  it('grants each payment to one of several processes that begin at the same time', async () => {
    const keys = Array.from({ length: 100 }, (_, index) => `key-${index}`)
    const env = { ...process.env, LEDGER_PATH: newPath(), KEYS: keys.join(',') }
    const main = fileURLToPath(new URL('sqlite-process.ts', import.meta.url))
    const begin = () => promisify(execFile)(process.execPath, ['--import', 'tsx', main], { env })
    const outputs = await Promise.all([begin(), begin(), begin()])
    const granted = outputs.flatMap(({ stdout }) => stdout.trim().split(',').filter(Boolean))
    expect(granted.sort()).toEqual(keys.sort())
  })

  it('judges leases by the clock of SQLite, whatever the clock of the process is', async () => {
    const ledger = sqliteLedger({ path: newPath() })
    const request = newClaim()
    const realNow = Date.now()
    vi.useFakeTimers({ toFake: ['Date'], now: realNow - 10 * 60_000 })
    try {
      const claimed = await ledger.claim({ ...request, leaseMs: 60_000 })
      vi.setSystemTime(realNow + 10 * 60_000)
      expect((await ledger.get(request.key))?.settlement).toEqual({ state: 'settling' })
      expect(await ledger.claim({ ...request, claim: 'another' })).toMatchObject({ kind: 'refused' })
      expect(Math.abs((claimed.kind === 'claimed' ? claimed.since : 0) - realNow)).toBeLessThan(10_000)
    } finally {
      vi.useRealTimers()
    }
  })

  it('grants the same claim once more, with a new lease', async () => {
    const store = new SqliteStore(newPath())
    const request = { ...newClaim(), leaseMs: 1 }
    await store.claim(request)
    await vi.waitFor(async () =>
      expect(await store.get(request.key)).toMatchObject({ settlement: unresolvedOnly }),
    )
    expect(await store.claim({ ...request, leaseMs: 60_000 })).toMatchObject({
      kind: 'claimed',
      before: undefined,
    })
    expect((await store.get(request.key))?.settlement).toEqual({ state: 'settling' })
  })
  const unresolvedOnly = { state: 'unresolved' }

  it('waits for another process that writes, and stays able to do other things', async () => {
    const path = newPath()
    const ledger = sqliteLedger({ path })
    await ledger.migrate()
    const other = await holding(path)
    const claiming = ledger.claim(newClaim())
    const turns = await countTurnsUntil(5)
    expect(turns).toBe(5)
    other.exec('COMMIT')
    expect((await claiming).kind).toBe('claimed')
    other.close()
  })

  it('refuses, with nothing sent to a facilitator, while another process holds the file for seconds', async () => {
    const path = newPath()
    const store = new SqliteStore(path)
    await store.migrate()
    const other = await holding(path)
    await expect(store.claim(newClaim())).rejects.toMatchObject({
      code: 'LEDGER_FAILED',
      message: `the ledger in SQLite cannot be used: another process holds ${path} for too long.`,
    })
    other.exec('ROLLBACK')
    other.close()
    expect((await store.claim(newClaim())).kind).toBe('claimed')
  })

  it('counts an authorization without an end as usable for 24 hours after its first claim', async () => {
    const path = newPath()
    const ledger = sqliteLedger({ path })
    const request = newClaim()
    const query = { ...request.query, validBefore: undefined }
    await ledger.claim({ ...request, query })
    await ledger.update({ ...request, settlement: unresolved })
    await ledger.claim({ ...request, query, claim: 'again' })
    const database = await openDatabase(path)
    const { lifetime } = database
      .prepare('SELECT authorization_ends_at - first_claimed_at AS lifetime FROM x402_settlements')
      .get() as { lifetime: number }
    database.close()
    expect(lifetime).toBe(24 * 60 * 60_000)
  })

  it('forgets more than a batch', async () => {
    const path = newPath()
    const ledger = sqliteLedger({ path })
    await ledger.migrate()
    const database = await openDatabase(path)
    database.exec(`WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 2500)
      INSERT INTO x402_settlements SELECT 'key' || n, 'f', 1000, 'c', 'settled', NULL, '{"state":"settled"}', NULL,
      'eip155:8453', 'asset', 'payer', 'payee', '1', '{"amount":"1"}', 2000 FROM n`)
    database.close()
    expect(await ledger.prune?.({ olderThanMs: 3_600_000 })).toBe(2_500)
    expect(await ledger.prune?.({ olderThanMs: 3_600_000 })).toBe(0)
  })

  it('finds what a buyer is owed, and what is unresolved, by an index', async () => {
    const path = newPath()
    await sqliteLedger({ path }).migrate()
    const database = await openDatabase(path)
    const sql = await import('../../src/sqlite/statements.ts')
    const planOf = (statement: string, ...values: (string | number)[]) =>
      JSON.stringify(database.prepare(`EXPLAIN QUERY PLAN ${statement}`).all(...values))
    expect(planOf(sql.selectUndelivered, 'a', 'b', 'c', 'd')).toContain('x402_settlements_by_payer')
    expect(planOf(sql.selectPage(['unresolved'], []), 1)).toContain('x402_settlements_unfinished')
    expect(planOf(sql.selectPage(undefined, ['first_claimed_at >= ?']), 1, 1)).toContain(
      'x402_settlements_by_time',
    )
    database.close()
  })

  describe('refuses before anything is sent to a facilitator', () => {
    it('in a folder that is not there', async () => {
      const path = join(folder, 'nowhere', 'x402.db')
      await expect(sqliteLedger({ path }).claim(newClaim())).rejects.toThrow(
        `${path} cannot be opened: its folder must exist, and the process must be allowed to write there.`,
      )
    })

    it('with a file that is no database', async () => {
      const path = newPath()
      writeFileSync(path, 'not a database, but a text that is long enough to be one'.repeat(20))
      await expect(sqliteLedger({ path }).claim(newClaim())).rejects.toThrow('is not a database of SQLite')
      expect(await readFile(path, 'utf8')).toContain('not a database')
    })

    it('in a database in memory, which a restart would empty', async () => {
      await expect(sqliteLedger({ path: ':memory:' }).claim(newClaim())).rejects.toThrow(
        'name a file on a disk',
      )
    })

    it('with a table of another version, which it leaves as it is', async () => {
      const path = newPath()
      await sqliteLedger({ path }).migrate()
      const database = await openDatabase(path)
      database.exec('UPDATE x402_settlements_version SET version = 2')
      database.close()
      await expect(sqliteLedger({ path }).claim(newClaim())).rejects.toThrow(
        `${path} is of version 2, and this release needs version 1`,
      )
    })

    // Of root the permissions of a file are not asked.
    const unlessRoot = isRoot ? ' (left out: the tests run as root, who may write any file)' : ''
    it.skipIf(isRoot)(`with a file that may not be written${unlessRoot}`, async () => {
      const path = newPath()
      const ledger = sqliteLedger({ path })
      await ledger.migrate()
      await ledger.close()
      await chmod(path, 0o444)
      await expect(ledger.claim(newClaim())).rejects.toThrow('is read-only')
    })
  })

  it('opens the file once it can be opened', async () => {
    const path = newPath()
    writeFileSync(path, 'x'.repeat(2_000))
    const ledger = sqliteLedger({ path })
    await expect(ledger.claim(newClaim())).rejects.toThrow()
    rmSync(path)
    const request = newClaim()
    expect((await ledger.claim(request)).kind).toBe('claimed')
    expect(await ledger.update({ ...request, settlement: unresolved })).toBe(true)
  })
})

/** A connection of somebody else, in the middle of a transaction. */
async function holding(path: string): Promise<Database> {
  const database = await openDatabase(path)
  database.exec('BEGIN IMMEDIATE')
  return database
}

/** How often the event loop comes round, up to a number. */
async function countTurnsUntil(most: number): Promise<number> {
  let turns = 0
  while (turns < most) {
    await new Promise(resolve => setImmediate(resolve))
    turns++
  }
  return turns
}
