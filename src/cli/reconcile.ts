/** `x402-aggregator reconcile`: a ledger held against its chain. */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { Variables } from '../env/variables.ts'
import { caip2 } from '../payment/networks.ts'
import type { Finding, Reconciliation } from '../reconcile/index.ts'
import { readArguments } from './arguments.ts'
import { readConfiguration } from './configuration.ts'
import { defaultLedger, demandFile, openLedger } from './ledger.ts'
import { csvCell, writeOut } from './output.ts'
import { printable, printableJson } from './printable.ts'
import { timeOf } from './time.ts'
import { UsageError } from './usage-error.ts'

const help = `usage: x402-aggregator reconcile --network <name> --pay-to <address> --asset <address> [options]

Holds the ledger against the chain: what was paid and not delivered, delivered and not paid, charged and recorded as
rejected, and income that no payment of the ledger explains. Nothing is written to either.

Exit code: 0 when ledger and chain agree, 1 when anything was found, 2 when it could not be done, 3 when nothing was found
and not everything could be seen.

options:
  --ledger <address>        sqlite:<file> or postgres://…; FACILITATOR_LEDGER or sqlite:./x402.db by default
  --network <name>          an EVM chain, such as eip155:8453 or base
  --rpc-url <url>           a node of the chain; may be repeated; RPC_URL_<chain id> by default
  --pay-to <address>        who is paid
  --asset <address>         the token
  --from <position>         number of a block, 24h, 30d, or 2026-01-31T00:00:00Z (24h by default)
  --to <position>           the last block, or the time before which; the newest block by default
  --confirmations <n>       blocks that must lie on top of a block, itself included (10 by default)
  --resume <file>           keeps its progress there, and goes on from it where it was interrupted
  --json                    writes all that was found as JSON
  --csv                     writes the findings as CSV
  --config <file>           JSON with the names of the variables; variables win
  --help

example:
  RPC_URL_8453=https://mainnet.base.org x402-aggregator reconcile --network base --from 24h \\
    --pay-to 0x… --asset 0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913`

/** Milliseconds between two lines about progress. */
const progressMs = 2_000

