/**
 * What is refused whoever asks: what a browser sends for another site, as a page of any site can reach what listens on
 * this machine, and what a proxy in front could have read otherwise.
 */
import { type Answer, problem } from './answers.ts'
import { rawPath } from './client-address.ts'

export interface HostRules {
  /** The names under which the gateway is asked, beside this machine's own; `undefined` for any. */
  readonly allowedHosts: readonly string[] | undefined
  /** It takes this machine's own names alone, unless others are allowed. */
  readonly isLocal: boolean
}

/** @throws {TypeError} for what is not the name of a host alone */
export function readHost(name: string): string {
  const host = name.toLowerCase()
  if (validHost.test(host) && nameOf(host) === host) return host
  throw new TypeError(`allowedHosts: expected names without a port, such as pay.example, got "${name}"`)
}

export function refusalOf(request: Request, env: unknown, rules: HostRules): Answer | undefined {
  return (
    ambiguityOf(request, env) ??
    wrongHost(request, rules) ??
    crossSite(request, rules.allowedHosts) ??
    (request.method === 'POST' ? wrongContentType(request) : undefined)
  )
}

/** A form or a plain text, which any page may post anywhere, is not taken. */
export function wrongContentType(request: Request): Answer | undefined {
  const type = request.headers.get('content-type') ?? ''
  return /^application\/json *(;|$)/i.test(type)
    ? undefined
    : problem(415, 'UNSUPPORTED_MEDIA_TYPE', 'send the body with Content-Type: application/json')
}

/** Browsers say which site a request is for; other clients send neither header. */
export function crossSite(request: Request, allowedHosts: readonly string[] | undefined): Answer | undefined {
  const site = request.headers.get('sec-fetch-site')
  const origin = request.headers.get('origin')
  const isOwn =
    site === null
      ? origin === null || isHostOf(origin, request, allowedHosts)
      : site === 'same-origin' || site === 'none'
  return isOwn
    ? undefined
    : problem(
        403,
        'CROSS_SITE',
        "a page of another site cannot use this (Origin, Sec-Fetch-Site): ask from the page's own server",
      )
}

function isHostOf(origin: string, request: Request, allowedHosts: readonly string[] = []): boolean {
  const host = /^https?:\/\/(.+)$/.exec(origin)?.[1] ?? ''
  return host === hostOf(request) || allowedHosts.includes(nameOf(host))
}

/** A name or an address, with a port or without; not several, as of a header that was sent twice. */
const validHost = /^([\w.-]+|\[[\da-f:.]+\])(:\d+)?$/

function hostOf(request: Request): string {
  return (request.headers.get('host') ?? new URL(request.url).host).toLowerCase()
}

function nameOf(host: string): string {
  return host.replace(/:\d*$/, '')
}

/** None of our paths has a dot segment, a backslash or an escaped ASCII character. */
const ambiguousPath = /(^|\/)\.{1,2}(\/|$)|\\|%[0-7]/

function ambiguityOf(request: Request, env: unknown): Answer | undefined {
  if (!validHost.test(hostOf(request))) return problem(400, 'INVALID_REQUEST', 'Host: expected one host')
  return ambiguousPath.test(rawPath(request, env))
    ? problem(400, 'INVALID_REQUEST', 'the path has dot segments, backslashes or escaped letters')
    : undefined
}

/** A page whose name was made to lead to this machine (DNS rebinding) asks by that name. */
function wrongHost(request: Request, { allowedHosts, isLocal }: HostRules): Answer | undefined {
  if (allowedHosts === undefined && !isLocal) return undefined
  const name = nameOf(hostOf(request))
  if (isLoopbackName(name) || allowedHosts?.includes(name)) return undefined
  return problem(
    403,
    'HOST_NOT_ALLOWED',
    `this gateway is not asked as "${name.slice(0, 255)}": if a proxy of yours in front is, add the name to ` +
      'allowedHosts (FACILITATOR_GATEWAY_ALLOWED_HOSTS), or give the gateway tokens',
  )
}

function isLoopbackName(name: string): boolean {
  return /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(name)
}
