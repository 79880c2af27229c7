/** Runs the examples as a seller would, kills facilitators, and buys from each on a local chain that is the judge. */
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { checkMigration } from './migration/check.ts'
import { examples } from './runner/examples.ts'
import { install } from './runner/install.ts'
import { openMarket } from './runner/market.ts'
import { runToEnd } from './runner/program.ts'
import { sell } from './runner/sell.ts'

/** What is checked without a market. */
const here = fileURLToPath(new URL('./', import.meta.url))
const checks = { migration: checkMigration, 'cdp-keys': checkCdpKeys }

const names = [...examples.map(({ name }) => name), ...Object.keys(checks)]
const help = `usage: npm run example -- <name...> | --all

Starts a local chain and three facilitators, kills the first (self-hosted-last-resort: all), starts the example with
the environment that its seller would set, and buys from it twice; then once while the living facilitators settle and
break the connection, and once with all dead. Compares the seller's balance on the chain with what was paid after each.
migration compares before with after instead, and cdp-keys signs with Coinbase CDP's SDK.

examples: ${names.join(', ')}`

const { values: flags, positionals } = parseArgs({
  options: { all: { type: 'boolean', default: false }, help: { type: 'boolean', default: false } },
  allowPositionals: true,
})
const chosen = new Set(flags.all ? names : positionals)
const unknown = positionals.filter(name => !names.includes(name))
if (unknown.length > 0) console.error(`there is no example ${unknown.join(', ')}\n`)
if (flags.help || chosen.size === 0 || unknown.length > 0) {
  console.log(help)
  process.exit(flags.help ? 0 : 2)
}
// The programs that it has started end with it.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1))

const startedAt = performance.now()
const failed: string[] = []
const selling = examples.filter(({ name }) => chosen.has(name))
if (selling.length > 0) {
  const market = await openMarket()
  for (const example of selling) await report(example.name, () => sell(example, market))
  market.close()
}
for (const [name, check] of Object.entries(checks))
  if (chosen.has(name))
    await report(name, () => {
      install(here)
      return check()
    })
const verdict = failed.length > 0 ? `failed: ${failed.join(', ')}` : `all ${chosen.size} passed`
console.log(`${verdict} (${secondsSince(startedAt)})`)
process.exit(failed.length > 0 ? 1 : 0)

async function checkCdpKeys(): Promise<string> {
  const command = { command: process.execPath, args: ['runner/cdp-keys.mjs'], cwd: here, env: {} }
  await runToEnd('cdp-keys', command)
  return "CDP's SDK signed a token for each operation"
}

async function report(name: string, run: () => Promise<string>): Promise<void> {
  const startedAt = performance.now()
  try {
    console.log(`${name}: ${await run()} (${secondsSince(startedAt)})\n`)
  } catch (error) {
    failed.push(name)
    console.log(`${name}: FAILED: ${error instanceof Error ? error.message : error}\n`)
  }
}

function secondsSince(time: number): string {
  return `${((performance.now() - time) / 1000).toFixed(1)} s`
}
