/** Which facilitators the variables name, in which order. */
import type { AuthHeaders } from '../facilitator/http-client.ts'
import { type KnownFacilitatorName, knownFacilitators } from '../known/index.ts'
import { nearest } from '../options/nearest.ts'
import { defaults, type FacilitatorOptions } from '../options/options.ts'
import { type CdpCredentials, cdpAuthHeaders } from './cdp.ts'
import { facilitatorFields, leastTimeoutMs } from './names.ts'
import type { Variables } from './variables.ts'

/** Who is asked when nothing is set, and who `FACILITATOR_<n>` is when only its number is. */
const defaultOrder: readonly KnownFacilitatorName[] = ['x402-rs', 'payai', 'coinbase-cdp']

/** But for those that Kubernetes makes for a service of that name. */
const ofEntry = /^FACILITATOR_(\d+)_(?!SERVICE_|PORT(?:_|$))(\w+)$/

const names = Object.keys(knownFacilitators).join(', ')

/** One `FACILITATOR_<n>`, as far as its variables tell. */
interface Entry {
  readonly id: string
  readonly url: string
  readonly priority: number
  readonly enabled: boolean
  readonly timeoutMs?: { verify: number; supported: number; list: number }
  readonly authHeader: Record<string, string> | undefined
}

export function readFacilitators(variables: Variables): FacilitatorOptions[] {
  const keys = readCdpCredentials(variables)
  const numbers = numbersOf(variables)
  const entries = numbers.flatMap(number => readEntry(variables, number, keys !== undefined) ?? [])
  if (entries.length > 0 && keys === undefined && entries.every(({ enabled }) => !enabled))
    variables.wrong('FACILITATOR_<n>_ENABLED', 'leaves no facilitator', 'true')

  // The third is Coinbase CDP unless it is said to be another: to disable it is to leave CDP out.
  const isCdpSettled =
    entries.some(({ url }) => isCdp(url)) ||
    (numbers.includes(3) && variables.text('FACILITATOR_3_URL') === undefined)
  if (keys !== undefined && !isCdpSettled)
    entries.push(byName('coinbase-cdp', Math.max(...entries.map(({ priority }) => priority)) + 1))

  const taken = new Set<string>()
  for (const { id } of entries) {
    if (taken.has(id)) variables.wrong('FACILITATOR_<n>_ID', `"${id}" names two facilitators`, `${id}-2`)
    taken.add(id)
  }
  return entries.map(({ authHeader, ...entry }) => {
    const createAuthHeaders = authHeadersOf(entry.url, authHeader, keys)
    return createAuthHeaders === undefined ? entry : { ...entry, createAuthHeaders }
  })
}

function numbersOf(variables: Variables): number[] {
  const numbers = new Set<number>()
  for (const { name, match } of variables.matching(ofEntry)) {
    const [, number = '', field = ''] = match
    if (number !== `${Number(number)}`)
      variables.wrong(name, `is not a variable; write FACILITATOR_${Number(number)}_${field}`)
    else if (facilitatorFields.includes(field)) numbers.add(Number(number))
    else {
      const known = facilitatorFields.map(field => `FACILITATOR_${number}_${field}`)
      const meant = nearest(name, known)
      const hint = meant === undefined ? `there are ${known.join(', ')}` : `did you mean ${meant}?`
      variables.wrong(name, `is not a variable; ${hint}`)
    }
  }
  // Who only changes or disables some of the usual ones keeps the others.
  const isNamed = (number: number) =>
    ['URL', 'ID'].some(field => variables.text(`FACILITATOR_${number}_${field}`) !== undefined)
  return [...numbers].some(isNamed) ? [...numbers] : [...new Set([1, 2, ...numbers])]
}

