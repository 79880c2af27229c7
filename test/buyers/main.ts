/** The table of buyers: every client at every server through every fault, judged by the chain. `npm run buyers -- --help`. */
import { writeFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { startChain } from '../bed/chain.ts'
import { runCell } from './cell.ts'
import { keepsPromise, matrix, nameOf } from './matrix.ts'
import { here, install } from './packages.ts'
import { type Finished, pageOf, tableOf } from './table.ts'

const usage = `usage: npm run buyers -- [options]

  --cell TEXT    only the cells whose name contains this text; may be repeated
  --n N          purchases in each cell (3)
  --jobs N       cells at a time (6); fewer on a busy machine
  --list         prints the names of the cells
  --write        writes the table to test/buyers/TABLE.md, which the README names

Prints the table as Markdown, and exits with 1 when a purchase is not charged once and delivered once, but for the
exceptions that the table names.`

const { values: flags } = parseArgs({
  options: {
    cell: { type: 'string', multiple: true },
    n: { type: 'string', default: '3' },
    jobs: { type: 'string', default: '6' },
    list: { type: 'boolean', default: false },
    write: { type: 'boolean', default: false },
    help: { type: 'boolean', default: false },
  },
})
const [purchases, jobs] = [Number(flags.n), Number(flags.jobs)]
const cells = matrix.filter(cell => flags.cell?.some(text => nameOf(cell).includes(text)) ?? true)
const isWrong =
  [purchases, jobs].some(number => !Number.isInteger(number) || number < 1) || cells.length === 0
if (flags.help || isWrong) {
  console.log(usage)
  process.exit(flags.help ? 0 : 1)
}
if (flags.list) {
  console.log(cells.map(nameOf).join('\n'))
  process.exit(0)
}

install()
const startedAt = performance.now()
const chain = await startChain({ blockTimeSeconds: 0.5 })
const finished: (Finished | undefined)[] = cells.map(() => undefined)
let isKept = true
let begun = 0
async function runNext(): Promise<void> {
  for (let at = begun++; at < cells.length; at = begun++) {
    const cell = cells[at]
    if (cell === undefined) return
    try {
      const result = await runCell(chain, cell, purchases)
      finished[at] = { cell, result }
      const isGood = keepsPromise(cell, result)
      isKept &&= isGood
      console.error(
        `${nameOf(cell)}: charged ${result.charged}, delivered ${result.delivered}, ${result.seconds} s` +
          `${isGood ? '' : `: BROKEN (${result.seen.join('; ')})`}`,
      )
    } catch (error) {
      isKept = false
      console.error(`${nameOf(cell)}: FAILED`, error)
    }
  }
}
await Promise.all(Array.from({ length: jobs }, runNext))
chain.stop()

const table = tableOf(finished.filter(row => row !== undefined))
console.log(table)
if (flags.write) writeFileSync(`${here}TABLE.md`, pageOf(table, purchases))
const seconds = Math.round((performance.now() - startedAt) / 1000)
console.error(
  `\n${cells.length} cells, ${purchases} purchases each, ${seconds} s: ${isKept ? 'promise kept' : 'PROMISE BROKEN'}`,
)
process.exit(isKept ? 0 : 1)
