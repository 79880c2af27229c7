/** `x402-aggregator export`: the payments of a ledger, for a spreadsheet or another program. */
import type { LedgerEntry, SettlementLedger } from '../settlement/ledger.ts'
import { readArguments } from './arguments.ts'
import { readConfiguration } from './configuration.ts'
import { defaultLedger, demandFile, openLedger } from './ledger.ts'
import { csvCell, writeOut } from './output.ts'
import { timeOf } from './time.ts'
import { UsageError } from './usage-error.ts'

const help = `usage: x402-aggregator export [options]

Writes the payments of a ledger to stdout, the oldest first: time (of the first claim), network, asset, amount (in atomic
units), payer, payee, transaction, facilitator, state, key.

options:
  --ledger <address>        sqlite:<file>, postgres://… or redis://…; FACILITATOR_LEDGER or sqlite:./x402.db by default
  --since <time>            from this time on: 24h, 30d, or 2026-01-31T00:00:00Z
  --until <time>            before this time
  --format <name>           csv (the default), json or ndjson
  --config <file>           JSON with the names of the variables; variables win
  --help

example:
  x402-aggregator export --ledger sqlite:./x402.db --since 30d > payments.csv`

const columns = [
  'time',
  'network',
  'asset',
  'amount',
  'payer',
  'payee',
  'transaction',
  'facilitator',
  'state',
  'key',
] as const

type Row = Readonly<Record<(typeof columns)[number], string>>

interface Format {
  readonly begin: string
  write(row: Row, isFirst: boolean): string
  readonly end: string
}

const formats: Readonly<Record<string, Format>> = {
  csv: {
    begin: `${columns.join()}\r\n`,
    write: row => `${columns.map(column => csvCell(row[column])).join()}\r\n`,
    end: '',
  },
  json: {
    begin: '[',
    write: (row, isFirst) => `${isFirst ? '' : ','}\n${JSON.stringify(row)}`,
    end: '\n]\n',
  },
  ndjson: { begin: '', write: row => `${JSON.stringify(row)}\n`, end: '' },
}

/** Entries that are in memory at a time. */
const pageSize = 500

export async function exportPayments(args: string[]): Promise<number> {
  const { values } = readArguments({
    args,
    options: {
      ledger: { type: 'string' },
      since: { type: 'string' },
      until: { type: 'string' },
      format: { type: 'string', default: 'csv' },
      config: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const format = Object.hasOwn(formats, values.format) ? formats[values.format] : undefined
  if (format === undefined)
    throw new UsageError(`--format: expected ${Object.keys(formats).join(', ')}, got "${values.format}"`)
  const from = readTime('--since', values.since)
  const until = readTime('--until', values.until)
  const { FACILITATOR_LEDGER } = await readConfiguration(values.config)
  const address = values.ledger ?? (`${FACILITATOR_LEDGER ?? ''}`.trim() || defaultLedger)
  await demandFile(address)
  const { ledger, close } = await openLedger(address)
  if (ledger === undefined) throw new UsageError('--ledger memory: it is forgotten with its process')
  try {
    for await (const text of textOf(rowsOf(ledger, { from, until }), format))
      if (!(await writeOut(text))) return 0
  } finally {
    await close()
  }
  return 0
}

/** @returns Unix ms */
function readTime(option: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  const time = timeOf(text)
  if (time === undefined)
    throw new UsageError(`${option}: expected a time such as 24h, 30d or 2026-01-31T00:00:00Z, got "${text}"`)
  return time
}

type Range = Readonly<Record<'from' | 'until', number | undefined>>

async function* rowsOf(ledger: SettlementLedger, range: Range): AsyncGenerator<Row> {
  let cursor: string | undefined
  do {
    const page = await ledger.list({ ...range, limit: pageSize, cursor })
    yield* page.entries.map(rowOf)
    cursor = page.cursor
  } while (cursor !== undefined)
}

async function* textOf(rows: AsyncGenerator<Row>, { begin, write, end }: Format): AsyncGenerator<string> {
  yield begin
  let isFirst = true
  for await (const row of rows) {
    yield write(row, isFirst)
    isFirst = false
  }
  yield end
}

function rowOf({ key, query, since, settlement }: LedgerEntry): Row {
  const { network, asset, amount, payer = '', payTo } = query
  const transaction = 'transaction' in settlement ? (settlement.transaction ?? '') : ''
  const facilitator = settlement.state === 'settled' ? (settlement.facilitator ?? '') : ''
  const time = new Date(since).toISOString()
  const { state } = settlement
  return { time, network, asset, amount, payer, payee: payTo, transaction, facilitator, state, key }
}