function readEntry(variables: Variables, number: number, hasKeys: boolean): Entry | undefined {
  const prefix = `FACILITATOR_${number}_`
  const enabled = variables.flag(`${prefix}ENABLED`) ?? true
  const givenUrl = variables.url(`${prefix}URL`, 'https://facilitator.x402.rs')
  const givenId = variables.text(`${prefix}ID`)
  const priority = variables.wholeNumber(`${prefix}PRIORITY`, number)
  const timeoutMs = variables.milliseconds(`${prefix}TIMEOUT_MS`, defaults.timeoutMs.verify, leastTimeoutMs)
  const authHeader = readAuthHeader(variables, `${prefix}AUTH_HEADER`)
  if (givenUrl === undefined && variables.text(`${prefix}URL`) !== undefined) return undefined

  const name = givenUrl === undefined ? (givenId ?? defaultOrder[number - 1]) : nameOf(givenUrl)
  const url = givenUrl ?? knownFacilitators[name as KnownFacilitatorName]?.url
  if (url === undefined) {
    const problem = givenId === undefined ? 'is missing' : `is missing, as "${givenId}" is none of ${names}`
    if (enabled) variables.wrong(`${prefix}URL`, problem, 'https://facilitator.x402.rs')
    return undefined
  }
  if (isCdp(url) && !hasKeys && authHeader === undefined) {
    if (enabled)
      variables.wrong(
        'CDP_API_KEY_ID',
        `and CDP_API_KEY_SECRET are missing, which Coinbase CDP (facilitator ${number}) needs; set them, or ` +
          `${prefix}ENABLED=false`,
        '00000000-0000-0000-0000-000000000000',
      )
    return undefined
  }
  return {
    id: givenId ?? name ?? `facilitator-${number}`,
    url,
    priority,
    enabled,
    ...(variables.text(`${prefix}TIMEOUT_MS`) !== undefined && {
      timeoutMs: { verify: timeoutMs, supported: timeoutMs, list: timeoutMs },
    }),
    authHeader,
  }
}

/** `Name: value`, or the value of `Authorization`. Never echoed. */
function readAuthHeader(variables: Variables, name: string): Record<string, string> | undefined {
  const value = variables.text(name)
  if (value === undefined) return undefined
  if (/^[A-Za-z][A-Za-z0-9-]*:\S/.test(value)) {
    variables.wrong(name, 'has no space after its colon', 'X-Api-Key: …')
    return undefined
  }
  const named = /^([A-Za-z0-9-]+):\s+(.+)$/.exec(value)
  const header = named?.[1] ?? 'Authorization'
  const content = named?.[2] ?? value
  if (/^[\x20-\x7e]+$/.test(content)) return { [header]: content }
  variables.wrong(name, 'has characters that a header cannot carry', 'Bearer …')
  return undefined
}

function readCdpCredentials(variables: Variables): CdpCredentials | undefined {
  const apiKeyId = variables.text('CDP_API_KEY_ID')
  // A key in PEM has line breaks, which .env files write as \n.
  const apiKeySecret = variables.text('CDP_API_KEY_SECRET')?.replaceAll('\\n', '\n')
  if (apiKeyId !== undefined && apiKeySecret !== undefined) return { apiKeyId, apiKeySecret }
  if (apiKeyId !== undefined) variables.wrong('CDP_API_KEY_SECRET', 'is missing beside CDP_API_KEY_ID')
  if (apiKeySecret !== undefined)
    variables.wrong(
      'CDP_API_KEY_ID',
      'is missing beside CDP_API_KEY_SECRET',
      '00000000-0000-0000-0000-000000000000',
    )
  return undefined
}

function authHeadersOf(
  url: string,
  header: Record<string, string> | undefined,
  keys: CdpCredentials | undefined,
): (() => AuthHeaders | Promise<AuthHeaders>) | undefined {
  if (header !== undefined) return () => ({ verify: header, settle: header, supported: header, list: header })
  return isCdp(url) && keys !== undefined ? cdpAuthHeaders(keys) : undefined
}

function byName(name: KnownFacilitatorName, priority: number): Entry {
  return { id: name, url: knownFacilitators[name].url, priority, enabled: true, authHeader: undefined }
}

function nameOf(url: string): string | undefined {
  const withoutSlash = url.replace(/\/+$/, '')
  return Object.entries(knownFacilitators).find(([, known]) => known.url === withoutSlash)?.[0]
}

function isCdp(url: string): boolean {
  return nameOf(url) === 'coinbase-cdp'
}
