/** What the options may be, and what is said when they are not. */
import { z } from '@x402/core/schemas'

/** The longest delay that a timer takes. */
const maxMs = 2 ** 31 - 1

const wholeNumber = (least: number, unit: string) => {
  const message = `expected ${unit}, a whole number from ${least}`
  return z.number({ message }).int({ message }).min(least, { message }).max(maxMs, { message })
}
const milliseconds = (least: number) => wholeNumber(least, 'milliseconds')
const functionOf = (what: string) =>
  z.custom<(...args: never[]) => unknown>(value => typeof value === 'function', {
    message: `expected ${what}`,
  })
const objectWith = (what: string, methods: readonly string[]) =>
  z.custom<object>(
    value =>
      ['object', 'function'].includes(typeof value) &&
      value !== null &&
      methods.every(method => typeof (value as Record<string, unknown>)[method] === 'function'),
    { message: `expected ${what}: an object with ${methods.join(', ')}` },
  )
const oneOf = <T extends string>(...values: readonly [T, ...T[]]) =>
  z.custom<T>(value => values.includes(value as T), {
    message: `expected ${values.map(value => `'${value}'`).join(' or ')}`,
  })
const isTrueOrFalse = z.boolean({ message: 'expected true or false' })

const perOperationSchema = z
  .union([
    milliseconds(1),
    z
      .object({
        verify: milliseconds(1),
        settle: milliseconds(1),
        supported: milliseconds(1),
        list: milliseconds(1),
      })
      .partial()
      .strict(),
  ])
  .optional()

const facilitatorSchema = z
  .object({
    id: z.string({ message: 'expected a name' }).min(1, { message: 'expected a name' }),
    url: z.string().superRefine(checkUrl),
    client: objectWith('a facilitator client', ['verify', 'settle', 'getSupported']),
    createAuthHeaders: functionOf('a function that returns headers keyed by operation'),
    fetch: functionOf('a fetch function'),
    priority: z.number({ message: 'expected a number' }).finite({ message: 'expected a number' }),
    weight: z
      .number({ message: 'expected a number above 0' })
      .positive({ message: 'expected a number above 0' }),
    enabled: isTrueOrFalse,
    timeoutMs: perOperationSchema,
    retries: wholeNumber(0, 'a number of tries'),
  })
  .partial()
  .required({ id: true })
  .strict()
  .superRefine((facilitator, context) => {
    const problem = (message: string, path: string) =>
      context.addIssue({ code: 'custom', message, path: [path] })
    if (facilitator.url === undefined && facilitator.client === undefined)
      problem('is missing: give either a url or a client', 'url')
    if (facilitator.url !== undefined && facilitator.client !== undefined)
      problem('is given beside url: give either a url or a client', 'client')
    if (facilitator.client !== undefined && facilitator.createAuthHeaders !== undefined)
      problem('goes with url; a client makes its own headers', 'createAuthHeaders')
  })

const healthCheckSchema = z
  .object({
    intervalMs: milliseconds(1),
    maxConsecutiveFailures: wholeNumber(1, 'a number of failures'),
    coolDownMs: milliseconds(0),
    mode: oneOf('interval', 'lazy'),
    waitUntil: functionOf('a function that takes a promise'),
  })
  .partial()
  .strict()

const optionsSchema = z
  .object({
    facilitators: z
      .array(facilitatorSchema, { message: 'expected a list of facilitators' })
      .min(1, { message: 'is empty: give at least one facilitator' })
      .superRefine((facilitators, context) => {
        const seen = new Set<string>()
        for (const [index, { id }] of facilitators.entries()) {
          if (seen.has(id))
            context.addIssue({
              code: 'custom',
              message: 'is taken by another facilitator',
              path: [index, 'id'],
            })
          seen.add(id)
        }
      }),
    timeoutMs: perOperationSchema,
    deadlineMs: perOperationSchema,
    retries: wholeNumber(0, 'a number of tries'),
    backoffMs: milliseconds(0),
    strategy: z.union([oneOf('priority', 'latency', 'weighted'), functionOf('a strategy')], {
      message: "expected 'priority', 'latency', 'weighted' or a function",
    }),
    whenAllUnhealthy: oneOf('try', 'refuse'),
    healthCheck: z.union([z.literal(false), healthCheckSchema]),
    autoStart: isTrueOrFalse,
    logger: objectWith('a logger', ['debug', 'info', 'warn', 'error']),
    logLevel: oneOf('debug', 'info', 'warn', 'error'),
    maxLogEntries: wholeNumber(0, 'a number of entries'),
  })
  .partial()
  .required({ facilitators: true })
  .strict()

