import { defineConfig, type Options } from 'tsup'

const entry = {
  index: 'src/index.ts',
  evm: 'src/evm/index.ts',
  env: 'src/env/index.ts',
  http: 'src/http/index.ts',
  node: 'src/node/index.ts',
  known: 'src/known/index.ts',
  delivery: 'src/delivery/index.ts',
  ledger: 'src/ledger/index.ts',
  redis: 'src/redis/index.ts',
  'durable-object': 'src/durable-object/index.ts',
  probe: 'src/probe/index.ts',
  svm: 'src/svm/index.ts',
  postgres: 'src/postgres/index.ts',
  sqlite: 'src/sqlite/index.ts',
  reconcile: 'src/reconcile/index.ts',
  testing: 'src/testing/index.ts',
}

const shared: Options = {
  entry,
  // The declarations of each entry point would be checked together with the tests otherwise.
  tsconfig: 'tsconfig.build.json',
  target: 'es2022',
  platform: 'neutral',
  clean: false,
  sourcemap: true,
  splitting: true,
  treeshake: true,
  external: [/^node:/, '@coinbase/cdp-sdk/auth'],
}

export default defineConfig([
  {
    ...shared,
    format: 'esm',
    entry: { ...entry, 'unsupported-runtime': 'src/node/unsupported-runtime.ts', cli: 'src/cli/main.ts' },
    // `npm run typecheck` has checked them.
    dts: { entry, compilerOptions: { noCheck: true } },
  },
  // Its types are made of those above: the build of them takes the longest.
  { ...shared, format: 'cjs' },
])
