import { build } from 'esbuild'
import { gzipSync } from 'zlib'

const r = await build({
  entryPoints: ['src/index.ts'],
  bundle: true,
  minify: true,
  format: 'esm',
  platform: 'neutral',
  target: 'es2022',
  external: ['@x402/core', 'viem', 'hono'],
  mainFields: ['module', 'main'],
  write: false,
})
console.log(gzipSync(r.outputFiles[0].contents, { level: 9 }).length)
