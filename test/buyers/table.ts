/** The table as Markdown, as it stands in the documentation. */
import type { CellName, CellResult } from './cell.ts'
import { exceptionOf, keepsPromise } from './matrix.ts'

export interface Finished {
  readonly cell: CellName
  readonly result: CellResult
}

const head = ['fault', 'server', 'client', 'charged', 'delivered', 'what the buyer saw', '']

export function tableOf(rows: readonly Finished[]): string {
  const reasons = [...new Set(rows.flatMap(({ cell }) => exceptionOf(cell) ?? []))]
  const lines = rows.map(({ cell, result }) => {
    const reason = exceptionOf(cell)
    const note = reason === undefined ? '' : `(${reasons.indexOf(reason) + 1})`
    return [
      cell.fault,
      cell.server,
      cell.client,
      `${result.charged}`,
      `${result.delivered}`,
      result.seen.join('; '),
      keepsPromise(cell, result) ? note : 'BROKEN',
    ]
  })
  const table = [head, head.map(() => '---'), ...lines].map(line => `| ${line.join(' | ')} |`).join('\n')
  const notes = reasons.map((reason, at) => `${at + 1}. ${reason}`).join('\n')
  return notes === '' ? table : `${table}\n\n${notes}`
}

/** The page that the README names. */
export function pageOf(table: string, purchases: number): string {
  return `# What buyers are charged and what they get, through every fault

Made by \`npm run buyers -- --write\`. In each cell ${purchases} buyers, whose clients are as their authors ship them, make the same
call again after any error, up to 8 times; the chain says what they were charged. The seller has a probe, \`trackDelivery\`
(at MCP servers \`guardMcp\`), and where a replica is killed a ledger that both replicas share.

${table}
`
}
