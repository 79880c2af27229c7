/** A thin facilitator client over `fetch`, whose errors say what failed, and how far the request had come. */

import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import { safeBase64Decode } from '@x402/core/utils'
import type { Operation } from '../observe/attempt-report.ts'
import { messageOf } from '../observe/redact.ts'
import { isRecord, toJson } from '../runtime/json.ts'
import { readText } from '../runtime/read-text.ts'
import { networkProblem, saysNothingSent } from './classify.ts'
import type { CallOptions, DiscoveryQuery, FacilitatorClientLike } from './client.ts'
import type { Responses } from './outcome.ts'
import {
  FacilitatorRequestError,
  mayHaveRead,
  notTheProtocols,
  notWritable,
  type RequestFailure,
} from './request-error.ts'
import { parseResponse } from './response-schema.ts'

/** The longest answer that is read, in bytes. */
const maxBodyBytes = 1024 * 1024
const maxRedirects = 3

/** Headers per operation, in upstream's shape; an operation left out gets none. */
export interface AuthHeaders {
  verify?: Record<string, string>
  settle?: Record<string, string>
  supported?: Record<string, string>
  list?: Record<string, string>
  /** Upstream's name for `list` in protocol version 2. */
  bazaar?: Record<string, string>
}

export interface HttpClientOptions {
  readonly url: string
  readonly createAuthHeaders?: (() => AuthHeaders | Promise<AuthHeaders>) | undefined
  readonly fetch?: typeof fetch | undefined
}

/** A facilitator at a URL. */
export function httpFacilitatorClient(config: HttpClientOptions): Required<FacilitatorClientLike> {
  const base = config.url.replace(/\/+$/, '')

  async function call<O extends Operation>(
    operation: O,
    path: string,
    options?: CallOptions,
    body?: object,
  ): Promise<Responses[O]> {
    const { createAuthHeaders } = config
    const authHeaders = createAuthHeaders && (await authHeadersFor(operation, createAuthHeaders))
    const init: RequestInit = {
      headers: { 'content-type': 'application/json', ...authHeaders },
      redirect: 'manual',
      signal: options?.signal ?? null,
      // As a blob: Deno sends a POST of a text again by itself when a reused connection closes without an answer, and the
      // second settle is told that the authorization is used.
      ...(body && { method: 'POST', body: new Blob([stringify(body)]) }),
    }

    const response = await send(config.fetch ?? fetch, `${base}${path}`, init)
    const answer = parseJson(await readBody(response))
    for (const header of Object.values(authHeaders ?? {})) mask(header, answer)
    return interpret(operation, response, answer)
  }

  const pay =
    <O extends 'verify' | 'settle'>(operation: O) =>
    (paymentPayload: PaymentPayload, paymentRequirements: PaymentRequirements, options?: CallOptions) =>
      call(operation, `/${operation}`, options, {
        x402Version: paymentPayload.x402Version,
        paymentPayload,
        paymentRequirements,
      })

  return {
    verify: pay('verify'),
    settle: pay('settle'),
    getSupported: options => call('supported', '/supported', options),
    list: (query, options) => call('list', `/discovery/resources${queryString(query)}`, options),
  }
}

async function authHeadersFor(
  operation: Operation,
  createAuthHeaders: () => AuthHeaders | Promise<AuthHeaders>,
): Promise<Record<string, string>> {
  let all: AuthHeaders
  try {
    all = await createAuthHeaders()
  } catch (cause) {
    throw credentialsError(`createAuthHeaders threw: ${messageOf(cause)}`, cause)
  }
  if (!isKeyedByOperation(all))
    throw credentialsError(
      'createAuthHeaders must return headers keyed by operation: { settle: { Authorization: "…" } }',
    )
  const headers = (operation === 'list' ? (all.list ?? all.bazaar) : all[operation]) ?? {}
  try {
    new Headers(headers)
  } catch {
    throw credentialsError(`createAuthHeaders made a header that HTTP forbids for ${operation}`)
  }
  return headers
}

function isKeyedByOperation(headers: unknown): boolean {
  return isRecord(headers) && Object.values(headers).every(value => value === undefined || isRecord(value))
}

function credentialsError(message: string, cause?: unknown): FacilitatorRequestError {
  return new FacilitatorRequestError(
    message,
    { kind: 'declined', cause: 'credentials', isUnsent: true },
    cause,
  )
}

