/** Type-checks every TypeScript block of the README, as a file of its own. Run by `npm run typecheck`. */
import { execFileSync } from 'node:child_process'
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const root = new URL('../', import.meta.url)
const folder = new URL('.readme/', root)
const readme = readFileSync(new URL('README.md', root), 'utf8')
const blocks = [...readme.matchAll(/^```ts\n(.*?)^```$/gms)].map(match => match[1] ?? '')
if (blocks.length === 0) throw new Error('README.md has no TypeScript to check')

rmSync(folder, { recursive: true, force: true })
mkdirSync(folder)
for (const [index, code] of blocks.entries()) writeFileSync(new URL(`block-${index + 1}.ts`, folder), code)
const compilerOptions = {
  noUnusedLocals: false,
  paths: {
    'x402-facilitator-aggregator': ['../src/index.ts'],
    'x402-facilitator-aggregator/*': ['../src/*/index.ts'],
  },
}
writeFileSync(
  new URL('tsconfig.json', folder),
  JSON.stringify({ extends: '../tsconfig.json', compilerOptions, include: ['*.ts', '../src/**/*.d.ts'] }),
)
try {
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc')
  execFileSync(process.execPath, [tsc, '--project', folder.pathname], { stdio: 'inherit' })
  console.log(`README.md: ${blocks.length} blocks of TypeScript type-check`)
  rmSync(folder, { recursive: true })
} catch {
  console.error('README.md: a block does not type-check; the blocks are in .readme/')
  process.exitCode = 1
}
