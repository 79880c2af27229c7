/** The library's code with one guard of credit fewer: the exploration has to find what each of them breaks. */
import { readFile, rm, writeFile } from 'node:fs/promises'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { build } from 'esbuild'
import * as index from '../../src/index.ts'
import { settlementProbe } from '../../src/probe/index.ts'
import type { Code } from './credit-world.ts'

export interface CreditMutation {
  /** Where it shows. */
  readonly setup: string
  readonly file: string
  /** Stands there once. */
  readonly from: string
  readonly to: string
}

export const creditMutations: Readonly<Record<string, CreditMutation>> = {
  'credit recorded for the old payment first': {
    setup: 'credit, replicas that die',
    file: 'flows/credit.ts',
    from: `    !(await record(context, held, settlement)) ||
    !(await record(context, old, { ...settlement, redeliveries: 0 }))`,
    to: `    !(await record(context, old, { ...settlement, redeliveries: 0 })) ||
    !(await record(context, held, settlement))`,
  },
  'credit not recorded for the old payment': {
    setup: 'credit, a process that sleeps',
    file: 'flows/credit.ts',
    from: '!(await record(context, old, { ...settlement, redeliveries: 0 }))',
    to: 'false',
  },
  'credit although the claim of the old payment has lapsed': {
    setup: 'credit, a process that sleeps',
    file: 'flows/credit.ts',
    from: '!(await record(context, old, { ...settlement, redeliveries: 0 }))',
    to: '((await record(context, old, { ...settlement, redeliveries: 0 })), false)',
  },
  'credit that leaves the redeliveries of the old payment': {
    setup: 'credit, departures and retries',
    file: 'flows/credit.ts',
    from: '{ ...settlement, redeliveries: 0 }',
    to: 'settlement',
  },
  'credit for a payment that may have been charged itself': {
    setup: 'credit, retries',
    file: 'flows/credit.ts',
    from: "if (before && (before.state !== 'failed' || before.wasSent)) return undefined",
    to: '',
  },
  'credit of other payers': {
    setup: 'credit, another payer',
    file: 'payment/payment-key.ts',
    from: '{payer} $',
    to: "{'payer'} $",
  },
  'a lost reply that leaves as many redeliveries as before': {
    setup: 'credit, lost replies',
    file: 'settlement/books.ts',
    from: 'redeliveries: redeliveries - 1',
    to: 'redeliveries',
  },
  'a lost reply that is not recorded': {
    setup: 'credit, lost replies',
    file: 'settlement/books.ts',
    from: 'if (redeliveries > 0)',
    to: 'if (redeliveries < 0)',
  },
  'a success although the claim has lapsed': {
    setup: 'credit, a process that sleeps',
    file: 'flows/settle.ts',
    from: 'isHeld ? conclusion : inDoubt(conclusion)',
    to: 'conclusion',
  },
  'waiting for losses that come later': {
    setup: 'credit, departures',
    file: 'settlement/books.ts',
    from: 'const entries = await ledger.undelivered(query)',
    to: 'const entries = await ledger.undelivered(query)\n    await this.#losses.get(purchase)',
  },
}

const sources = fileURLToPath(new URL('../../src/', import.meta.url))

/** @param name of a mutation; the sources as they are without one */
export async function codeWith(name: string | undefined): Promise<Code> {
  if (name === undefined) return { ...index, settlementProbe }
  const mutation = creditMutations[name]
  if (mutation === undefined) throw new Error(`there is no mutation ${name}`)
  const { file, from, to } = mutation
  const entry = `export * from '${sources}index.ts'; export { settlementProbe } from '${sources}probe/index.ts'`
  const { outputFiles } = await build({
    stdin: { contents: entry, resolveDir: sources },
    bundle: true,
    write: false,
    format: 'esm',
    target: 'es2022',
    platform: 'neutral',
    mainFields: ['module', 'main'],
    external: ['@x402/core', 'viem', 'hono'],
    plugins: [
      {
        name: 'mutation',
        setup: ({ onLoad }) =>
          onLoad({ filter: /\.ts$/ }, async ({ path }) => {
            if (path !== `${sources}${file}`) return undefined
            const text = await readFile(path, 'utf8')
            if (text.split(from).length !== 2) throw new Error(`${name}: ${file} has it not once: ${from}`)
            return { contents: text.replace(from, () => to), loader: 'ts' }
          }),
      },
    ],
  })
  // Beside the sources, so that it finds their packages.
  const built = fileURLToPath(new URL(`mutation-${process.pid}-${Date.now()}.mjs`, import.meta.url))
  await writeFile(built, outputFiles[0]?.contents ?? '')
  try {
    return (await import(pathToFileURL(built).href)) as Code
  } finally {
    await rm(built)
  }
}
