/**
 * What the built universal entry points reach: nothing of Node.js, and from the aggregator alone neither viem, @solana/kit nor
 * hono.
 * `unsupported-runtime` is what `./node` is where there is no Node.js.
 */
import { readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { build, type Metafile } from 'esbuild'

const root = fileURLToPath(new URL('../../', import.meta.url))
const entries = [
  'index',
  'evm',
  'env',
  'http',
  'known',
  'delivery',
  'ledger',
  'probe',
  'svm',
  'durable-object',
  'postgres',
  'redis',
  'sqlite',
  'reconcile',
  'testing',
  'unsupported-runtime',
]
const ofNode =
  /\bfrom ?['"]node:|\bimport ?\(?['"]node:|\bprocess\.|\bBuffer\b|\brequire\(|\b__dirname\b|\bglobal\./

/** Bundles as for a browser, where an import of Node.js cannot be resolved and fails. */
async function bundle(code: string): Promise<Metafile> {
  const { metafile } = await build({
    stdin: { contents: code, resolveDir: root, loader: 'js' },
    bundle: true,
    write: false,
    metafile: true,
    format: 'esm',
    platform: 'browser',
    target: 'es2022',
    logLevel: 'silent',
    external: ['@coinbase/cdp-sdk/auth', 'better-sqlite3'],
  })
  return metafile
}

const problems: string[] = []
for (const entry of entries) {
  const metafile = await bundle(`export * from './dist/${entry}.js'`)
  for (const file of Object.keys(metafile.inputs).filter(input => input.startsWith('dist/'))) {
    const line = readFileSync(new URL(`../../${file}`, import.meta.url), 'utf8')
      .split('\n')
      .find(text => ofNode.test(text))
    if (line !== undefined) problems.push(`${entry}: ${file} has "${line.trim().slice(0, 100)}"`)
  }
}

const alone = await bundle(
  "import { FacilitatorAggregator } from './dist/index.js'; globalThis.a = new FacilitatorAggregator({})",
)
const [output] = Object.values(alone.outputs)
for (const [file, { bytesInOutput }] of Object.entries(output?.inputs ?? {}))
  if (bytesInOutput > 0 && /node_modules\/(viem|@solana|hono|@hono)\//.test(file))
    problems.push(`the aggregator alone reaches ${file}`)

for (const problem of problems) console.error(problem)
if (problems.length > 0) process.exitCode = 1
else
  console.log(
    `${entries.join(', ')}: nothing of Node.js; the aggregator alone: no viem, no @solana/kit, no hono`,
  )
