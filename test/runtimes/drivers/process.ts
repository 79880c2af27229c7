/** Runtimes that run the suite as a program, and find the library's dependencies themselves: Node, Bun, Deno. */
import { join } from 'node:path'
import { bundleSuite } from '../bundle.ts'
import { paths } from '../paths.ts'
import type { Report, Runtime } from './runtime.ts'
import { type Ended, finish, start, versionOf } from './spawn.ts'

const timeoutMs = 180_000
/** Idle connections are kept for some seconds by some runtimes. */
const longestIdleMs = 15_000

export function node(major: number): Runtime {
  return program(`node-${major}`, `node-${major}/bin/node`, [])
}

export const bun = program('bun', '@oven/bun-linux-x64-baseline/bin/bun', ['run'])

export const deno = program('deno', '@deno/linux-x64-glibc/deno', [
  'run',
  '--no-prompt',
  '--no-lock',
  '--node-modules-dir=manual',
  // The network is all that the library needs.
  '--allow-net=127.0.0.1',
])

function program(name: string, binary: string, args: string[]): Runtime {
  const command = join(paths.packages, binary)
  return {
    name,
    version: () => versionOf(command),
    async run(place) {
      await bundleSuite('entries/process.ts', 'process.mjs', place)
      const env = { DENO_DIR: join(paths.bundles, 'deno') }
      const child = start(command, [...args, join(paths.bundles, 'process.mjs')], env)
      return reportOf(await finish(child, timeoutMs))
    },
  }
}

export function reportOf({ stdout, stderr, idleMs }: Ended): Report {
  let report: Report
  try {
    report = JSON.parse(stdout)
  } catch {
    throw new Error(`its report cannot be read:\n${stdout}${stderr}`)
  }
  const isKeptAlive = idleMs > longestIdleMs
  const error = isKeptAlive ? { error: `it was kept alive for ${Math.round(idleMs)} ms` } : {}
  return { ...report, results: [...report.results, { name: 'ends', durationMs: idleMs, ...error }] }
}