export async function reconcileLedger(args: string[]): Promise<number> {
  const { values } = readArguments({
    args,
    options: {
      ledger: { type: 'string' },
      network: { type: 'string' },
      'rpc-url': { type: 'string', multiple: true },
      'pay-to': { type: 'string' },
      asset: { type: 'string' },
      from: { type: 'string', default: '24h' },
      to: { type: 'string' },
      confirmations: { type: 'string' },
      resume: { type: 'string' },
      json: { type: 'boolean', default: false },
      csv: { type: 'boolean', default: false },
      config: { type: 'string' },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const { network, asset, 'pay-to': payTo } = values
  if (network === undefined) throw missing('--network', 'eip155:8453')
  if (payTo === undefined) throw missing('--pay-to', '0x…')
  if (asset === undefined) throw missing('--asset', '0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913')
  if (values.json && values.csv) throw new UsageError('give either --json or --csv')
  const from = readPosition('--from', values.from)
  const to = values.to === undefined ? undefined : readPosition('--to', values.to)
  const environment = await readConfiguration(values.config)
  const chainId = caip2(network).replace(/^eip155:/, '')
  const rpcUrl = values['rpc-url'] ?? readNodes(new Variables(environment), `RPC_URL_${chainId}`)
  const address = values.ledger ?? (`${environment.FACILITATOR_LEDGER ?? ''}`.trim() || defaultLedger)
  await demandFile(address)
  const { reconcile, ReconciliationError } = await load()
  const resume = values.resume === undefined ? undefined : await readProgress(values.resume)
  const { ledger, close } = await openLedger(address)
  if (ledger === undefined) throw new UsageError('--ledger memory: it is forgotten with its process')
  try {
    const found = await reconcile({
      ledger,
      network,
      rpcUrl,
      payTo,
      asset,
      from,
      ...(to === undefined ? {} : { to }),
      ...(values.confirmations === undefined ? {} : { confirmations: Number(values.confirmations) }),
      ...(resume === undefined ? {} : { resume }),
      onProgress: progressTo(values.resume),
    })
    const format = values.json ? json : values.csv ? csv : text
    await writeOut(format(found))
    if (found.findings.length > 0) return 1
    return found.unseen.length > 0 ? 3 : 0
  } catch (error) {
    // What was typed is wrong, or a node or the ledger has failed: one line.
    if (error instanceof TypeError && error.message.startsWith('reconcile: '))
      throw new UsageError(inOptions(error.message))
    if (error instanceof ReconciliationError && values.resume !== undefined)
      throw new UsageError(`${error.message}; the same command goes on from ${values.resume}`)
    throw error
  } finally {
    await close()
  }
}

const missing = (option: string, example: string) =>
  new UsageError(`${option} is missing; for example ${option} ${example}`)

/** The options as they are typed. */
function inOptions(message: string): string {
  return message.replace(/^reconcile: (\w+): /, (_, name: string) => {
    const option = name.replace(/[A-Z]/g, letter => `-${letter.toLowerCase()}`)
    return `--${option}: `
  })
}

function readPosition(option: string, text: string): bigint | Date {
  if (/^\d{1,18}$/.test(text)) return BigInt(text)
  const time = timeOf(text)
  if (time !== undefined) return new Date(time)
  throw new UsageError(
    `${option}: expected the number of a block, or a time such as 24h, 30d or 2026-01-31T00:00:00Z, got "${text}"`,
  )
}

function readNodes(variables: Variables, name: string): string[] {
  const urls = variables.urls(name, 'https://mainnet.base.org')
  variables.throwIfWrong()
  if (urls === undefined) throw new UsageError(`give --rpc-url, or set ${name}`)
  return urls
}

async function load() {
  // Bundlers take an import that may fail for optional only inside a `try`.
  try {
    return await import('../reconcile/index.ts')
  } catch {
    throw new UsageError('reconcile needs viem: npm install viem')
  }
}

async function readProgress(path: string): Promise<Reconciliation | undefined> {
  let content: string
  try {
    content = await readFile(path, 'utf8')
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw new UsageError(`--resume ${path}: cannot be read (${(error as NodeJS.ErrnoException).code})`)
  }
  try {
    const progress: Reconciliation = JSON.parse(content)
    if (Number.isInteger(progress.nextBlock) && Array.isArray(progress.findings)) return progress
  } catch {
    // Below.
  }
  throw new UsageError(`--resume ${path}: is not the progress of a reconciliation; remove it to begin anew`)
}

/** Keeps the progress in a file, and shows it now and then. */
function progressTo(path: string | undefined): (progress: Reconciliation) => Promise<void> {
  let shownAt = performance.now()
  return async progress => {
    if (path !== undefined) {
      // Whole or not at all.
      await writeFile(`${path}.new`, JSON.stringify(progress))
      await rename(`${path}.new`, path)
    }
    if (performance.now() - shownAt < progressMs) return
    shownAt = performance.now()
    const { fromBlock, toBlock, nextBlock, findings } = progress
    const share = Math.floor((100 * (nextBlock - fromBlock)) / (toBlock + 1 - fromBlock))
    console.error(`block ${nextBlock - 1} of ${toBlock} (${share} %), ${findings.length} found`)
  }
}

const json = (found: Reconciliation) => `${printableJson(found)}\n`

const columns = [
  'kind',
  'reason',
  'transaction',
  'block',
  'received',
  'payer',
  'state',
  'price',
  'time',
  'resource',
  'key',
] as const

function csv({ findings, unseen }: Reconciliation): string {
  for (const what of unseen) console.error(printable(`not seen: ${what.kind}: ${what.reason}`))
  const rows = findings.map(finding => {
    const row = rowOf(finding)
    return columns.map(column => csvCell(row[column])).join()
  })
  return `${[columns.join(), ...rows].join('\r\n')}\r\n`
}

function rowOf(finding: Finding): Readonly<Record<(typeof columns)[number], string>> {
  const { kind, reason, transfer } = finding
  const payment = 'payment' in finding ? finding.payment : undefined
  return {
    kind,
    reason,
    transaction: transfer?.transaction ?? payment?.transaction ?? '',
    block: `${transfer?.block ?? ''}`,
    received: transfer?.amount ?? '',
    payer: transfer?.payer ?? payment?.payer ?? '',
    state: payment?.state ?? '',
    price: payment?.amount ?? '',
    time: payment ? new Date(payment.since).toISOString() : '',
    resource: payment?.resource ?? '',
    key: payment?.key ?? '',
  }
}

function text(found: Reconciliation): string {
  const { network, payTo, fromBlock, toBlock, transfers, received, payments, credits } = found
  const lines = found.findings.map(finding => {
    const { kind, reason, transaction, received, payer, key } = rowOf(finding)
    const money = received && `${received} `
    return `${kind}: ${money}from ${payer}${transaction && ` in ${transaction}`}: ${reason}${key && ` ${key}`}`
  })
  const summary = [
    `${network}, blocks ${fromBlock} to ${toBlock}: ${transfers} transfers of ${received} to ${payTo},`,
    `${payments} payments in the ledger, ${credits.length} of them credited`,
  ].join(' ')
  const end = lines.length === 0 ? 'nothing was found' : `${lines.length} found`
  const hidden = found.unseen.map(({ kind, reason }) => `not seen: ${kind}: ${reason}`)
  return `${[...lines, ...hidden, summary, end].map(printable).join('\n')}\n`
}
