import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, describe, expect, it, vi } from 'vitest'
import { openLedger } from '../../src/cli/ledger.ts'
import { pruneDaily } from '../../src/cli/prune.ts'
import { MemoryLedger } from '../../src/index.ts'
import { openDatabase } from '../../src/sqlite/driver.ts'
import { sqliteLedger } from '../../src/sqlite/index.ts'
import { startGatewayProcess } from '../bed/gateway-process.ts'
import { hasServer } from '../bed/ledger-servers.ts'
import { redisServer, startRedis } from '../bed/redis.ts'
import { newClaim, settled, unresolved } from './claims.ts'
import { hasPostgres, hasSqlite, startPostgres } from './servers.ts'

const tsx = import.meta.resolve('tsx')
const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'x402-cli-'))
afterAll(() => rmSync(folder, { recursive: true }))
let files = 0
const newPath = () => join(folder, `${files++}.db`)

const run = (args: string[], env: Record<string, string> = {}, cwd = process.cwd()) =>
  promisify(execFile)(process.execPath, ['--import', tsx, main, ...args], {
    cwd,
    env: { ...process.env, ...env },
    maxBuffer: 64 * 1024 * 1024,
  }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )

const isSqliteThere = await hasSqlite()
const withoutSqlite = `--import ${new URL('without-sqlite.mjs', import.meta.url).href}`
const isRedisThere = hasServer('Redis, of the command line,', 'redis-server or valkey-server', !!redisServer)
const withoutPackages = (...names: string[]) => ({
  NODE_OPTIONS: `--import ${new URL('without-packages.mjs', import.meta.url).href}`,
  WITHOUT_PACKAGES: names.join(),
})
/** A server with a password, and its address. */
const startGuardedRedis = async (settings: Readonly<Record<string, string>> = {}) => {
  const server = await startRedis(settings)
  await server.command('CONFIG', 'SET', 'requirepass', 'hunter2')
  return { server, address: server.url.replace('//', '//:hunter2@') }
}
const facilitator = { FACILITATOR_1_URL: 'http://127.0.0.1:9' }

describe('the address of a ledger', () => {
  it.each([
    ['sqlite:./x402.db', 'sqlite:./x402.db'],
    ['postgres://me:hunter2@db.example:5433/shop?sslmode=require', 'postgres at db.example:5433/shop'],
    ['postgresql://db.example/shop', 'postgres at db.example/shop'],
    ['memory', 'memory'],
  ])('%s is shown as %s', async (address, name) => {
    const named = await openLedger(address)
    expect(named.name).toBe(name)
    await named.close()
  })

  it.each([
    './x402.db',
    'mysql://me:hunter2@db',
    'postgres:me:hunter2@db',
    '',
    'sqlite:',
    'redis:me:hunter2@db',
    'redis://me:hunter2@db/shop',
    'redis://me:hunter2%@db/0',
    'rediss://',
  ])('%j is refused without repeating it, as it may hold a password', async address => {
    await expect(openLedger(address)).rejects.toThrow('--ledger')
    await expect(openLedger(address)).rejects.not.toThrow('hunter2')
  })
})

describe('a ledger is pruned', () => {
  it('until nothing is left to forget, at the start and once a day, whatever happens', async () => {
    vi.useFakeTimers()
    const parts = [5_000, 300, 0]
    const asked: number[] = []
    const logged: string[] = []
    class Growing extends MemoryLedger {
      async prune({ olderThanMs }: { readonly olderThanMs: number }) {
        asked.push(olderThanMs)
        const part = parts.shift()
        if (part === undefined) throw new Error('the database is down')
        return part
      }
    }
    const end = pruneDaily(new Growing(), 30, message => logged.push(message))
    await vi.advanceTimersByTimeAsync(1)
    expect(asked).toEqual(Array(3).fill(30 * 86_400_000))
    expect(logged).toEqual(['forgot 5300 payments that are over and older than 30 days'])
    await vi.advanceTimersByTimeAsync(86_400_000)
    expect(logged[1]).toBe('old payments could not be forgotten: the database is down')
    end()
    await vi.advanceTimersByTimeAsync(2 * 86_400_000)
    expect(asked).toHaveLength(4)
    vi.useRealTimers()
  })
})

