/** Serves the Worker of this folder as its wrangler.jsonc says, in Cloudflare's own runtime. */
import { spawn } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { builtinModules, createRequire } from 'node:module'
import { join } from 'node:path'
import { build } from 'esbuild'

interface ObjectBinding {
  readonly name: string
  readonly class_name: string
}

interface Wrangler {
  readonly main: string
  readonly compatibility_date: string
  readonly compatibility_flags?: readonly string[]
  readonly vars: Readonly<Record<string, string>>
  readonly durable_objects: { readonly bindings: readonly ObjectBinding[] }
}

const folder = process.cwd()
const { PORT = '4021', ...env } = process.env
const wrangler = JSON.parse(
  (await readFile(join(folder, 'wrangler.jsonc'), 'utf8')).replaceAll(/(?<=^|\s)\/\/.*$/gm, ''),
) as Wrangler

const built = join(folder, 'dist')
// Objects have SQLite on a disk only. The chain of a run is a new one: what an earlier run has kept is of no use.
const storage = join(built, 'storage')
await rm(storage, { recursive: true, force: true })
await mkdir(storage, { recursive: true })
await build({
  entryPoints: [join(folder, wrangler.main)],
  outfile: join(built, 'worker.mjs'),
  bundle: true,
  format: 'esm',
  target: 'es2022',
  platform: 'browser',
  conditions: ['workerd', 'worker', 'browser'],
  // As wrangler does: Workers have Node's modules under these names alone.
  alias: Object.fromEntries(builtinModules.map(name => [name, `node:${name}`])),
  external: ['cloudflare:*', 'node:*'],
  logLevel: 'error',
})

/** What is set here wins, as with `wrangler deploy --var`. */
const variables = Object.entries({
  ...wrangler.vars,
  ...withPrefix(env, /^(PAY_TO$|STATUS_TOKEN$|FACILITATOR_|RPC_URL_)/),
})
const objects = wrangler.durable_objects.bindings
const text = JSON.stringify
const bindings = [
  ...variables.map(([name, value]) => `(name = ${text(name)}, text = ${text(value)})`),
  ...objects.map(
    ({ name, class_name }) => `(name = ${text(name)}, durableObjectNamespace = ${text(class_name)})`,
  ),
]
const classes = objects.map(
  ({ class_name }) => `(className = ${text(class_name)}, uniqueKey = ${text(class_name)}, enableSql = true)`,
)
const config = `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "storage", disk = (path = ${text(storage)}, writable = true)),
    (name = "internet", network = (allow = ["public", "private"], tlsOptions = (trustBrowserCas = true))),
  ],
  sockets = [(name = "http", address = "localhost:${PORT}", http = (), service = "worker")],
);

const worker :Workerd.Worker = (
  modules = [(name = "worker.mjs", esModule = embed "worker.mjs")],
  bindings = [${bindings.join(', ')}],
  durableObjectNamespaces = [${classes.join(', ')}],
  durableObjectStorage = (localDisk = "storage"),
  compatibilityDate = ${text(wrangler.compatibility_date)},
  compatibilityFlags = [${(wrangler.compatibility_flags ?? []).map(flag => text(flag)).join(', ')}],
);
`
const configFile = join(built, 'workerd.capnp')
await writeFile(configFile, config)

const require = createRequire(import.meta.url)
const command = env.WORKERD || require.resolve('@cloudflare/workerd-linux-64/bin/workerd')
const child = spawn(command, ['serve', configFile, '--control-fd=3', '--experimental'], {
  stdio: ['ignore', 'inherit', 'inherit', 'pipe'],
})
child.once('exit', code => process.exit(code ?? 1))
child.stdio[3]?.once('data', () => console.log(`listening on http://localhost:${PORT}`))
process.once('SIGTERM', () => child.kill('SIGTERM'))

function withPrefix(env: NodeJS.ProcessEnv, names: RegExp): Record<string, string> {
  return Object.fromEntries(
    Object.entries(env).flatMap(([name, value = '']) => (names.test(name) ? [[name, value]] : [])),
  )
}
