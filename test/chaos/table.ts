/** The fault matrix on paper. */
import { type Cell, keepsPromise } from './matrix.ts'
import type { CellResult } from './result.ts'

export interface Finished {
  readonly cell: Cell
  readonly result: CellResult
}

const columns: readonly (readonly [head: string, value: (finished: Finished) => string | number])[] = [
  ['fault', ({ cell }) => cell.fault],
  ['at', ({ cell }) => cell.at],
  ['client', ({ cell }) => cell.client],
  ['ok', ({ result }) => result.ok],
  ['lost', ({ result }) => result.lost],
  ['false', ({ result }) => result.falseSuccess],
  ['failed', ({ result }) => result.failed],
  ['indet.', ({ result }) => result.indeterminate],
  ['dup.', ({ result }) => result.duplicateBroadcasts],
  ['p50', ({ result }) => result.p50Ms],
  ['p95', ({ result }) => result.p95Ms],
  ['max', ({ result }) => result.maxMs],
  ['', ({ cell, result }) => (keepsPromise(cell, result) ? '' : 'BROKEN')],
]

export function tableOf(rows: readonly Finished[]): string {
  const lines = [
    columns.map(([head]) => head),
    ...rows.map(row => columns.map(([, value]) => `${value(row)}`)),
  ]
  const widths = columns.map((_, column) => Math.max(...lines.map(line => line[column]?.length ?? 0)))
  return lines
    .map(line =>
      line
        .map((text, column) => text.padStart(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}
