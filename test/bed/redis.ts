/** Real Redis servers, one or a cluster, in a temporary folder. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createConnection } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { freePorts } from './ports.ts'

/** Which program, where one is installed. `REDIS_SERVER` names another, such as `valkey-server`. */
export const redisServer = ['redis-server', 'valkey-server', process.env.REDIS_SERVER].findLast(
  command => command && isThere(command),
)

function isThere(command: string): boolean {
  try {
    execFileSync(command, ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}

export interface RedisServer {
  readonly url: string
  readonly port: number
  /** Ends it at once, without a chance to write anything. */
  kill(): Promise<void>
  /** Starts it again, with the data that it has on disk. */
  restart(): Promise<void>
  /** It accepts connections, and answers nothing, until it goes on. */
  freeze(): void
  goOn(): void
  /** One command, over a connection of its own. */
  command(...words: string[]): Promise<string>
  /** Ends it and removes its data. */
  [Symbol.asyncDispose](): Promise<void>
}

/** @param settings as in `redis.conf`; it keeps a log of its changes, as a seller's does */
export async function startRedis(settings: Readonly<Record<string, string>> = {}): Promise<RedisServer> {
  const [port = 0] = await freePorts(1)
  const folder = mkdtempSync(join(tmpdir(), 'redis-'))
  const all: Record<string, string> = {
    port: `${port}`,
    bind: '127.0.0.1',
    dir: folder,
    save: '',
    appendonly: 'yes',
    appendfsync: 'always',
    loglevel: 'warning',
    ...settings,
  }
  const options = Object.entries(all).flatMap(([name, value]) => [`--${name}`, ...value.split(' ')])
  let child: ChildProcess
  const command = (...words: string[]) => ask(port, words)
  const start = async () => {
    child = spawn(redisServer ?? 'redis-server', options, { stdio: 'ignore' })
    process.once('exit', end)
    const failed = once(child, 'exit').then(([code]) => {
      throw new Error(`redis-server ended with ${code}`)
    })
    await Promise.race([failed, untilReady(port)])
    failed.catch(() => {})
  }
  const end = () => child.kill('SIGKILL')
  const kill = async () => {
    process.off('exit', end)
    if (child.exitCode !== null || child.signalCode !== null) return
    const exited = once(child, 'exit')
    child.kill('SIGKILL')
    await exited
  }
  await start()
  return {
    url: `redis://127.0.0.1:${port}`,
    port,
    kill,
    restart: start,
    freeze: () => void child.kill('SIGSTOP'),
    goOn: () => void child.kill('SIGCONT'),
    command,
    async [Symbol.asyncDispose]() {
      await kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

export interface RedisCluster {
  readonly nodes: readonly RedisServer[]
  [Symbol.asyncDispose](): Promise<void>
}

const slots = 16_384

/** Three primaries, each with its third of the slots. */
export async function startRedisCluster(): Promise<RedisCluster> {
  const nodes = await Promise.all(
    Array.from({ length: 3 }, () => startRedis({ 'cluster-enabled': 'yes', 'cluster-node-timeout': '2000' })),
  )
  const [first] = nodes
  await Promise.all(
    nodes.map(async (node, index) => {
      const share = [index, index + 1].map(part => Math.floor((part * slots) / nodes.length))
      await node.command('CLUSTER', 'ADDSLOTSRANGE', `${share[0]}`, `${(share[1] ?? 0) - 1}`)
      if (first && node !== first) await node.command('CLUSTER', 'MEET', '127.0.0.1', `${first.port}`)
    }),
  )
  const isWhole = async (node: RedisServer) => {
    const info = await node.command('CLUSTER', 'INFO')
    return info.includes('cluster_state:ok') && info.includes('cluster_known_nodes:3')
  }
  while (!(await Promise.all(nodes.map(isWhole))).every(Boolean)) await pause()
  return {
    nodes,
    async [Symbol.asyncDispose]() {
      await Promise.all(nodes.map(node => node[Symbol.asyncDispose]()))
    },
  }
}

async function untilReady(port: number): Promise<void> {
  for (;;) {
    const answer = await ask(port, ['PING']).catch(() => '')
    if (answer.includes('PONG')) return
    await pause()
  }
}

/** Between questions to a server that reports nothing by itself. */
const pause = () => new Promise(resolve => setTimeout(resolve, 20))

/** One command of Redis's protocol; the raw answer. */
function ask(port: number, words: readonly string[]): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = createConnection(port, '127.0.0.1')
    let answer = ''
    socket.once('error', reject)
    socket.once('close', () => resolve(answer))
    socket.on('data', chunk => {
      answer += chunk
      if (isComplete(answer)) socket.end()
    })
    const text = words.map(word => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join('')
    socket.write(`*${words.length}\r\n${text}`)
  })
}

/** A line, or a text of the length that its first line says. */
function isComplete(answer: string): boolean {
  const end = answer.indexOf('\r\n')
  if (end < 0) return false
  const length = answer.startsWith('$') ? Number(answer.slice(1, end)) : -1
  return length < 0 || Buffer.byteLength(answer) >= end + 2 + length + 2
}
