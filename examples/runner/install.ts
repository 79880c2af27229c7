/** An example's dependencies, with the library as it was just built among them. */
import { execFileSync } from 'node:child_process'
import { cpSync, existsSync, rmSync, statSync } from 'node:fs'
import { createRequire } from 'node:module'
import { join, relative } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = fileURLToPath(new URL('../../', import.meta.url))
const library = 'x402-facilitator-aggregator'

/** @param folder with a package.json that has the library as a `file:` */
export function install(folder: string): void {
  if (!existsSync(join(root, 'dist/index.js'))) {
    console.log('building the library')
    npm(root, 'run', 'build')
  }
  if (!isInstalled(folder)) {
    console.log(`installing the dependencies of ${relative(root, folder)} (a minute or two)`)
    npm(folder, 'ci')
  }
  // npm takes a file: dependency for unchanged as long as its version is: what was built since is copied.
  const copy = join(folder, 'node_modules', library)
  rmSync(join(copy, 'dist'), { recursive: true })
  for (const part of ['dist', 'package.json']) cpSync(join(root, part), join(copy, part), { recursive: true })

  const [ofLibrary, ofExample] = [join(copy, 'package.json'), join(folder, 'package.json')].map(from =>
    createRequire(from).resolve('@x402/core/server'),
  )
  if (ofLibrary !== ofExample)
    throw new Error(
      `${folder} has two copies of @x402/core, so that upstream's middleware does not recognise the library's errors`,
    )
}

function isInstalled(folder: string): boolean {
  const installed = join(folder, 'node_modules/.package-lock.json')
  return (
    existsSync(installed) &&
    statSync(installed).mtimeMs >= statSync(join(folder, 'package-lock.json')).mtimeMs
  )
}

function npm(cwd: string, ...args: string[]): void {
  execFileSync('npm', args, { cwd, stdio: ['ignore', 'ignore', 'inherit'] })
}
