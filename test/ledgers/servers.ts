/** Servers for the tests of ledgers: those that the environment names, or of the programs that are installed here. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chownSync, existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { hasDriver } from '../../src/sqlite/driver.ts'
import { hasServer } from '../bed/ledger-servers.ts'

export interface Server {
  readonly url: string
  stop(): Promise<void>
}

const programsOfPostgres = 'initdb and postgres: apt-get install postgresql, or set TEST_POSTGRES_URL'

/** Whether the tests can have a Postgres; says so where they cannot. */
export function hasPostgres(): boolean {
  const isThere = Boolean(process.env.TEST_POSTGRES_URL || postgresFolder())
  return hasServer('Postgres', programsOfPostgres, isThere)
}

/** @throws where there is none, saying what to do */
export async function startPostgres(): Promise<Server> {
  const given = process.env.TEST_POSTGRES_URL
  if (given) return { url: given, stop: async () => {} }
  const programs = postgresFolder()
  if (programs === undefined) throw new Error(`there is no ${programsOfPostgres}`)
  const folder = mkdtempSync(join(tmpdir(), 'x402-postgres-'))
  const user = unprivileged()
  if (user) chownSync(folder, user.uid, user.gid)
  const data = join(folder, 'data')
  const auth = ['--auth=trust', '--username=postgres', '--no-sync', '--encoding=UTF8', '--locale=C']
  execFileSync(join(programs, 'initdb'), ['-D', data, ...auth], { ...user, cwd: folder, stdio: 'ignore' })
  const port = await freePort()
  const settings = ['fsync=off', 'listen_addresses=127.0.0.1', 'max_connections=200'].flatMap(one => [
    '-c',
    one,
  ])
  const server = spawn(join(programs, 'postgres'), ['-D', data, '-k', folder, '-p', `${port}`, ...settings], {
    ...user,
    cwd: folder,
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const end = () => server.kill('SIGKILL')
  process.on('exit', end)
  await ready(server, /ready to accept connections/)
  return {
    url: `postgres://postgres@127.0.0.1:${port}/postgres`,
    async stop() {
      process.off('exit', end)
      const ended = new Promise(resolve => server.once('exit', resolve))
      // Lets the clients' connections end first.
      server.kill('SIGTERM')
      await ended
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

function postgresFolder(): string | undefined {
  const ofDebian = '/usr/lib/postgresql'
  const versions = existsSync(ofDebian) ? readdirSync(ofDebian).sort().reverse() : []
  const folders = [
    ...versions.map(version => join(ofDebian, version, 'bin')),
    ...(process.env.PATH ?? '').split(delimiter),
  ]
  return folders.find(folder => ['initdb', 'postgres'].every(program => existsSync(join(folder, program))))
}

/** Postgres does not run as root: it gets the user that Debian made for it, or nobody. */
function unprivileged(): { uid: number; gid: number } | undefined {
  if (process.getuid?.() !== 0) return undefined
  const lines = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map(line => line.split(':'))
  const [, , uid, gid] =
    lines.find(([name]) => name === 'postgres') ?? lines.find(([name]) => name === 'nobody') ?? []
  if (uid === undefined || gid === undefined)
    throw new Error('Postgres: there is no user "postgres" or "nobody"')
  return { uid: Number(uid), gid: Number(gid) }
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer()
    server.once('error', reject)
    server.listen(0, '127.0.0.1', () => {
      const { port } = server.address() as AddressInfo
      server.close(() => resolve(port))
    })
  })
}

function ready(server: ChildProcess, sign: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let output = ''
    server.stderr?.on('data', chunk => {
      output += chunk
      if (sign.test(output)) resolve()
    })
    server.once('error', reject)
    server.once('exit', code => reject(new Error(`the server ended with code ${code}:\n${output}`)))
  })
}

/** Whether this runtime has SQLite; says so where it has not. */
export async function hasSqlite(): Promise<boolean> {
  return hasServer('SQLite', 'node:sqlite (Node.js 22.13) and no better-sqlite3', await hasDriver())
}
