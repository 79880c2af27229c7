/** Fails when an entry point, minified and gzipped without its peers, is larger than its budget. */
import { gzipSync } from 'node:zlib'
import { build } from 'esbuild'

const budgets = [
  { entry: 'src/index.ts', kB: 28 },
  { entry: 'src/probe/index.ts', kB: 4.2 },
  { entry: 'src/known/index.ts', kB: 3 },
  { entry: 'src/evm/index.ts', kB: 10.5 },
  { entry: 'src/svm/index.ts', kB: 8.8 },
  { entry: 'src/postgres/index.ts', kB: 7.4 },
  { entry: 'src/redis/index.ts', kB: 8.2 },
  { entry: 'src/durable-object/index.ts', kB: 6.5 },
  { entry: 'src/sqlite/index.ts', kB: 6.7 },
  { entry: 'src/reconcile/index.ts', kB: 11.3 },
]

let isTooLarge = false
for (const { entry, kB } of budgets) {
  const { outputFiles } = await build({
    entryPoints: [entry],
    bundle: true,
    minify: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    external: ['@x402/core', 'viem', 'hono', '@solana/kit', 'better-sqlite3'],
  })
  const bytes = gzipSync(outputFiles[0]?.contents ?? new Uint8Array(), { level: 9 }).byteLength
  const fits = bytes <= kB * 1000
  console.log(`${entry}: ${(bytes / 1000).toFixed(2)} kB of ${kB} kB ${fits ? 'ok' : 'TOO LARGE'}`)
  isTooLarge ||= !fits
}
process.exitCode = isTooLarge ? 1 : 0
