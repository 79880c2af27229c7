/** Runs one suite in every runtime that the library promises to run in. `npm run test:runtimes -- --help`. */
import { execFileSync } from 'node:child_process'
import { existsSync, mkdirSync, rmSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { missingEntryPoints } from './bundle.ts'
import type { Result } from './case.ts'
import { edge } from './drivers/edge.ts'
import { bun, deno, node } from './drivers/process.ts'
import type { Runtime } from './drivers/runtime.ts'
import { workerd } from './drivers/workerd.ts'
import { type Host, startHost } from './host.ts'
import { paths } from './paths.ts'
import { matrix } from './table.ts'

const runtimes: readonly Runtime[] = [node(20), node(22), node(24), node(26), bun, deno, workerd, edge]

const usage = `usage: npm run test:runtimes -- [options]

  --only NAMES   only these runtimes, with commas between them

runtimes: ${runtimes.map(({ name }) => name).join(', ')}`

const { values: flags } = parseArgs({
  options: { only: { type: 'string' }, help: { type: 'boolean', default: false } },
})
const names = flags.only?.split(',') ?? runtimes.map(({ name }) => name)
const unknown = names.filter(name => !runtimes.some(runtime => runtime.name === name))
if (flags.help || unknown.length > 0) {
  if (unknown.length > 0) console.error(`there is no runtime ${unknown.join(', ')}\n`)
  console.log(usage)
  process.exit(unknown.length > 0 ? 1 : 0)
}

const missing = missingEntryPoints()
if (missing.length > 0) {
  console.error(`${missing.join(', ')}: nothing there. Run \`npm run build\` first.`)
  process.exit(1)
}
install()
rmSync(paths.bundles, { recursive: true, force: true })
mkdirSync(paths.bundles)

const host = await startHost()
const columns: { name: string; results: readonly Result[] }[] = []
for (const runtime of runtimes) if (names.includes(runtime.name)) columns.push(await runIn(runtime, host))
await host.stop()

console.log(matrix(columns))
const failures = columns.flatMap(({ name, results }) =>
  results.flatMap(result => (result.error === undefined ? [] : `${name}: ${result.name}: ${result.error}`)),
)
for (const failure of failures) console.error(`\n${failure}`)
process.exit(failures.length > 0 ? 1 : 0)

/** The runtimes are packages of this folder alone: few who work on the library need them. */
function install(): void {
  const installed = join(paths.packages, '.package-lock.json')
  const lock = join(paths.here, 'package-lock.json')
  if (existsSync(installed) && statSync(installed).mtimeMs >= statSync(lock).mtimeMs) return
  console.error('installing the runtimes of test/runtimes (npm ci)')
  execFileSync('npm', ['ci', '--silent', '--no-audit', '--no-fund'], { cwd: paths.here, stdio: 'inherit' })
}

async function runIn(runtime: Runtime, { place }: Host) {
  let name = runtime.name
  const startedAt = performance.now()
  try {
    name = `${runtime.name} ${await runtime.version()}`
    console.error(name)
    const { usedByModules, usedByConstructors, results } = await runtime.run(place)
    return {
      name,
      results: [unused('load', usedByModules), unused('construct', usedByConstructors), ...results],
    }
  } catch (error) {
    const durationMs = performance.now() - startedAt
    const message = error instanceof Error ? error.message : String(error)
    return { name, results: [{ name: 'run', durationMs, error: message }] }
  }
}

/** What Workers forbid outside a request must not be used there. */
function unused(name: string, uses: readonly string[]): Result {
  return { name, durationMs: 0, ...(uses.length > 0 && { error: `it used\n  ${uses.join('\n  ')}` }) }
}
