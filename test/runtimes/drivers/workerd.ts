/** The runtime of Cloudflare Workers, without its compatibility with Node. */
import type { ChildProcess } from 'node:child_process'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { bundleWhole } from '../bundle.ts'
import type { Result } from '../case.ts'
import { paths } from '../paths.ts'
import type { Report, Runtime } from './runtime.ts'
import { start, versionOf } from './spawn.ts'

/** For one case. */
const timeoutMs = 60_000

const command = join(paths.packages, '@cloudflare/workerd-linux-64/bin/workerd')

/** Everything is on this machine, which counts as private. */
const config = `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "suite", worker = .suite),
    (name = "internet", network = (allow = ["private"])),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "suite")],
);

const suite :Workerd.Worker = (
  modules = [(name = "worker.mjs", esModule = embed "worker.mjs")],
  bindings = [(name = "SELF", service = "suite")],
  compatibilityDate = "2026-11-01",
);
`

export const workerd: Runtime = {
  name: 'workerd',
  version: () => versionOf(command),
  async run(place) {
    await bundleWhole('entries/worker.ts', 'worker.mjs', place, {
      conditions: ['workerd', 'worker', 'browser'],
      external: ['cloudflare:workers'],
    })
    const configFile = join(paths.bundles, 'workerd.capnp')
    await writeFile(configFile, config)
    const child = start(command, ['serve', configFile, '--control-fd=3'])
    let stderr = ''
    child.stderr?.on('data', chunk => {
      stderr += chunk
    })
    const exited = new Promise<never>((_resolve, reject) => {
      child.once('error', reject)
      child.once('exit', () => reject(new Error('it ended early')))
    })
    try {
      return await Promise.race([runCases(child), exited])
    } catch (error) {
      throw new Error(`${error}\n${stderr}`.trimEnd())
    } finally {
      child.kill('SIGKILL')
    }
  },
}

async function runCases(child: ChildProcess): Promise<Report> {
  const url = `http://127.0.0.1:${await portOf(child)}`
  const get = async (path: string) => {
    const response = await fetch(`${url}/${path}`, { signal: AbortSignal.timeout(timeoutMs) })
    return response.json()
  }
  const { cases, ...report } = (await get('')) as Omit<Report, 'results'> & { cases: string[] }
  const results: Result[] = []
  for (const name of cases) results.push((await get(encodeURIComponent(name))) as Result)
  return { ...report, results }
}

/** The socket's port, as told on the control descriptor. */
function portOf(child: ChildProcess): Promise<number> {
  return new Promise(resolve => {
    let told = ''
    ;(child.stdio[3] as Readable).on('data', chunk => {
      told += chunk
      const port = /"port":(\d+)/.exec(told)?.[1]
      if (port !== undefined) resolve(Number(port))
    })
  })
}
