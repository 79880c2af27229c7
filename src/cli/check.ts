/** `x402-aggregator check`: asks every configured facilitator, and every node of a chain, once. */
import { FacilitatorAggregator } from '../aggregator.ts'
import { optionsFromEnv } from '../env/index.ts'
import { knownFacilitators } from '../known/index.ts'
import type { AttemptReport } from '../observe/attempt-report.ts'
import type { AggregatorOptions, FacilitatorOptions } from '../options/options.ts'
import { readArguments } from './arguments.ts'
import { readConfiguration } from './configuration.ts'
import { askNodes, type NodeFinding } from './nodes.ts'
import { printableJson, withoutKeys } from './printable.ts'
import { table } from './table.ts'

const help = `usage: x402-aggregator check [options]

Asks every configured facilitator once for what it supports (GET /supported), and every node of RPC_URL_<chain id> and
RPC_URL_SOLANA for its chain. Exit code 1 when one that is enabled cannot be used.

options:
  --config <file>   JSON with the names of the variables; variables win
  --json            the findings as JSON
  --help

example:
  FACILITATOR_1_ID=payai FACILITATOR_2_URL=https://facilitator.x402.rs x402-aggregator check`

interface Finding {
  id: string
  /** Without a path of its own, which may hold a key. */
  url: string | undefined
  status: 'ok' | 'disabled' | 'refused credentials' | 'failed'
  /** Why it cannot be used. */
  reason?: string | undefined
  latencyMs?: number
  versions: number[]
  schemes: string[]
  networks: string[]
  /** `accepted` by `/supported`, which not every facilitator guards. */
  credentials: 'none' | 'accepted' | 'refused' | 'unknown'
}

export async function check(args: string[]): Promise<number> {
  const { values } = readArguments({
    args,
    options: {
      config: { type: 'string' },
      json: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h', default: false },
    },
  })
  if (values.help) {
    console.log(help)
    return 0
  }
  const options = optionsFromEnv(await readConfiguration(values.config))
  const [facilitators, nodes] = await Promise.all([
    Promise.all(options.facilitators.map(facilitator => ask(facilitator, options))),
    askNodes(options),
  ])
  console.log(values.json ? printableJson({ facilitators, nodes }) : describe(facilitators, nodes))
  const isUsable = ({ status }: Finding | NodeFinding) => status === 'ok' || status === 'disabled'
  return [...facilitators, ...nodes].every(isUsable) ? 0 : 1
}

async function ask(facilitator: FacilitatorOptions, options: AggregatorOptions): Promise<Finding> {
  const alone = new FacilitatorAggregator({
    ...options,
    logger: false,
    facilitators: [{ ...facilitator, enabled: true }],
    retries: 0,
    healthCheck: false,
  })
  const [member] = alone.getConfig().facilitators
  const hasCredentials = facilitator.createAuthHeaders !== undefined
  const finding: Finding = {
    id: member?.id ?? '',
    url: shownUrl(facilitator),
    status: 'ok',
    versions: [],
    schemes: [],
    networks: [],
    credentials: hasCredentials ? 'unknown' : 'none',
  }
  if (facilitator.enabled === false) return { ...finding, status: 'disabled' }

  let attempt: AttemptReport | undefined
  alone.on('attempt', report => {
    attempt = report
  })
  try {
    const { kinds } = await alone.getSupported()
    finding.versions = unique(kinds.map(({ x402Version }) => x402Version))
    finding.schemes = unique(kinds.map(({ scheme }) => scheme))
    finding.networks = unique(kinds.map(({ network }) => network))
    if (hasCredentials) finding.credentials = 'accepted'
  } catch {
    const answered = attempt?.outcome === 'answered' && 'it advertises nothing that a payment could be of'
    finding.reason = answered || withoutKeys(attempt?.reason ?? attempt?.outcome ?? 'it was not asked')
    const isRefused = attempt !== undefined && /\b(401|403|createAuthHeaders)\b/.test(attempt.reason ?? '')
    finding.status = isRefused ? 'refused credentials' : 'failed'
    if (isRefused) finding.credentials = 'refused'
  } finally {
    await alone.stop()
  }
  if (attempt !== undefined) finding.latencyMs = Math.round(attempt.durationMs)
  return finding
}

/** The paths of public facilitators are known to all. */
function shownUrl({ url }: FacilitatorOptions): string | undefined {
  const isPublic = Object.values(knownFacilitators).some(known => known.url === url?.replace(/\/+$/, ''))
  return url === undefined || isPublic ? url : withoutKeys(url)
}

function unique<T>(values: readonly T[]): T[] {
  return [...new Set(values)].sort()
}

function describe(facilitators: readonly Finding[], nodes: readonly NodeFinding[]): string {
  const facilitatorRows = facilitators.map(finding => [
    finding.id,
    statusOf(finding),
    finding.latencyMs === undefined ? '-' : `${finding.latencyMs} ms`,
    finding.credentials,
    finding.versions.map(version => `v${version}`).join(' ') || '-',
    finding.schemes.join(' ') || '-',
    finding.networks.join(' ') || '-',
  ])
  const nodeRows = nodes.map(finding => [
    finding.network,
    finding.node,
    statusOf(finding),
    `${finding.latencyMs} ms`,
  ])
  const { columns } = process.stdout
  const header = ['FACILITATOR', 'STATUS', 'LATENCY', 'CREDENTIALS', 'VERSIONS', 'SCHEMES', 'NETWORKS']
  const tables = [table([header, ...facilitatorRows], columns)]
  if (nodes.length > 0) tables.push(table([['CHAIN', 'NODE', 'STATUS', 'LATENCY'], ...nodeRows], columns))
  return tables.join('\n\n')
}

function statusOf({ status, reason }: Finding | NodeFinding): string {
  return reason === undefined ? status : `${status}: ${reason}`
}