/** Follows redirects within the origin only: credentials and payments do not travel to another one. */
async function send(fetch_: typeof fetch, url: string, init: RequestInit): Promise<Response> {
  let target = new URL(url)
  for (let redirects = 0; ; redirects++) {
    const response = await fetchOrExplain(fetch_, target.href, init, redirects > 0)
    if (!isRedirect(response)) return response
    await response.body?.cancel()
    const location = response.headers.get('location')
    const next = location === null ? undefined : new URL(location, target)
    const keepsMethod = init.method !== 'POST' || [307, 308].includes(response.status)
    if (next?.origin !== target.origin || !keepsMethod || redirects === maxRedirects) {
      const where = next ? `to ${next.origin}${next.pathname}` : 'nowhere'
      throw new FacilitatorRequestError(
        `redirected ${where}: set url to its final address`,
        // A 303 is the answer to a request that was processed (RFC 9110, section 15.4.4).
        response.status === 303 ? mayHaveRead : { kind: 'declined', cause: 'address' },
      )
    }
    target = next
  }
}

function isRedirect(response: Response): boolean {
  return response.type === 'opaqueredirect' || (response.status >= 300 && response.status < 400)
}

/** @param wasRead somebody had the request, and answered with a redirect */
async function fetchOrExplain(
  fetch_: typeof fetch,
  url: string,
  init: RequestInit,
  wasRead: boolean,
): Promise<Response> {
  try {
    return await fetch_(url, init)
  } catch (cause) {
    // A `fetch` of the seller's may have asked more than once.
    const failure: RequestFailure =
      !wasRead && saysNothingSent(cause)
        ? { kind: 'unreachable', ...(fetch_ !== fetch && { isUnconfirmed: true }) }
        : mayHaveRead
    throw new FacilitatorRequestError(networkProblem(cause), failure, cause)
  }
}

async function readBody(response: Response): Promise<string> {
  let text: string | undefined
  try {
    text = await readText(response.body, maxBodyBytes)
  } catch (cause) {
    const why = networkProblem(cause)
    throw new FacilitatorRequestError(`the answer was cut off: ${why}`, mayHaveRead, cause)
  }
  if (text !== undefined) return text
  throw new FacilitatorRequestError(`an answer of more than ${maxBodyBytes} bytes`, mayHaveRead)
}

function interpret<O extends Operation>(operation: O, answer: Response, body: unknown): Responses[O] {
  const response = parseResponse(operation, body)
  const { ok, status } = answer
  if (ok && response) return withExtensionResponses(response, answer)
  // A success that is not whole is one all the same, whatever the status: nobody else may be asked without the chain.
  const claimsSuccess = (body as { success?: unknown } | null | undefined)?.success === true
  if (ok || (!response && claimsSuccess)) throw new FacilitatorRequestError(notTheProtocols, mayHaveRead)
  throw new FacilitatorRequestError(`HTTP ${status}`, {
    kind: 'status',
    status,
    response,
    retryAfterMs: parseRetryAfter(answer.headers.get('retry-after')),
  })
}

/** Shorter ones are words of the language. */
const shortestSecret = 4

/** A facilitator may repeat what it was sent: with the reason that it gives, that is logged, and shown to the buyer. */
function mask(header: string, answer: unknown): void {
  // Without the scheme of an `Authorization`.
  const secret = header.replace(/^[a-z]+ /i, '')
  if (!isRecord(answer) || secret.length < shortestSecret) return
  for (const [field, text] of Object.entries(answer))
    if (typeof text === 'string' && /Reason|Message/.test(field))
      answer[field] = text.replaceAll(secret, '[redacted]')
}

/** Extensions answer in a header: base64 of a JSON object (as upstream's client reads it). */
function withExtensionResponses<R extends object>(parsed: R, response: Response): R {
  const header = response.headers.get('extension-responses')
  if (header === null) return parsed
  try {
    const extensionResponses: unknown = JSON.parse(safeBase64Decode(header))
    return isRecord(extensionResponses) ? { ...parsed, extensionResponses } : parsed
  } catch {
    return parsed
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** `Retry-After` is a number of seconds or a date (RFC 9110, section 10.2.3). */
function parseRetryAfter(header: string | null): number | undefined {
  if (header === null) return undefined
  const afterMs = /^\s*\d+\s*$/.test(header) ? Number(header) * 1000 : Date.parse(header) - Date.now()
  return Number.isFinite(afterMs) ? Math.max(0, afterMs) : undefined
}

function stringify(body: unknown): string {
  try {
    return toJson(body)
  } catch (cause) {
    // A buyer must not open circuits with it.
    throw new FacilitatorRequestError(
      notWritable,
      { kind: 'declined', cause: 'request', isUnsent: true },
      cause,
    )
  }
}

function queryString(query: DiscoveryQuery | undefined): string {
  const entries = Object.entries(query ?? {}).filter(([, value]) => value !== undefined)
  return entries.length === 0
    ? ''
    : `?${new URLSearchParams(entries.map(([key, value]) => [key, String(value)]))}`
}
