/** Cloudflare's own runtime, with objects whose storage is on disk. */
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { build } from 'esbuild'

/** Where `npm run test:runtimes` and the examples install it; `WORKERD` names another. */
export const workerdProgram = [
  process.env.WORKERD,
  ...['../runtimes', '../../examples'].map(folder =>
    fileURLToPath(
      new URL(`${folder}/node_modules/@cloudflare/workerd-linux-64/bin/workerd`, import.meta.url),
    ),
  ),
].find(path => path && existsSync(path))

export interface Workerd {
  /** Changes with a restart. */
  url(): string
  /** Ends it at once, and starts it again with the data that it has on disk. */
  restart(): Promise<void>
  [Symbol.asyncDispose](): Promise<void>
}

const config = `using Workerd = import "/workerd/workerd.capnp";

const config :Workerd.Config = (
  services = [
    (name = "worker", worker = .worker),
    (name = "storage", disk = (path = "storage", writable = true)),
  ],
  sockets = [(name = "http", address = "127.0.0.1:0", http = (), service = "worker")],
);

const worker :Workerd.Worker = (
  modules = [(name = "worker.mjs", esModule = embed "worker.mjs")],
  compatibilityDate = "2026-11-01",
  durableObjectNamespaces = [
    (className = "SettlementLedgerObject", uniqueKey = "with-sqlite", enableSql = true),
    (className = "WithoutSqlite", uniqueKey = "without-sqlite"),
  ],
  durableObjectStorage = (localDisk = "storage"),
  bindings = [
    (name = "SETTLEMENTS", durableObjectNamespace = "SettlementLedgerObject"),
    (name = "WITHOUT_SQLITE", durableObjectNamespace = "WithoutSqlite"),
  ],
);
`

/** @param entry of the Worker, beside the tests */
export async function startWorkerd(entry: URL): Promise<Workerd> {
  const folder = mkdtempSync(join(tmpdir(), 'workerd-'))
  await build({
    stdin: {
      contents: `export { default, SettlementLedgerObject } from ${JSON.stringify(fileURLToPath(entry))}
        export { SettlementLedgerObject as WithoutSqlite } from ${JSON.stringify(fileURLToPath(entry))}`,
      resolveDir: folder,
    },
    outfile: join(folder, 'worker.mjs'),
    bundle: true,
    format: 'esm',
    target: 'es2022',
    platform: 'browser',
    conditions: ['workerd', 'worker', 'browser'],
    logLevel: 'error',
  })
  await writeFile(join(folder, 'workerd.capnp'), config)
  await mkdir(join(folder, 'storage'))
  let child: ChildProcess
  let url = ''
  const start = async () => {
    child = spawn(
      workerdProgram ?? 'workerd',
      ['serve', 'workerd.capnp', '--control-fd=3', '--experimental'],
      {
        cwd: folder,
        stdio: ['ignore', 'ignore', 'inherit', 'pipe'],
      },
    )
    url = `http://127.0.0.1:${await portOf(child)}`
  }
  const kill = async () => {
    const exited = new Promise(resolve => child.once('exit', resolve))
    child.kill('SIGKILL')
    await exited
  }
  await start()
  return {
    url: () => url,
    async restart() {
      await kill()
      await start()
    },
    async [Symbol.asyncDispose]() {
      await kill()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}

/** The socket's port, as reported on the control descriptor. */
function portOf(child: ChildProcess): Promise<number> {
  return new Promise((resolve, reject) => {
    let reported = ''
    child.once('exit', code => reject(new Error(`workerd ended with ${code}`)))
    ;(child.stdio[3] as Readable).on('data', chunk => {
      reported += chunk
      const port = /"port":(\d+)/.exec(reported)?.[1]
      if (port !== undefined) resolve(Number(port))
    })
  })
}