function checkUrl(text: string, context: z.RefinementCtx): void {
  const message = problemOfUrl(text)
  if (message !== undefined) context.addIssue({ code: 'custom', message })
}

function problemOfUrl(text: string): string | undefined {
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return 'is not a URL: expected something like https://facilitator.example'
  }
  if (url.protocol !== 'http:' && url.protocol !== 'https:') return 'must begin with https:// or http://'
  if (url.username !== '' || url.password !== '')
    return 'carries credentials: give them by createAuthHeaders, so that they stay out of logs'
  if (url.search !== '' || url.hash !== '') return 'must not have a query or a fragment'
  return undefined
}

/** What is wrong with the options, a sentence each: the option, the facilitator's id, and what was expected. */
export function findProblems(options: unknown): string[] {
  const parsed = optionsSchema.safeParse(options)
  if (parsed.success) return []
  return [...new Set(parsed.error.issues.flatMap(issue => describe(issue, options)))]
}

function describe(issue: z.ZodIssue, options: unknown): string[] {
  if (issue.code === 'unrecognized_keys')
    return issue.keys.map(
      key => `${nameOf([...issue.path, key], options)} is not an option${didYouMean(key)}`,
    )
  if (issue.code === 'invalid_union') {
    // The alternative that came furthest says best what is wrong.
    const alternatives = issue.unionErrors.map(error => error.issues)
    const deepest = alternatives.find(issues => issues.some(inner => inner.path.length > issue.path.length))
    const chosen =
      deepest ?? alternatives.find(issues => issues.some(inner => inner.code === 'unrecognized_keys'))
    if (chosen !== undefined) return chosen.flatMap(inner => describe(inner, options))
    if (issue.message === 'Invalid input') return describe(alternatives[0]?.[0] ?? issue, options)
  }
  return [`${nameOf(issue.path, options)}: ${issue.message}${shown(issue.path, options)}`]
}

/** `facilitators[1] "payai".timeoutMs`. */
function nameOf(path: readonly (string | number)[], options: unknown): string {
  let name = ''
  let value: unknown = options
  for (const step of path) {
    value = (value as Record<string | number, unknown> | undefined)?.[step]
    name += typeof step === 'number' ? `[${step}]` : `${name === '' ? '' : '.'}${step}`
    const id = (value as { id?: unknown } | undefined)?.id
    if (typeof step === 'number' && typeof id === 'string') name += ` "${id}"`
  }
  return name === '' ? 'the options' : name
}

/** The offending value where it cannot be a secret. */
function shown(path: readonly (string | number)[], options: unknown): string {
  const value = path.reduce<unknown>(
    (inner, step) => (inner as Record<string | number, unknown> | undefined)?.[step],
    options,
  )
  return typeof value === 'number' || typeof value === 'boolean' ? `, got ${value}` : ''
}

const optionNames = [
  ...Object.keys(facilitatorSchema.innerType().shape),
  ...Object.keys(healthCheckSchema.shape),
  ...Object.keys(optionsSchema.shape),
]

function didYouMean(key: string): string {
  const similar = optionNames.find(name => editDistance(name.toLowerCase(), key.toLowerCase()) <= 2)
  return similar === undefined ? '' : `; did you mean ${similar}?`
}

/** Levenshtein's distance: insertions, deletions and replacements between two words. */
function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, index) => index)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(
        (row[j] ?? 0) + 1,
        (next[j - 1] ?? 0) + 1,
        (row[j - 1] ?? 0) + Number(a[i - 1] !== b[j - 1]),
      )
    row = next
  }
  return row[b.length] ?? 0
}
