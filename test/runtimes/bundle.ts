/** Makes the suite into what a runtime can load. */
import { existsSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type BuildOptions, build, type Plugin } from 'esbuild'
import type { Place } from './bed.ts'
import { paths } from './paths.ts'

/** Needs Node, and says so in its name. */
const nodeOnly = ['./node']

/** The entry points that every runtime can load, as files of the built package. */
export function entryPoints(): string[] {
  const { exports } = JSON.parse(readFileSync(join(paths.root, 'package.json'), 'utf8')) as {
    exports: Record<string, { import?: { default: string } }>
  }
  return Object.entries(exports)
    .filter(([name]) => !nodeOnly.includes(name))
    .flatMap(([, { import: built }]) => (built === undefined ? [] : join(paths.root, built.default)))
}

export function missingEntryPoints(): string[] {
  return entryPoints().filter(file => !existsSync(file))
}

/** Optional peers that import modules of Node's: @solana/kit for `nodejs_compat`, and a database on a file. */
const withoutPeersOfNode: Plugin = {
  name: 'without-peers-of-node',
  setup(build) {
    build.onResolve({ filter: /^(@solana\/kit|better-sqlite3)$/ }, ({ path }) => ({
      path,
      namespace: 'missing',
    }))
    build.onLoad({ filter: /.*/, namespace: 'missing' }, ({ path }) => ({
      contents: `throw new Error('${path} is not bundled')`,
    }))
  },
}

/** One file with everything in it, for runtimes without packages. Fails on any import of Node's. */
export async function bundleWhole(
  entry: string,
  outfile: string,
  place: Place,
  options: BuildOptions,
): Promise<void> {
  await bundle(entry, outfile, place, {
    platform: 'browser',
    plugins: [entryPointsPlugin(), withoutPeersOfNode],
    ...options,
  })
}

/** The suite alone: the runtime finds the library and its dependencies itself. */
export async function bundleSuite(entry: string, outfile: string, place: Place): Promise<void> {
  await bundle('load.ts', 'load.mjs', place, {})
  await bundle(entry, outfile, place, {
    packages: 'external',
    external: [join(paths.library, '*')],
    plugins: [entryPointsPlugin(), loadFirstPlugin],
  })
}

async function bundle(entry: string, outfile: string, place: Place, options: BuildOptions): Promise<void> {
  await build({
    entryPoints: [join(paths.here, entry)],
    outfile: join(paths.bundles, outfile),
    bundle: true,
    format: 'esm',
    target: 'es2022',
    logLevel: 'error',
    define: { PLACE: JSON.stringify(place) },
    ...options,
  })
}

/** `import 'entry-points'` loads them all. */
function entryPointsPlugin(): Plugin {
  return {
    name: 'entry-points',
    setup({ onResolve, onLoad }) {
      onResolve({ filter: /^entry-points$/ }, ({ path }) => ({ path, namespace: 'entry-points' }))
      onLoad({ filter: /.*/, namespace: 'entry-points' }, () => ({
        contents: entryPoints()
          .map(file => `import ${JSON.stringify(file)}`)
          .join('\n'),
        resolveDir: paths.root,
      }))
    },
  }
}

/** Modules outside a bundle are evaluated before it: what must come before the library is outside too. */
const loadFirstPlugin: Plugin = {
  name: 'load-first',
  setup({ onResolve }) {
    onResolve({ filter: /\/load\.ts$/ }, () => ({ path: './load.mjs', external: true }))
  },
}
