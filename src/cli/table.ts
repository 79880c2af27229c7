/** Rows as aligned text. */
import { printable } from './printable.ts'

/** @param width columns of the terminal; longer lines are cut */
export function table(cells: readonly (readonly string[])[], width = Number.POSITIVE_INFINITY): string {
  const rows = cells.map(row => row.map(cell => printable(`${cell}`)))
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map(row => row[column]?.length ?? 0)))
  return rows
    .map(row =>
      row
        .map((cell, column) => cell.padEnd(widths[column] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .map(line => (line.length > width ? `${line.slice(0, width - 1)}…` : line))
    .join('\n')
}
