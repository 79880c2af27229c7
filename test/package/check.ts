/** Packs the package, unpacks it where a user would have it, and uses it as ES modules and as CommonJS. */
import { execFileSync } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, symlinkSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const here = fileURLToPath(new URL('./', import.meta.url))
const project = mkdtempSync(join(tmpdir(), 'x402-facilitator-aggregator-'))
const modules = join(project, 'node_modules')
const run = (command: string, args: string[], cwd: string) =>
  execFileSync(command, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 20_000,
    encoding: 'utf8',
  })

try {
  const packed = JSON.parse(
    run('npm', ['pack', '--json', '--ignore-scripts', '--pack-destination', project], root),
  )
  mkdirSync(join(modules, 'x402-facilitator-aggregator'), { recursive: true })
  const target = join(modules, 'x402-facilitator-aggregator')
  run('tar', ['-xzf', join(project, packed[0].filename), '-C', target, '--strip-components=1'], project)
  for (const name of ['@x402', 'zod', 'eventemitter3', 'p-retry', 'p-timeout', 'is-network-error'])
    symlinkSync(join(root, 'node_modules', name), join(modules, name))
  for (const file of ['use.mjs', 'use.cjs']) {
    cpSync(join(here, file), join(project, file))
    run(process.execPath, [file], project)
    console.log(`${file}: ok`)
  }
} finally {
  rmSync(project, { recursive: true, force: true })
}
