/** The examples, and how each is started. */
import { readFile } from 'node:fs/promises'
import { fileURLToPath } from 'node:url'
import { type Command, freePort, type Program, runToEnd, startServer } from './program.ts'

export interface Example {
  readonly name: string
  /** Which facilitators are dead while it sells. */
  readonly dead: 'first' | 'all'
  /** Whether it can look a payment up whose answer was lost. */
  readonly canAskChain: boolean
  /**
   * What it answers when nobody can serve a payment. Upstream has middleware that says so (502), and middleware that
   * asks for another payment (402) as in version 1, and as after its own client was answered 502 by a gateway: no
   * buyer is charged either way.
   */
  readonly whenAllDead: 502 | 402
  /** Where its dependencies are. */
  readonly folder: string
  /** What is sold. */
  readonly path: string
  /** Starts its programs, and adds each to `started` as soon as it runs; the last is the seller. */
  start(setting: Setting, started: Program[]): Promise<void>
  /** What else must hold after the purchases. */
  check?(url: string): Promise<void>
}

/** The environment variables that a seller would set. */
export type Setting = Readonly<Record<string, string>>

/** Shows the status of the sellers that have one. */
export const statusToken = 'a-status-token'

const examplesFolder = fileURLToPath(new URL('../', import.meta.url))
const at = (path: string) => `${examplesFolder}${path}`

const common = {
  dead: 'first',
  canAskChain: true,
  whenAllDead: 502,
  folder: examplesFolder,
  path: '/weather',
} as const

/** A seller that is one program. */
function seller(name: string, flags: string[] = [], others: Partial<Example> = {}): Example {
  return {
    ...common,
    name,
    async start(setting, started) {
      started.push(await startServer(name, await typescript(name, 'server.ts', setting, flags)))
    },
    ...others,
  }
}

/** A seller beside a gateway, which alone knows the facilitators. */
function gateway(
  name: string,
  commandOf: (setting: Setting) => Promise<Command>,
  others: Partial<Example> = {},
): Example {
  const { canAskChain } = { ...common, ...others }
  return {
    ...common,
    name,
    async start({ PAY_TO = '', ...setting }, started) {
      const token = { FACILITATOR_GATEWAY_TOKEN: 'a-token' }
      const served = await startServer('the gateway', {
        command: process.execPath,
        args: [at('node_modules/.bin/x402-aggregator'), 'serve', '--port', '0'],
        cwd: at('gateway'),
        env: {
          ...setting,
          ...token,
          ...(!canAskChain && { RPC_URL_84532: '' }),
        },
      })
      started.push(served)
      started.push(await startServer(name, await commandOf({ PAY_TO, ...token, GATEWAY_URL: served.url })))
    },
    ...others,
  }
}

async function typescript(
  folder: string,
  file: string,
  env: Setting,
  flags: string[] = [],
): Promise<Command> {
  return {
    command: process.execPath,
    args: [...flags, '--import', 'tsx', file],
    cwd: at(folder),
    env: { ...env, PORT: `${await freePort()}` },
  }
}

async function python(file: string, env: Setting): Promise<Command> {
  return {
    command: 'python3',
    args: ['-u', '-B', file],
    cwd: at('gateway'),
    env: { ...env, PORT: `${await freePort()}` },
  }
}

/** A Next.js app, in a folder with dependencies of its own. */
function next(name: string, others: Partial<Example> = {}): Example {
  const folder = at(name)
  return {
    ...common,
    name,
    folder,
    path: '/api/weather',
    async start(setting, started) {
      const next = (...args: string[]): Command => ({
        command: process.execPath,
        args: [`${folder}/node_modules/next/dist/bin/next`, ...args],
        cwd: folder,
        env: { ...setting, NEXT_TELEMETRY_DISABLED: '1' },
      })
      await runToEnd('next build', next('build'))
      started.push(await startServer('next start', next('start', '--port', `${await freePort()}`)))
    },
    check: showsStatus,
    ...others,
  }
}

/** Next.js lists here what it runs in the Edge runtime. */
async function isOnEdge(folder: string): Promise<void> {
  const manifest = await readFile(`${folder}/.next/server/middleware-manifest.json`, 'utf8')
  const { middleware } = JSON.parse(manifest) as { middleware: Record<string, unknown> }
  if (Object.keys(middleware).length === 0) throw new Error('its middleware does not run in the Edge runtime')
}

const nextEdge = next('next-edge', {
  async check(url) {
    await isOnEdge(at('next-edge'))
    await showsStatus(url)
  },
})

const worker: Example = {
  ...common,
  name: 'cloudflare-worker',
  async start(setting, started) {
    const { WORKERD = '' } = process.env
    const env = { ...setting, WORKERD }
    const served = await typescript('cloudflare-worker', '../runner/serve-worker.ts', env)
    started.push(await startServer('the Worker', served))
  },
  check: showsStatus,
}

/** The status must count what the paid route has done, in whichever bundle that is. */
async function showsStatus(url: string): Promise<void> {
  const statusUrl = `${url}/api/facilitator-status?include=stats`
  const { status } = await fetch(statusUrl)
  if (status !== 401) throw new Error(`the status is answered ${status} without its token`)
  const response = await fetch(statusUrl, { headers: { authorization: `Bearer ${statusToken}` } })
  const { statistics } = (await response.json()) as {
    statistics: { facilitators: { id: string; operations: { settle: number } }[] }
  }
  const settles = statistics.facilitators.map(({ id, operations }) => `${id} ${operations.settle}`)
  console.log(`  settles in the status: ${settles.join(', ')}`)
  if (!statistics.facilitators.some(({ operations }) => operations.settle >= 2))
    throw new Error('the status does not show the settles')
}

export const examples: readonly Example[] = [
  seller('express-v2'),
  seller('express-v1', [], { whenAllDead: 402 }),
  seller('hono', [], { check: showsStatus }),
  seller('hono-v1', [], { whenAllDead: 402 }),
  seller('env-config', ['--env-file=.env.example'], { check: showsStatus }),
  gateway('gateway', env => typescript('gateway', 'seller.ts', env), { whenAllDead: 402 }),
  // Its gateway is given no chain to ask, to see what the seller makes of an answer that is neither yes nor no.
  gateway('gateway-python', env => python('seller.py', env), { canAskChain: false }),
  seller('self-hosted-last-resort', [], { dead: 'all' }),
  next('next-app'),
  nextEdge,
  worker,
]
