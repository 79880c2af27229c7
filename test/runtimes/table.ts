import type { Result } from './case.ts'

/** A row for each runtime would be too wide: the cases are the rows. */
export function table(columns: readonly { name: string; results: readonly Result[] }[]): string {
  const cases = [...new Set(columns.flatMap(({ results }) => results.map(({ name }) => name)))]
  const rows = cases.map(name => [
    name,
    ...columns.map(({ results }) => cell(results.find(result => result.name === name))),
  ])
  const lines = [['', ...columns.map(({ name }) => name)], ...rows]
  const widths = (lines[0] ?? []).map((_, index) => Math.max(...lines.map(line => line[index]?.length ?? 0)))
  return lines
    .map(line =>
      line
        .map((text, index) => text.padEnd(widths[index] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n')
}

function cell(result: Result | undefined): string {
  if (result === undefined) return '-'
  return `${result.error === undefined ? 'ok' : 'FAIL'} ${Math.round(result.durationMs)}`
}