// Each starts a process or two, which takes seconds on a busy machine.
describe('serve', { timeout: 60_000 }, () => {
  it.runIf(isSqliteThere)('records payments in the file that it is given, and says so', async () => {
    const path = newPath()
    const gateway = await startGatewayProcess({ ...facilitator, FACILITATOR_LEDGER: `sqlite:${path}` })
    await vi.waitFor(() => expect(gateway.said()).toContain(`records payments in sqlite:${path}`))
    expect(existsSync(path)).toBe(true)
    expect(await gateway.end('SIGTERM')).toBe(0)
  })

  it('has a ledger in memory where there is no SQLite, and says so', async () => {
    const gateway = await startGatewayProcess({
      ...facilitator,
      FACILITATOR_LEDGER: '',
      NODE_OPTIONS: withoutSqlite,
    })
    await vi.waitFor(() => expect(gateway.said()).toContain('records payments in memory'))
    expect(gateway.said()).toContain('a restart forgets them: npm install better-sqlite3')
    await gateway.end('SIGKILL')
  })

  it.runIf(hasPostgres())('records payments in Postgres, and makes its table', async () => {
    const server = await startPostgres()
    const url = new URL(server.url)
    url.password = 'hunter2'
    const gateway = await startGatewayProcess(facilitator, ['--ledger', url.href, '--keep-days', '7'])
    await vi.waitFor(() =>
      expect(gateway.said()).toContain(`records payments in postgres at ${url.host}/postgres`),
    )
    expect(gateway.said()).not.toContain('hunter2')
    expect(await gateway.end('SIGTERM')).toBe(0)
    const { code, stdout } = await run(['export', '--ledger', url.href, '--format', 'json'])
    expect([code, JSON.parse(stdout)]).toEqual([0, []])
    await server.stop()
  })

  it.runIf(isRedisThere).each([
    ['redis', []],
    ['ioredis', ['redis']],
  ])('records payments in Redis by %s, and export reads them', async (_, missing) => {
    const { server, address } = await startGuardedRedis()
    await using _server = server
    const gateway = await startGatewayProcess({
      ...facilitator,
      ...withoutPackages(...missing),
      FACILITATOR_LEDGER: `${address}/1`,
    })
    await vi.waitFor(() =>
      expect(gateway.said()).toContain(`records payments in redis at 127.0.0.1:${server.port}/1`),
    )
    expect(gateway.said()).not.toContain('hunter2')
    expect(await gateway.end('SIGTERM')).toBe(0)

    const request = newClaim()
    const { ledger, close } = await openLedger(`${address}/1`)
    await ledger?.claim(request)
    await ledger?.update({ ...request, settlement: settled })
    await close()
    const { code, stdout } = await run(
      ['export', '--ledger', `${address}/1`, '--format', 'json'],
      withoutPackages(...missing),
    )
    expect([code, JSON.parse(stdout)]).toMatchObject([0, [{ key: request.key, state: 'settled' }]])
  })

  it('says which package a ledger in Redis needs', async () => {
    const { code, stderr } = await run(['serve', '--ledger', 'redis://me:hunter2@127.0.0.1:9'], {
      ...facilitator,
      ...withoutPackages('redis', 'ioredis'),
    })
    expect([code, stderr]).toEqual([
      2,
      'x402-aggregator: --ledger redis://… needs a client of Redis: npm install redis, or ioredis\n',
    ])
  })

  it.runIf(isRedisThere)(
    'does not listen where Redis would forget payments, or refuses the password',
    async () => {
      const { server, address } = await startGuardedRedis({ 'maxmemory-policy': 'allkeys-lru' })
      await using _server = server
      const refusal = async (ledger: string, missing: string[] = []) => {
        const env = { ...facilitator, ...withoutPackages(...missing), PORT: '0' }
        const { code, stderr } = await run(['serve', '--ledger', ledger], env)
        expect(code).toBe(2)
        expect(stderr).not.toMatch(/hunter/)
        expect(stderr.trim().split('\n')).toHaveLength(1)
        return stderr
      }
      expect(await refusal(address)).toContain('maxmemory-policy allkeys-lru')
      for (const missing of [[], ['redis']])
        expect(await refusal(address.replace('hunter2', 'hunter3'), missing)).toContain(
          'Redis wants another user name or password',
        )
    },
  )

  it.runIf(isSqliteThere)(
    'does not listen where its file cannot be made, and says what to give instead',
    async () => {
      const cwd = mkdtempSync(join(folder, 'serve-'))
      mkdirSync(join(cwd, 'x402.db'))
      const { code, stderr } = await run(
        ['serve'],
        { ...facilitator, PORT: '0', FACILITATOR_LEDGER: '' },
        cwd,
      )
      expect(code).toBe(2)
      expect(stderr).toContain('./x402.db cannot be opened')
      expect(stderr).toContain('Give --ledger another file, or memory.')
      expect(stderr.trim().split('\n')).toHaveLength(1)
    },
  )

  it.each([
    ['postgres://me:hunter2@127.0.0.1:9/shop', 'the server does not answer: check host, port and network'],
    ['redis://me:hunter2@127.0.0.1:9', 'Redis gives no answer, or a wrong one (connect ECONNREFUSED'],
    ['redis-like://me:hunter2@db', '--ledger: expected sqlite:./x402.db'],
    ['sqlite:/nowhere/x402.db', 'its folder must exist'],
  ])('does not listen with the ledger %s', async (address, message) => {
    const { code, stderr } = await run(['serve', '--ledger', address], { ...facilitator, PORT: '0' })
    expect(code).toBe(2)
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('hunter2')
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })
})

