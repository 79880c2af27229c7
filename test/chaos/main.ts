/**
 * The fault matrix: what becomes of payments while facilitators fail, with the chain as the judge, beside a naive
 * fallback in the same run. `npm run chaos -- --help`.
 */
import { parseArgs } from 'node:util'
import { type Chain, startChain } from '../bed/chain.ts'
import { type CellResult, type ClientName, type FaultName, faults, runCell } from './cell.ts'

const usage = `usage: npm run chaos -- [options]

  --n N             payments in each cell (200)
  --concurrency N   at a time (20)
  --seed N          seed of the random faults (1)
  --fault NAME      only this fault; may be repeated
  --client NAME     only 'with probe', 'without probe' or 'naive'; may be repeated
  --json            one JSON object instead of the table

faults: ${[...Object.keys(faults), 'random'].join(', ')}`

const { values: flags } = parseArgs({
  options: {
    n: { type: 'string', default: '200' },
    concurrency: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    fault: { type: 'string', multiple: true },
    client: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const allFaults: FaultName[] = [...(Object.keys(faults) as FaultName[]), 'random']
const allClients: ClientName[] = ['with probe', 'without probe', 'naive']
const [payments, concurrency, seed] = [Number(flags.n), Number(flags.concurrency), Number(flags.seed)]
const chosenFaults = (flags.fault ?? allFaults) as FaultName[]
const chosenClients = (flags.client ?? allClients) as ClientName[]
const isWrong =
  [payments, concurrency].some(number => !Number.isInteger(number) || number < 1) ||
  !Number.isInteger(seed) ||
  chosenFaults.some(name => !allFaults.includes(name)) ||
  chosenClients.some(name => !allClients.includes(name))
if (flags.help || isWrong) {
  console.log(usage)
  process.exit(flags.help ? 0 : 1)
}

/** Numbers from 0 to 1 that depend on the seed alone (mulberry32). */
function seeded(start: number): () => number {
  let state = start
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}

const cells = chosenFaults.flatMap(fault =>
  (fault === 'random' ? [3 as const] : [1 as const, 2 as const]).flatMap(facilitators =>
    chosenClients
      // Nobody but the chain can tell a lie from a settlement.
      .filter(client => fault !== 'lie' || client !== 'without probe')
      .map(client => ({ fault, facilitators, client })),
  ),
)

const results: CellResult[] = []
for (const [index, cell] of cells.entries()) {
  const chain: Chain = await startChain()
  const label = `cell ${index + 1} of ${cells.length}: ${cell.fault} at ${cell.facilitators}, ${cell.client}`
  const onProgress = (done: number) => process.stderr.write(`\r\x1b[K${label}: ${done} of ${payments}`)
  results.push(await runCell({ ...cell, chain, payments, concurrency, random: seeded(seed), onProgress }))
  chain.stop()
}
process.stderr.write('\r\x1b[K')

const promised = results.filter(({ client }) => client !== 'naive')
const withProbe = results.filter(({ client }) => client === 'with probe')
const isKept =
  promised.every(({ lost, falseSuccess }) => lost === 0 && falseSuccess === 0) &&
  withProbe.every(({ indeterminate, failed }) => indeterminate === 0 && failed === 0)

if (flags.json) console.log(JSON.stringify({ payments, concurrency, seed, isKept, cells: results }))
else print(results)
process.exitCode = isKept ? 0 : 1

function print(rows: readonly CellResult[]): void {
  const heads = [
    'fault',
    'at',
    'client',
    'ok',
    'lost',
    'false',
    'failed',
    'indet.',
    'dup.',
    'p50',
    'p95',
    'max',
  ]
  const table = rows.map(row => [
    row.fault,
    row.facilitators,
    row.client,
    row.ok,
    row.lost,
    row.falseSuccess,
    row.failed,
    row.indeterminate,
    row.duplicateBroadcasts,
    row.p50Ms,
    row.p95Ms,
    row.maxMs,
  ])
  const widths = heads.map((head, column) =>
    Math.max(head.length, ...table.map(row => `${row[column]}`.length)),
  )
  for (const row of [heads, ...table])
    console.log(row.map((cell, column) => `${cell}`.padStart(widths[column] ?? 0)).join('  '))
  console.log(
    `\n${payments} payments a cell, ${concurrency} at a time, seed ${seed}; milliseconds per purchase`,
  )
  console.log(isKept ? 'promise kept: nothing lost, nothing delivered unpaid' : 'PROMISE BROKEN')
}
