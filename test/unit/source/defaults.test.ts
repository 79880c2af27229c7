/** A default has one home, the code: docstrings, README and command line are compared with it. */
import { describe, expect, it } from 'vitest'
import { optionsFromEnv } from '../../../src/env/index.ts'
import { facilitatorFields, poolVariables } from '../../../src/env/names.ts'
import { defaults, readOptions } from '../../../src/options/options.ts'
import {
  cellValue,
  codedDefaults,
  constant,
  type DocumentedOption,
  documentedOptions,
  tablesWith,
  written,
} from './defaults.ts'
import { parse, parseFolder, read } from './source.ts'

const readme = read('README.md')
const port = only('src/node/listen.ts', 'port')
const [hostname = ''] = [...(codedDefaults(parse('src/node/listen.ts')).get('hostname') ?? [])].map(text =>
  JSON.parse(text),
)
const perSecond = constant('src/http/rate-limit.ts', 'defaultRateLimit.perSecond')
const ledger = 'src/settlement/memory-ledger.ts'

/** What only a running program knows: its code, the docstring's words for it, and the README's. */
const inWords = [
  ['index + 1', 'its place in the list, from 1', 'its place in the list'],
  ['known', 'the name in `known`', 'required'],
  ['new MemoryLedger()', 'a `MemoryLedger`', `in memory, ${grouped(only(ledger, 'maxEntries'))} entries`],
  [
    'defaultRateLimit',
    `for those without a token { perSecond: ${perSecond} }, for those with one none`,
    `\`{ perSecond: ${perSecond}, burst: ${5 * perSecond} }\` without a token, none with one`,
  ],
  ['Math.max(1, 5 * perSecond)', 'five times perSecond', '-'],
  [`\`\${role}-\${place + 1}\``, "the role and the place in the list, as in 'pay-1'", '-'],
  [
    "runtimeWithoutTimers() ? 'lazy' : 'interval'",
    "'lazy' on Cloudflare Workers and the Edge runtime, where 'interval' is refused; 'interval' elsewhere",
    "`'interval'`; `'lazy'` on Workers and Edge",
  ],
]

/** Docstrings of what stays undefined, or is the runtime's own, until somebody sets it. */
const unset = ['the global one', 'none', 'warnings and errors to the console', 'of Node.js, Bun and Deno']

/** Computed: what an aggregator makes of it is compared below. */
const computed = ['deadlineMs']

/** Cells of the README that stand for the other rows of the table. */
const ofOtherRows: Record<string, string> = {
  'options: healthCheck': 'on',
  'options: hedge.afterMs': '-',
  'facilitators: timeoutMs': 'those above',
  'facilitators: retries': 'those above',
  'facilitators: url': '-',
  'gateway: tokens': 'none',
}

/** Each with the title of its test. */
function titled<T>(facts: readonly T[], title: (fact: T) => string): [string, T][] {
  return facts.map(fact => [title(fact), fact])
}

/** 10000 as sentences have it: 10,000. */
function grouped(value: number): string {
  return value.toLocaleString('en-US')
}

/** The one default of this name in a file. */
function only(path: string, name: string): number {
  const [value, another] = codedDefaults(parse(path)).get(name) ?? []
  if (value === undefined || another !== undefined) throw new Error(`${path}: not one default of ${name}`)
  return Number(value)
}

