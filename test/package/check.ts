/** Packs the package, installs it into a project of its own, runs it, and compiles against it. */
import { execFile, execFileSync } from 'node:child_process'
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const root = fileURLToPath(new URL('../../', import.meta.url))
const here = fileURLToPath(new URL('./', import.meta.url))
const project = mkdtempSync(join(tmpdir(), 'x402-facilitator-aggregator-'))

function run(command: string, args: string[], cwd = project): string {
  return execFileSync(command, args, {
    cwd,
    stdio: ['ignore', 'pipe', 'inherit'],
    timeout: 300_000,
    encoding: 'utf8',
  })
}

/** The first TypeScript block of the README, which is JavaScript too. */
function quickStart(): string {
  const readme = readFileSync(join(root, 'README.md'), 'utf8')
  const block = /## Quick start.*?^```ts\n(.*?)^```$/ms.exec(readme)?.[1]
  if (block === undefined) throw new Error('README.md has no quick start')
  return block
}

/** With `skipLibCheck` off the compiler also reads what others have published; only our files may have no error. */
async function compile(compiler: string, moduleResolution: string): Promise<void> {
  const module = moduleResolution === 'bundler' ? 'esnext' : moduleResolution
  const options = `--noEmit --pretty false --strict --skipLibCheck false --target es2022 --lib es2023,dom,dom.iterable --types node`
  const args = `${options} --module ${module} --moduleResolution ${moduleResolution} consumer.ts`.split(' ')
  const tsc = join('node_modules', compiler, 'bin/tsc')
  const stdout = await promisify(execFile)(process.execPath, [tsc, ...args], { cwd: project }).then(
    done => done.stdout,
    (failed: { stdout: string }) => failed.stdout,
  )
  const errors = stdout.split('\n').filter(line => /\berror TS\d+: /.test(line))
  const ours = errors.filter(line => !/^node_modules\/(?!x402-facilitator-aggregator\/)/.test(line))
  if (ours.length > 0) throw new Error(`${compiler}, ${moduleResolution}:\n${ours.join('\n')}`)
  const others = errors.length > 0 ? ` (${errors.length} errors in the types of others)` : ''
  console.log(`${compiler}, ${moduleResolution}: ok${others}`)
}

try {
  const packing = ['pack', '--json', '--ignore-scripts', '--pack-destination', project]
  const [packed] = JSON.parse(run('npm', packing, root))
  for (const file of ['package.json', 'package-lock.json', '.npmrc', 'consumer.ts'])
    cpSync(join(here, 'consumer', file), join(project, file))
  run('npm', ['ci', '--silent', '--no-audit', '--no-fund'])
  const tarball = join(project, packed.filename)
  run('npm', ['install', '--silent', '--no-save', '--no-package-lock', '--no-audit', '--no-fund', tarball])
  for (const file of ['use.mjs', 'use.cjs']) cpSync(join(here, file), join(project, file))
  writeFileSync(join(project, 'quick-start.mjs'), quickStart())
  for (const file of ['quick-start.mjs', 'use.mjs', 'use.cjs']) {
    run(process.execPath, [file])
    console.log(`${file}: ok`)
  }
  run(process.execPath, [join('node_modules', 'x402-facilitator-aggregator', 'dist/cli.js'), '--version'])
  const { dependencies } = JSON.parse(readFileSync(join(project, 'package.json'), 'utf8'))
  for (const compiler of Object.keys(dependencies).filter(name => name.startsWith('typescript-')))
    await Promise.all(['node16', 'nodenext', 'bundler'].map(mode => compile(compiler, mode)))
} finally {
  rmSync(project, { recursive: true, force: true })
}
