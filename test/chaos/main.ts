/**
 * The fault matrix: what becomes of payments while facilitators, ledgers and replicas fail, judged by what was charged,
 * beside a naive fallback in the same run. `npm run chaos -- --help`.
 */
import { monitorEventLoopDelay } from 'node:perf_hooks'
import { parseArgs } from 'node:util'
import { startChain } from '../bed/chain.ts'
import { type Cell, clients, groupNames, keepsPromise, matrix, nameOf } from './matrix.ts'
import { type Finished, tableOf } from './table.ts'

const faultNames = [...new Set(matrix.map(({ fault }) => fault))]
const usage = `usage: npm run chaos -- [options]

  --n N             payments in each cell (200)
  --concurrency N   at a time (20)
  --jobs N          cells at a time, each on a chain of its own (4); fewer on a busy machine
  --seed N          seed of the random faults (1)
  --group NAME      only the faults of this group; may be repeated
  --fault NAME      only this fault; may be repeated
  --client NAME     only 'with probe', 'without probe' or 'naive'; may be repeated
  --json            one JSON object instead of the table

Exits with 1 when a payment is lost, or delivered without a charge of its own, or another promise is broken.

${groupNames.map(group => `${group}: ${faultsOf(group).join(' | ')}`).join('\n')}`

function faultsOf(group: string): string[] {
  return faultNames.filter(name => matrix.some(cell => cell.group === group && cell.fault === name))
}

const { values: flags } = parseArgs({
  options: {
    n: { type: 'string', default: '200' },
    concurrency: { type: 'string', default: '20' },
    jobs: { type: 'string', default: '4' },
    seed: { type: 'string', default: '1' },
    group: { type: 'string', multiple: true },
    fault: { type: 'string', multiple: true },
    client: { type: 'string', multiple: true },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const [payments, concurrency, jobs, seed] = [flags.n, flags.concurrency, flags.jobs, flags.seed].map(
  Number,
) as [number, number, number, number]
const isKnown = (chosen: readonly string[] | undefined, names: readonly string[]) =>
  chosen?.every(name => names.includes(name)) ?? true
const isWrong =
  [payments, concurrency, jobs].some(number => !Number.isInteger(number) || number < 1) ||
  !Number.isInteger(seed) ||
  !isKnown(flags.group, groupNames) ||
  !isKnown(flags.fault, faultNames) ||
  !isKnown(flags.client, clients)
if (flags.help || isWrong) {
  console.log(usage)
  process.exit(flags.help ? 0 : 1)
}

const cells = matrix.filter(
  ({ group, fault, client }) =>
    (flags.group?.includes(group) ?? true) &&
    (flags.fault?.includes(fault) ?? true) &&
    (flags.client?.includes(client) ?? true),
)
const lateness = monitorEventLoopDelay()
lateness.enable()
const finished = await runAll(cells)
// Where the machine is too busy, timeouts come from here and not from the faults: then give it fewer jobs.
const lateMs = Math.round(lateness.percentile(99) / 1e6)
const isKept =
  finished.length === cells.length && finished.every(({ cell, result }) => keepsPromise(cell, result))

if (flags.json) {
  const results = finished.map(({ cell: { run, ...cell }, result }) => ({ ...cell, ...result }))
  console.log(JSON.stringify({ payments, concurrency, seed, lateMs, isKept, cells: results }))
} else {
  console.log(tableOf(finished))
  console.log(
    `\n${payments} payments a cell, ${concurrency} at a time, seed ${seed}; milliseconds per purchase; ` +
      `this process was late by ${lateMs} ms at most in 99 % of cases`,
  )
  console.log(isKept ? 'promise kept: nothing lost, nothing delivered unpaid' : 'PROMISE BROKEN')
}
process.exitCode = isKept ? 0 : 1

/** The results in the order of the cells, `jobs` of which are run at a time; without those that could not be had. */
async function runAll(cells: readonly Cell[]): Promise<Finished[]> {
  const results = new Map<Cell, Finished>()
  const waiting = [...cells]
  let ended = 0
  const runOneAfterTheOther = async () => {
    for (let cell = waiting.shift(); cell !== undefined; cell = waiting.shift()) {
      const startedAt = performance.now()
      const ending = await runOne(cell).then(
        result => {
          results.set(cell, { cell, result })
          return `ok ${result.ok}${keepsPromise(cell, result) ? '' : ', PROMISE BROKEN'}`
        },
        error => `the cell itself failed: ${error?.stack ?? error}`,
      )
      const seconds = Math.round((performance.now() - startedAt) / 1000)
      process.stderr.write(`${++ended} of ${cells.length}, ${seconds} s: ${nameOf(cell)}: ${ending}\n`)
    }
  }
  await Promise.all(Array.from({ length: jobs }, runOneAfterTheOther))
  return cells.flatMap(cell => results.get(cell) ?? [])
}

async function runOne(cell: Cell) {
  const chain = await startChain()
  try {
    return await cell.run({ chain, payments, concurrency, random: seeded(seed) })
  } finally {
    chain.stop()
  }
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