function isLiteral(text: string): boolean {
  return /^(["\d[{]|true$|false$)/.test(text)
}

/** What facilitators answer, and the command line's findings, are no options. */
const options = parseFolder('src')
  .filter(({ fileName }) => !/^src\/(cli|facilitator)\//.test(fileName))
  .flatMap(file => {
    const coded = codedDefaults(file)
    return documentedOptions(file).map(option => ({ ...option, coded: [...(coded.get(option.name) ?? [])] }))
  })
const withDefault = options.flatMap(({ text, ...option }) => (text === undefined ? [] : { ...option, text }))

describe('the docstring of each option gives the default that the code has', () => {
  const compared = withDefault.filter(({ name, text }) => !unset.includes(text) && !computed.includes(name))
  it.each(titled(compared, ({ owner, name, text }) => `${owner}.${name} is ${text}`))(
    '%s',
    (_, { text, coded }) => {
      const literals = coded.filter(isLiteral)
      const words = coded.map(code => inWords.find(([known]) => known === code)?.[1] ?? code)
      if (isLiteral(written(text))) expect(literals).toEqual([written(text)])
      else expect(words).toContain(text)
    },
  )

  it('no option has a default in the code alone', () => {
    // Those of one facilitator override the aggregator's.
    const overrides = ['FacilitatorCommon.timeoutMs', 'FacilitatorCommon.retries']
    const silent = options
      .filter(({ owner, isOptional }) => isOptional && /Options$|^Facilitator|^OverHttp$/.test(owner))
      .filter(({ text, coded }) => text === undefined && coded.some(isLiteral))
      .map(({ owner, name }) => `${owner}.${name}`)
    expect(silent).toEqual(overrides)
  })

  it('an aggregator that is given nothing but its facilitators has those defaults', () => {
    const ask = () => Promise.reject(new Error('nobody is asked'))
    const client = { verify: ask, settle: ask, getSupported: ask }
    const settings = readOptions({ facilitators: [{ id: 'a', client }] })
    const [member] = settings.members
    const inUse: Record<string, object> = {
      AggregatorOptions: { ...settings, timeoutMs: member?.timeoutMs, retries: member?.retries },
      SettlementOptions: settings.settlement,
      HealthCheckOptions: settings.healthCheck,
      FacilitatorCommon: member ?? {},
    }
    const compared = withDefault.filter(({ owner, text }) => owner in inUse && isLiteral(written(text)))
    const inUseOf = (owner: string, name: string) =>
      Object.entries(inUse[owner] ?? {}).find(([key]) => key === name)?.[1]
    expect(compared.map(({ owner, name }) => [owner, name, JSON.stringify(inUseOf(owner, name))])).toEqual(
      compared.map(({ owner, name, text }) => [owner, name, written(text)]),
    )
    expect(compared.length).toBeGreaterThanOrEqual(18)
  })
})

const [gateway = [], status = [], aggregator = [], facilitators = []] = tablesWith(
  readme,
  'option',
  'default',
)
const [variables = []] = tablesWith(readme, 'variable', 'default')

const ownersOf: Record<string, readonly string[]> = {
  '': ['AggregatorOptions'],
  settlement: ['SettlementOptions'],
  healthCheck: ['HealthCheckOptions'],
  hedge: [],
}
const rows = [
  ...gateway.map(row => ({ ...row, title: 'gateway', owners: ['GatewayOptions'] })),
  ...status.map(row => ({ ...row, title: 'status', owners: ['StatusHandlerOptions'] })),
  ...aggregator.map(row => ({ ...row, title: 'options', owners: undefined })),
  ...facilitators.map(row => ({
    ...row,
    title: 'facilitators',
    owners: ['FacilitatorCommon', 'OverHttp', 'FacilitatorByUrl', 'FacilitatorByName', 'FacilitatorByClient'],
  })),
].flatMap(({ names, ...row }) =>
  names.map(full => {
    const [name = '', group = ''] = full.split('.').reverse()
    const owners = row.owners ?? ownersOf[group] ?? []
    return { ...row, full, option: options.find(one => one.name === name && owners.includes(one.owner)) }
  }),
)

/** The cell that the README must have for an option. */
function cellOf({ text, isOptional }: DocumentedOption): string {
  if (text === undefined) return isOptional ? '-' : 'required'
  return inWords.find(([, docstring]) => docstring === text)?.[2] ?? written(text)
}

describe('the README gives the default of each option', () => {
  it.each(titled(rows, ({ title, full, cell }) => `${title}: ${full} is ${cell}`))(
    '%s',
    (_, { title, full, cell, option }) => {
      const expected = ofOtherRows[`${title}: ${full}`] ?? (option && cellOf(option))
      expect([cell, cellValue(cell)]).toContain(expected)
    },
  )

  it('no option is missing', () => {
    const named = new Set(rows.flatMap(({ option }) => option ?? []))
    const tabled = [
      'GatewayOptions',
      'StatusHandlerOptions',
      'AggregatorOptions',
      'SettlementOptions',
      'HealthCheckOptions',
    ]
    const missing = options.filter(option => tabled.includes(option.owner) && !named.has(option))
    // Its rows are those of what is in it.
    expect(missing.map(({ name }) => name)).toEqual(['hedge', 'settlement'])
  })
})

describe('the README gives the default of each variable', () => {
  const read_ = optionsFromEnv({ FACILITATOR_1_URL: 'https://facilitator.example' })
  const [first] = read_.facilitators
  const timeoutMs = typeof read_.timeoutMs === 'object' ? read_.timeoutMs : {}
  const healthCheck = read_.healthCheck || {}
  const inUse: Record<string, unknown> = {
    ENABLE_FACILITATOR_AGGREGATOR: read_.enabled,
    FACILITATOR_TIMEOUT_MS: timeoutMs.verify,
    FACILITATOR_SETTLE_TIMEOUT_MS: timeoutMs.settle,
    FACILITATOR_RETRIES: read_.retries,
    FACILITATOR_HEALTH_CHECK: read_.healthCheck !== false,
    FACILITATOR_HEALTH_CHECK_INTERVAL_MS: healthCheck.intervalMs,
    FACILITATOR_MAX_CONSECUTIVE_FAILURES: healthCheck.maxConsecutiveFailures,
    FACILITATOR_LOGGING: read_.logger !== undefined,
    'FACILITATOR_<n>_ENABLED': first?.enabled,
    FACILITATOR_GATEWAY_RATE_LIMIT: perSecond,
    PORT: port,
    HOST: hostname,
  }
  const compared = variables.flatMap(({ names, cell }) => names.map(name => ({ name, cell })))

  it.each(
    titled(
      compared.filter(({ name }) => name in inUse),
      ({ name, cell }) => `${name} is ${cell}`,
    ),
  )('%s', (_, { name, cell }) => {
    expect(cellValue(cell)).toBe(`${inUse[name]}`)
  })

  it('and of no other as a value', () => {
    const others = compared.filter(({ name, cell }) => !(name in inUse) && isLiteral(cellValue(cell)))
    expect(others).toEqual([])
    expect(compared.filter(({ name }) => name in inUse)).toHaveLength(Object.keys(inUse).length)
  })

  it('no variable is missing', () => {
    const known = [...poolVariables, ...facilitatorFields.map(field => `FACILITATOR_<n>_${field}`)]
    expect(compared.map(({ name }) => name)).toEqual(expect.arrayContaining(known))
  })
})

const seconds = (ms: number) => `${ms / 1000} s`
const settle = 2 * defaults.timeoutMs.settle
const leaseMarginMs = constant('src/settlement/books.ts', 'leaseMarginMs')
const updateMs = constant('src/ledgers/shared-ledger.ts', 'updateTimeoutMs')
const ledgerMs = constant('src/ledgers/shared-ledger.ts', 'timeoutMs')
const ledgerTimes = `${seconds(updateMs)}, its other calls ${seconds(ledgerMs)}`
const words = ['no', 'one', 'two', 'three', 'four', 'five']
const probe = 'src/evm/index.ts'
const svmProbe = 'src/svm/index.ts'
const logLimit = constant('src/http/status.ts', 'defaultLimit')
const [statusPath = ''] = codedDefaults(parse('src/http/gateway.ts')).get('statusPath') ?? []
const key = 'src/payment/payment-key.ts'
const svm = 'src/payment/svm-transaction.ts'
const schema = 'src/facilitator/response-schema.ts'
const graceMs = only('src/node/shutdown.ts', 'graceMs')
const lateMs = constant('src/node/shutdown.ts', 'lateMs')
const rememberedMs = constant('src/http/verified-payments.ts', 'rememberedMs')
const maxConnections = only('src/node/listen.ts', 'maxConnections')
const unreadMs = constant('src/node/connections.ts', 'unreadMs')
const limit = (name: string) => seconds(constant('src/node/listen.ts', `limits.${name}`))

const sentences = [
  ['README.md', `After ${words[defaults.maxConsecutiveFailures]} failures in a row a circuit opens`],
  ['README.md', `about ${seconds(constant('src/settlement/machine.ts', 'skewMs'))} and a block`],
  ['README.md', `A success counts after \`confirmations\` (${only(probe, 'confirmations')} by default)`],
  ['README.md', `\`confirmations\` (${only(probe, 'confirmations')})`],
  ['README.md', `\`searchBlocks\` (${grouped(only(probe, 'searchBlocks'))})`],
  ['README.md', `\`blocksPerRequest\` (${grouped(only(probe, 'blocksPerRequest'))})`],
  ['README.md', `\`timeoutMs\` (${grouped(only(probe, 'timeoutMs'))} for one request)`],
  ['README.md', `(\`'confirmed'\`), \`searchSignatures\` (${grouped(only(svmProbe, 'searchSignatures'))})`],
  [
    'README.md',
    `of the last ${constant(svmProbe, 'maxLagSeconds')} s. One that is down or of another cluster is passed over for ${seconds(constant('src/svm/nodes.ts', 'restMs'))}`,
  ],
  ['README.md', `\`deadlineMs.settle\` (${grouped(settle)}) ends first`],
  ['README.md', `found ${constant('src/evm/nodes.ts', 'maxLagSeconds')} s behind the others`],
  ['README.md', `passed over for ${seconds(constant('src/evm/nodes.ts', 'restMs'))}`],
  ['README.md', `has done so for ${constant('src/evm/nodes.ts', 'maxLagSeconds')} s`],
  ['README.md', `expires within ${constant('src/evm/nodes.ts', 'maxLagSeconds')} s`],
  ['README.md', `made after the answer, up to ${seconds(constant('src/evm/dry-run.ts', 'freshBlockMs'))}`],
  ['README.md', `\`deadlineMs.settle\` and ${seconds(leaseMarginMs)} after it was made`],
  ['README.md', `(${seconds(settle + leaseMarginMs)} by default)`],
  ['README.md', `${grouped(constant('src/http/idempotency.ts', 'maxAnswers'))} answers are kept`],
  ['README.md', `for up to ${seconds(graceMs)} (\`--grace\`)`],
  ['README.md', `a longer \`timeoutMs\` (${grouped(defaults.timeoutMs.verify)} → 10,000)`],
  ['README.md', `\`update\` may take ${ledgerTimes}`],
  ['README.md', `the newest ${grouped(constant('src/observe/statistics.ts', 'windowSize'))} attempts`],
  ['README.md', `(${grouped(constant('src/ledgers/shared-ledger.ts', 'maxRecords'))} at most)`],
  ['README.md', `a gateway (${port}) with tokens`],
  ['README.md', `logLimit=50" # ${logLimit} by default`],
  ['README.md', `(${logLimit}, at most ${grouped(constant('src/http/status.ts', 'maxSettlements'))})`],
  ['src/http/status.ts', `\`&logLimit=50\`, ${logLimit} by default,`],
  ['README.md', `\`maxEntries\`, ${grouped(only(ledger, 'maxEntries'))}, about`],
  [
    'README.md',
    `| 64; ${grouped(constant(key, 'maxValues'))}; ${grouped(constant(svm, 'longestText'))} letters`,
  ],
  [
    'README.md',
    `an \`extra\` of ${grouped(constant('src/pool/capabilities.ts', 'longestExtra'))} characters`,
  ],
  ['README.md', `${grouped(constant('src/facilitator/reasons.ts', 'longestRead'))} characters of its reason`],
  ['README.md', `| \`maxLogEntries\`, ${grouped(only('src/options/options.ts', 'maxLogEntries'))} |`],
  ['README.md', `${constant(schema, 'maxFamilies')} families of ${constant(schema, 'maxItems')} signers`],
  ['src/cli/status.ts', `url.pathname = '${JSON.parse(statusPath)}'`],
  ['CHANGELOG.md', `A ledger's \`update\` may take ${ledgerTimes}`],
  ['src/aggregator.ts', `\`deadlineMs.settle\` and ${seconds(leaseMarginMs)} after it was made`],
  [
    'src/observe/statistics.ts',
    `the newest ${grouped(constant('src/observe/statistics.ts', 'windowSize'))}.`,
  ],
  ['src/settlement/ledger.ts', `may take ${seconds(updateMs)}, each other call ${seconds(ledgerMs)}`],
  ['README.md', `\`--max-connections\` | \`${maxConnections}\``],
  ['README.md', 'Half of the 1,024 descriptors'],
  [
    'README.md',
    `A client has ${limit('headersTimeout')} to send its headers, ${limit('requestTimeout')} for`,
  ],
  ['README.md', `and ${seconds(unreadMs)} to read an answer`],
  [
    'README.md',
    `An idle connection stands for ${limit('keepAliveTimeout')}, longer than those of proxies (60 to 75 s)`,
  ],
  ['README.md', `slow ones after some ${seconds(constant('src/node/connections.ts', 'closingMs'))}`],
  ['README.md', `With the ${seconds(2 * lateMs)} that the rest may take this fits the 30 s of Kubernetes`],
  ['README.md', 'Docker kills after 10 s'],
  ['src/node/shutdown.ts', `What follows takes up to ${seconds(2 * lateMs)} more`],
  ['src/cli/serve.ts', `requests a second of one client, or off; ${perSecond} by default`],
  ['src/http/gateway.ts', `in the last ${rememberedMs / 60_000} minutes`],
  ['README.md', `found valid in the last ${rememberedMs / 60_000} minutes`],
  ['src/cli/serve.ts', `--port <n> PORT or ${port} by default`],
  ['src/cli/serve.ts', `variables.text('PORT') ?? '${port}'`],
  ['src/cli/serve.ts', `--host <name> HOST or ${hostname} by default`],
  ['src/cli/serve.ts', `variables.text('HOST') ?? '${hostname}'`],
  ['src/cli/serve.ts', `--max-connections <n> ${maxConnections} by default`],
  ['src/cli/serve.ts', `'max-connections': { type: 'string', default: '${maxConnections}' }`],
  [
    'src/cli/serve.ts',
    `--grace <seconds> for what is in flight when a signal comes, ${graceMs / 1000} by default`,
  ],
  [
    'README.md',
    `too long for a header | ${grouped(constant('src/http/answers.ts', 'longestHeader'))} characters`,
  ],
  [
    'README.md',
    `| ${limit('headersTimeout')}, ${limit('requestTimeout')}, ${seconds(unreadMs)}; checked every ${seconds(constant('src/node/connections.ts', 'checkIntervalMs'))} |`,
  ],
  ['README.md', `| ${limit('keepAliveTimeout')}, as proxies keep theirs for up to 75 s`],
  [
    'README.md',
    `| ${grouped(constant('src/http/rate-limit.ts', 'maxClients'))}; ${grouped(constant('src/http/verified-payments.ts', 'maxPayments'))}, for ${rememberedMs / 60_000} min and ${constant('src/http/verified-payments.ts', 'settlesPerVerify')} settles each; ${grouped(constant('src/http/idempotency.ts', 'maxAnswers'))} for each token`,
  ],
  [
    'README.md',
    `| ${logLimit}, or \`settlementLimit\`, ${grouped(constant('src/http/status.ts', 'maxSettlements'))} at most`,
  ],
  ['src/cli/serve.ts', `grace: { type: 'string', default: '${graceMs / 1000}' }`],
]

describe('sentences give the numbers that the code has', () => {
  it.each(sentences)('%s: %s', (path = '', sentence = '') => {
    expect(inOneLine(read(path))).toContain(sentence)
  })

  it('the README has no other numbers of this kind', () => {
    const [prose = ''] = readme.replace(/^```.*?^```$/gms, '').split('\n## Performance')
    const table = inWords.map(([, , cell = '']) => cell)
    let rest = inOneLine(prose)
    for (const sentence of [...sentences.map(([, text = '']) => text), ...table])
      rest = rest.replaceAll(sentence, '')
    expect(rest.match(/.{30}(\d,\d{3}|\d s\b|\d by default).{10}/g) ?? []).toEqual([])
  })
})

/** Lines joined, and without the stars of docstrings. */
function inOneLine(text: string): string {
  return text.replace(/\s+(\* )?\s*/g, ' ')
}
