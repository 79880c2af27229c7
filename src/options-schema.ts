/** What the options may be, and what is said when they are not. */
import { longestTimerMs } from './clock.ts'
import { type KnownFacilitator, knownFacilitators } from './facilitator/known.ts'
import { runtimeWithoutTimers } from './runtime.ts'

/** What was expected of a value, or nothing when it is right. `path` names the option. */
type Check = (value: unknown, path: string) => string[]
type Fields = Record<string, Check>

const expect =
  (isRight: (value: never) => unknown, expected: string): Check =>
  (value, path) => {
    if (isRight(value as never)) return []
    const got = typeof value === 'number' || typeof value === 'boolean' ? `, got ${value}` : ''
    return [`${path}: expected ${expected}${got}`]
  }

const wholeNumber = (least: number, what: string) =>
  expect(
    (value: number) => Number.isInteger(value) && value >= least && value <= longestTimerMs,
    `${what}, a whole number from ${least}`,
  )
const milliseconds = (least: number) => wholeNumber(least, 'milliseconds')
const text = expect((value: unknown) => typeof value === 'string' && value !== '', 'a name')
const flag = expect((value: unknown) => typeof value === 'boolean', 'true or false')
const callable = (what: string) => expect((value: unknown) => typeof value === 'function', what)
const oneOf = (...values: unknown[]) =>
  expect((value: unknown) => values.includes(value), values.map(value => `'${value}'`).join(' or '))
const having = (what: string, ...methods: string[]) =>
  expect(
    (value: Record<string, unknown> | null) => methods.every(method => typeof value?.[method] === 'function'),
    `${what}: an object with ${methods.join(', ')}`,
  )

const either =
  (isFirst: (value: unknown) => boolean, first: Check, second: Check): Check =>
  (value, path) =>
    (isFirst(value) ? first : second)(value, path)

const fields =
  (known: Fields): Check =>
  (value, path) => {
    if (typeof value !== 'object' || value === null) return [`${path}: expected an object`]
    return Object.entries(value).flatMap(([key, inner]) => {
      const name = path === '' ? key : `${path}.${key}`
      const check = known[key]
      if (check === undefined) return [`${name} is not an option; there are ${Object.keys(known).join(', ')}`]
      return inner === undefined ? [] : check(inner, name)
    })
  }

const perOperation = either(
  value => typeof value === 'object',
  fields({
    verify: milliseconds(1),
    settle: milliseconds(1),
    supported: milliseconds(1),
    list: milliseconds(1),
  }),
  milliseconds(1),
)

const facilitatorFields = fields({
  id: text,
  url: (value, path) => problemsOfUrl(value).map(problem => `${path} ${problem}`),
  known: oneOf(...Object.keys(knownFacilitators)),
  client: having('a facilitator client', 'verify', 'settle', 'getSupported'),
  createAuthHeaders: callable('a function that returns headers keyed by operation'),
  fetch: callable('a fetch function'),
  priority: expect(Number.isFinite, 'a number'),
  weight: expect((value: number) => value > 0, 'a number above 0'),
  enabled: flag,
  timeoutMs: perOperation,
  retries: wholeNumber(0, 'a number of tries'),
})

const facilitator: Check = (value, path) => {
  const problems = facilitatorFields(value, path)
  const { id, url, client, known, createAuthHeaders } = (value ?? {}) as Record<string, unknown>
  if (id === undefined && known === undefined) problems.push(`${path}.id is missing`)
  const ways = Object.entries({ url, client, known }).filter(([, way]) => way !== undefined)
  if (ways.length === 0) problems.push(`${path}.url is missing: give either a url, a client, or a known name`)
  if (ways.length > 1)
    problems.push(
      `${path}.${ways[1]?.[0]} is given beside ${ways[0]?.[0]}: give either a url, a client, or a known name`,
    )
  if (client !== undefined && createAuthHeaders !== undefined)
    problems.push(`${path}.createAuthHeaders goes with url: a client makes its own headers`)
  const table: Record<string, KnownFacilitator> = knownFacilitators
  if (table[known as string]?.auth === 'cdp' && createAuthHeaders === undefined)
    problems.push(`${path}.createAuthHeaders is missing: cdpAuthHeaders of the entry point /env makes it`)
  return problems
}

const facilitators: Check = (value, path) => {
  if (!Array.isArray(value) || value.length === 0)
    return [`${path}: expected a list of at least one facilitator`]
  const ids = value.map((member: { id?: unknown; known?: unknown } | null) => member?.id ?? member?.known)
  return value.flatMap((member, index) => {
    const id = ids[index]
    const name = `${path}[${index}]${typeof id === 'string' ? ` "${id}"` : ''}`
    const isTaken = id !== undefined && ids.indexOf(id) < index
    return facilitator(member, name).concat(isTaken ? `${name}.id is taken by another facilitator` : [])
  })
}

const checkMode: Check = (value, path) => {
  const runtime = runtimeWithoutTimers()
  return value === 'interval' && runtime !== undefined
    ? [`${path}: ${runtime} runs no timers between requests: use 'lazy', and waitUntil`]
    : oneOf('interval', 'lazy')(value, path)
}

const optionFields = fields({
  facilitators,
  enabled: flag,
  timeoutMs: perOperation,
  deadlineMs: perOperation,
  retries: wholeNumber(0, 'a number of tries'),
  backoffMs: milliseconds(0),
  hedge: fields({ afterMs: milliseconds(1) }),
  strategy: either(
    value => typeof value === 'function',
    () => [],
    oneOf('priority', 'latency', 'weighted'),
  ),
  whenAllUnhealthy: oneOf('try', 'refuse'),
  settlement: fields({
    probes: expect(
      (value: unknown) => Array.isArray(value) && value.every(probe => typeof probe?.ask === 'function'),
      'a list of probes, such as [evmSettlementProbe({ … })]',
    ),
    ledger: having('a ledger', 'claim', 'update', 'get', 'unresolved'),
    audit: oneOf('off', 'sample', 'always'),
    onRetry: oneOf('deliver', 'reject'),
    probeAfterMs: milliseconds(0),
    failoverAfterMs: milliseconds(0),
    watchIntervalMs: milliseconds(1),
  }),
  healthCheck: either(
    value => value === false,
    () => [],
    fields({
      intervalMs: milliseconds(1),
      maxConsecutiveFailures: wholeNumber(1, 'a number of failures'),
      coolDownMs: milliseconds(0),
      mode: checkMode,
    }),
  ),
  waitUntil: callable('a function that takes a promise'),
  autoStart: flag,
  logger: having('a logger', 'debug', 'info', 'warn', 'error'),
  logLevel: oneOf('debug', 'info', 'warn', 'error'),
  maxLogEntries: wholeNumber(0, 'a number of entries'),
})

/** What is wrong with the options: a sentence each, with the option, the facilitator's id, and what was expected. */
export function findProblems(options: unknown): string[] {
  return optionFields({ facilitators: null, ...(options as object) }, '')
}

export function problemsOfUrl(value: unknown): string[] {
  let url: URL
  try {
    url = new URL(value as string)
  } catch {
    return ['is not a URL: expected something like https://facilitator.example']
  }
  if (!/^https?:$/.test(url.protocol)) return ['must begin with https:// or http://']
  if (url.username + url.password !== '')
    return ['carries credentials: give them by createAuthHeaders, so that they stay out of logs']
  return url.search + url.hash === '' ? [] : ['must not have a query or a fragment']
}
