/**
 * What is refused whoever asks: what a browser sends for another site, as a page of any site can reach what listens on
 * this machine, and what a proxy in front could have read otherwise.
 */
import { type Answer, problem } from './answers.ts'
import { isLoopbackAddress, nodeConnection } from './client-address.ts'

export interface HostRules {
  /** Other names than this machine's own under which the gateway is asked; without any, see `isProtected`. */
  readonly allowedHosts: readonly string[] | undefined
  /** Callers need a token: then it does not matter by which name they ask. */
  readonly isProtected: boolean
}

/** @throws {TypeError} for what is not the name of a host alone */
export function readHost(name: string): string {
  const url = `http://${name}`
  const host = name.toLowerCase()
  if (URL.canParse(url) && new URL(url).hostname === host) return host
  throw new TypeError(`allowedHosts: expected names without a port, such as pay.example, got "${name}"`)
}

export function refusalOf(request: Request, env: unknown, rules: HostRules): Answer | undefined {
  return (
    ambiguityOf(request, env) ??
    wrongHost(request, env, rules) ??
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
  if (!URL.canParse(origin)) return false
  const { host, hostname } = new URL(origin)
  return host === new URL(`http://${hostOf(request)}`).host || allowedHosts.includes(hostname)
}

function hostOf(request: Request): string {
  return request.headers.get('host') ?? new URL(request.url).host
}

/** None of our paths has a dot segment, a backslash or an escaped ASCII character. */
const ambiguousPath = /(^|\/)\.{1,2}(\/|$)|\\|%[0-7]/

function ambiguityOf(request: Request, env: unknown): Answer | undefined {
  // Of a header that was sent twice there are both. A host has no comma.
  if (!URL.canParse(`http://${hostOf(request)}`) || hostOf(request).includes(','))
    return problem(400, 'INVALID_REQUEST', 'Host: expected one host')
  // As it was sent, where that is known: a URL has no dot segments any more.
  const path = (nodeConnection(env).url ?? new URL(request.url).pathname).split('?', 1)[0] ?? ''
  return ambiguousPath.test(path)
    ? problem(400, 'INVALID_REQUEST', 'the path has dot segments, backslashes or escaped letters')
    : undefined
}

/** A page whose name was made to lead to this machine (DNS rebinding) asks by that name. */
function wrongHost(
  request: Request,
  env: unknown,
  { allowedHosts, isProtected }: HostRules,
): Answer | undefined {
  const isChecked =
    allowedHosts !== undefined ||
    (!isProtected && isLoopbackAddress(nodeConnection(env).socket?.localAddress ?? ''))
  if (!isChecked) return undefined
  const { hostname } = new URL(`http://${hostOf(request)}`)
  if (isLoopbackName(hostname) || allowedHosts?.includes(hostname)) return undefined
  return problem(
    403,
    'HOST_NOT_ALLOWED',
    `this gateway is not asked as "${hostname.slice(0, 255)}": if a proxy of yours in front is, add the name to ` +
      'allowedHosts (FACILITATOR_GATEWAY_ALLOWED_HOSTS), or give the gateway tokens',
  )
}

function isLoopbackName(hostname: string): boolean {
  return /^(localhost|.*\.localhost|127(\.\d{1,3}){3}|\[::1\])$/.test(hostname)
}
