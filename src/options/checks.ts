/** What the options may be, and what is said when they are not. */

import { forEachOperation } from '../observe/attempt-report.ts'
import { longestTimerMs } from '../runtime/clock.ts'
import { isRecord } from '../runtime/json.ts'
import { runtimeWithoutTimers } from '../runtime/without-timers.ts'
import { unknownName } from './unknown-name.ts'

/** What was expected of a value, or nothing when it is right. `path` names the option. */
type Check = (value: unknown, path: string) => string[]
type Fields = Record<string, Check>

const expect =
  <T>(isRight: (value: T) => unknown, expected: string): Check =>
  (value, path) => {
    if (isRight(value as T)) return []
    const got = typeof value === 'number' || typeof value === 'boolean' ? `, got ${value}` : ''
    return [`${path}: expected ${expected}${got}`]
  }

const wholeNumber = (least: number, what = '') =>
  expect(
    (value: number) => Number.isInteger(value) && value >= least && value <= longestTimerMs,
    `${what}a whole number from ${least}`,
  )
const milliseconds = (least: number) => wholeNumber(least, 'milliseconds, ')
const text = expect((value: unknown) => typeof value === 'string' && value !== '', 'a name')
const flag = expect((value: unknown) => typeof value === 'boolean', 'true or false')
const callable = expect((value: unknown) => typeof value === 'function', 'a function')
const oneOf = (...values: unknown[]) =>
  expect((value: unknown) => values.includes(value), values.map(value => `'${value}'`).join(' or '))
const having = (what: string, ...methods: string[]) =>
  expect(
    (value: Record<string, unknown> | null) => methods.every(method => typeof value?.[method] === 'function'),
    `${what}: an object with ${methods.join(', ')}`,
  )

const unless =
  (isRight: (value: unknown) => boolean, check: Check): Check =>
  (value, path) =>
    isRight(value) ? [] : check(value, path)

const fields =
  (known: Fields): Check =>
  (value, path) => {
    if (!isRecord(value)) return [`${path}: expected an object`]
    return Object.entries(value).flatMap(([key, inner]) => {
      const prefix = path && `${path}.`
      const check = known[key]
      if (!check) return [prefix + unknownName(key, Object.keys(known))]
      return inner === undefined ? [] : check(inner, prefix + key)
    })
  }

const timeout = milliseconds(100)
const timeouts = fields(forEachOperation(() => timeout))
const perOperation: Check = (value, path) =>
  typeof value === 'object' ? timeouts(value, path) : timeout(value, path)

const facilitatorFields = fields({
  id: text,
  url: (value, path) => problemsOfUrl(value).map(problem => `${path} ${problem}`),
  client: having('a facilitator client', 'verify', 'settle', 'getSupported'),
  createAuthHeaders: callable,
  fetch: callable,
  priority: expect(Number.isFinite, 'a number'),
  weight: expect((value: number) => value > 0, 'a number above 0'),
  enabled: flag,
  timeoutMs: perOperation,
  retries: wholeNumber(0),
})

const facilitator: Check = (value, path) => {
  const problems = facilitatorFields(value, path)
  const { id, url, client, createAuthHeaders } = (value ?? {}) as Record<string, unknown>
  if (id === undefined) problems.push(`${path}.id is missing`)
  if ((url === undefined) === (client === undefined))
    problems.push(
      `${path}.${url === undefined ? 'url is missing' : 'client is given beside url'}: ` +
        'give a url or a client; known of /known makes public ones',
    )
  if (client !== undefined && createAuthHeaders !== undefined)
    problems.push(`${path}.createAuthHeaders goes with url, not with client`)
  return problems
}

const facilitators: Check = (value, path) => {
  if (!Array.isArray(value) || value.length === 0)
    return [`${path}: expected a list of at least one facilitator`]
  const ids = value.map((member: { id?: unknown } | null) => member?.id)
  return value.flatMap((member, index) => {
    const id = ids[index]
    const name = `${path}[${index}]${typeof id === 'string' ? ` "${id}"` : ''}`
    const isTaken = id !== undefined && ids.indexOf(id) < index
    return facilitator(member, name).concat(isTaken ? `${name}.id is not unique` : [])
  })
}

const checkMode: Check = (value, path) => {
  const runtime = runtimeWithoutTimers()
  return value === 'interval' && runtime
    ? [`${path}: ${runtime} runs no timers between requests: use 'lazy', and waitUntil`]
    : oneOf('interval', 'lazy')(value, path)
}

const settlement: Check = (value, path) => {
  const problems = settlementFields(value, path)
  const { audit = 'off', probes } = (value ?? {}) as { audit?: unknown; probes?: unknown[] }
  if (audit !== 'off' && !probes?.length)
    problems.push(`${path}.audit needs ${path}.probes, such as [evmSettlementProbe({ … })]`)
  return problems
}

const settlementFields = fields({
  probes: expect(
    (value: unknown) => Array.isArray(value) && value.every(probe => typeof probe?.connect === 'function'),
    'a list of probes, such as [evmSettlementProbe({ … })]; wrap a reader in settlementProbe() of x402-facilitator-aggregator/probe',
  ),
  ledger: expect(
    (value: { isShared?: unknown } | null) => typeof value?.isShared === 'boolean',
    'a ledger, such as a MemoryLedger; sharedLedger of /ledger makes one of your store',
  ),
  audit: oneOf('off', 'sample', 'always'),
  crossExamine: flag,
  onRetry: oneOf('deliver', 'reject'),
  redeliveries: wholeNumber(0),
  credit: flag,
  probeAfterMs: milliseconds(0),
  failoverAfterMs: milliseconds(0),
  watchIntervalMs: milliseconds(1),
})

const optionFields = fields({
  facilitators,
  enabled: flag,
  timeoutMs: perOperation,
  deadlineMs: perOperation,
  retries: wholeNumber(0),
  backoffMs: milliseconds(0),
  hedge: fields({ afterMs: milliseconds(1) }),
  strategy: unless(value => typeof value === 'function', oneOf('priority', 'latency', 'weighted')),
  whenAllUnhealthy: oneOf('try', 'refuse'),
  settlement,
  healthCheck: unless(
    value => value === false,
    fields({
      intervalMs: milliseconds(1),
      maxConsecutiveFailures: wholeNumber(1),
      coolDownMs: milliseconds(0),
      mode: checkMode,
    }),
  ),
  waitUntil: callable,
  autoStart: flag,
  logger: unless(value => value === false, having('a logger', 'debug', 'info', 'warn', 'error')),
  logLevel: oneOf('debug', 'info', 'warn', 'error'),
  maxLogEntries: wholeNumber(0),
})

/** What is wrong with the options: a sentence each, with the option, the facilitator's id, and what was expected. */
export function findProblems(options: unknown): string[] {
  const given = (options ?? {}) as { facilitators?: unknown }
  return optionFields({ ...given, facilitators: given.facilitators ?? null }, '')
}

export function problemsOfUrl(value: unknown): string[] {
  let url: URL
  try {
    url = new URL(value as string)
  } catch {
    return ['is not a URL']
  }
  if (!/^https?:$/.test(url.protocol)) return ['is not of https:// or http://']
  if (url.username + url.password !== '') return ['carries credentials: use createAuthHeaders']
  return url.search + url.hash === '' ? [] : ['has a query or a fragment']
}
