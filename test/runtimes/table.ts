import { table } from '../../src/cli/table.ts'
import type { Result } from './case.ts'

/** A row for each runtime would be too wide: the cases are the rows. */
export function matrix(columns: readonly { name: string; results: readonly Result[] }[]): string {
  const cases = [...new Set(columns.flatMap(({ results }) => results.map(({ name }) => name)))]
  const rows = cases.map(name => [
    name,
    ...columns.map(({ results }) => cell(results.find(result => result.name === name))),
  ])
  return table([['', ...columns.map(({ name }) => name)], ...rows])
}

function cell(result: Result | undefined): string {
  if (result === undefined) return '-'
  return `${result.error === undefined ? 'ok' : 'FAIL'} ${Math.round(result.durationMs)}`
}