describe.runIf(isSqliteThere)('export', { timeout: 60_000 }, () => {
  const header = 'time,network,asset,amount,payer,payee,transaction,facilitator,state,key'
  const readyLedger = async () => {
    const path = newPath()
    const ledger = sqliteLedger({ path })
    await ledger.migrate()
    return { path, address: `sqlite:${path}`, ledger }
  }

  it('writes a payment per line, the oldest first', async () => {
    const { address, ledger } = await readyLedger()
    const [first, second] = [newClaim(), newClaim()]
    await ledger.claim(first)
    await ledger.update({ ...first, settlement: settled })
    await vi.waitUntil(async () => {
      const { entries } = await ledger.list({ limit: 1 })
      return Date.now() > (entries[0]?.since ?? 0) + 1
    })
    await ledger.claim(second)
    await ledger.update({ ...second, settlement: unresolved })
    await ledger.close()
    const { code, stdout } = await run(['export', '--ledger', address])
    expect(code).toBe(0)
    const [head, ...lines] = stdout.trim().split('\r\n')
    expect(head).toBe(header)
    expect(lines).toHaveLength(2)
    expect(lines[0]).toMatch(
      /^\d{4}-\d\d-\d\dT[\d:.]+Z,eip155:8453,0xAbCd,10000,0xEf01,0x2345,0x01,one,settled,eip3009\|/,
    )
    expect(lines[1]).toContain(`,0x02,,unresolved,${second.key}`)
    const json = await run(['export', '--format', 'json'], { FACILITATOR_LEDGER: address })
    expect(JSON.parse(json.stdout)).toMatchObject([
      { state: 'settled', facilitator: 'one' },
      { state: 'unresolved' },
    ])
    const ndjson = await run(['export', '--format', 'ndjson', '--ledger', address])
    expect(
      ndjson.stdout
        .trim()
        .split('\n')
        .map(line => JSON.parse(line).key),
    ).toEqual([first.key, second.key])
  })

  it('leaves out what is older or newer than asked for, page by page', async () => {
    const { path, address } = await readyLedger()
    const database = await openDatabase(path)
    const now = Date.now()
    database.exec(`WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n < 2999)
      INSERT INTO x402_settlements SELECT 'key' || n, 'f', ${now} - n * 60000, 'c', 'settled', NULL,
      '{"state":"settled","transaction":"0x01"}', NULL, 'eip155:8453', 'asset', 'payer', 'payee', '1',
      '{"network":"eip155:8453","asset":"asset","payTo":"payee","amount":"1"}', 2000 FROM n`)
    database.close()
    const linesOf = async (...args: string[]) =>
      (await run(['export', '--ledger', address, '--format', 'ndjson', ...args])).stdout
        .split('\n')
        .filter(Boolean)
    expect(new Set(await linesOf()).size).toBe(3_000)
    expect(await linesOf('--since', '90s')).toHaveLength(2)
    const until = new Date(now - 2_990 * 60_000).toISOString()
    expect(await linesOf('--until', until)).toHaveLength(9)
  })

  it('gives a spreadsheet no formula to run, and a terminal nothing to obey', async () => {
    const { address, ledger } = await readyLedger()
    const request = newClaim()
    const evil = { asset: '=HYPERLINK("http://evil","x")', payTo: '@SUM(1,2)', payer: '\u001b[2J+1' }
    await ledger.claim({ ...request, query: { ...request.query, ...evil } })
    await ledger.close()
    const { stdout } = await run(['export', '--ledger', address])
    const [, line] = stdout.split('\r\n')
    expect(line).toContain(`,"'=HYPERLINK(""http://evil"",""x"")",10000,\\u001b[2J+1,"'@SUM(1,2)",`)
  })

  it.each([
    [['--format', 'xml'], '--format: expected csv, json, ndjson, got "xml"'],
    [
      ['--since', 'yesterday'],
      '--since: expected a time such as 24h, 30d or 2026-01-31T00:00:00Z, got "yesterday"',
    ],
    [['--ledger', 'memory'], '--ledger memory: it is forgotten with its process'],
    [['--ledger', 'sqlite:./no-such.db'], '--ledger sqlite:./no-such.db: there is no such file'],
    [['--ledger', 'me:hunter2'], '--ledger: expected sqlite:./x402.db'],
  ])('%j ends with one line and its remedy', async (args, message) => {
    const { code, stderr } = await run(['export', ...args])
    expect(code).toBe(2)
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('hunter2')
    expect(stderr.trim().split('\n')).toHaveLength(1)
    expect(existsSync('no-such.db')).toBe(false)
  })

  it('says what a runtime without SQLite needs', async () => {
    const { address, ledger } = await readyLedger()
    await ledger.close()
    const { code, stderr } = await run(['export', '--ledger', address], { NODE_OPTIONS: withoutSqlite })
    expect(code).toBe(2)
    expect(stderr).toContain(
      'this runtime has no SQLite: use Node.js 22.13 or newer, Bun or Deno, or npm install better-sqlite3.',
    )
  })

  it('says what is wrong with a file that is no ledger', async () => {
    const path = newPath()
    writeFileSync(path, 'not a database, but text'.repeat(100))
    const { code, stderr } = await run(['export', '--ledger', `sqlite:${path}`])
    expect([code, stderr]).toEqual([2, expect.stringContaining('is not a database of SQLite')])
  })
})
