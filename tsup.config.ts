import { defineConfig, type Options } from 'tsup'

const shared: Options = {
  entry: { index: 'src/index.ts', evm: 'src/evm/index.ts', testing: 'src/testing/index.ts' },
  target: 'es2022',
  platform: 'neutral',
  dts: true,
  clean: false,
  sourcemap: true,
  treeshake: true,
}

export default defineConfig([
  { ...shared, format: 'esm' },
  // p-retry and p-timeout are ES modules only, which `require` cannot load on every Node 20.
  { ...shared, format: 'cjs', noExternal: ['p-retry', 'p-timeout', 'is-network-error'] },
])
