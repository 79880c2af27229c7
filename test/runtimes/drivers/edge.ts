/** The Edge runtime of Next.js and Vercel, in a Node process of its own. */
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { bundleWhole } from '../bundle.ts'
import { paths } from '../paths.ts'
import { reportOf } from './process.ts'
import type { Runtime } from './runtime.ts'
import { finish, start } from './spawn.ts'

const timeoutMs = 180_000
const program = fileURLToPath(new URL('./edge-vm.js', import.meta.url))

export const edge: Runtime = {
  name: 'edge',
  async version() {
    const manifest = await readFile(join(paths.packages, '@edge-runtime/vm/package.json'), 'utf8')
    return JSON.parse(manifest).version
  },
  async run(place) {
    await bundleWhole('entries/edge.ts', 'edge.js', place, {
      format: 'iife',
      globalName: 'suite',
      conditions: ['edge-light', 'worker', 'browser'],
    })
    const child = start(process.execPath, [program, join(paths.bundles, 'edge.js')])
    return reportOf(await finish(child, timeoutMs))
  },
}
