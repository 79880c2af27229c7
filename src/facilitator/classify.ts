/** Turns what a call returned or threw into an outcome: pure functions over the tables below and `reasons.ts`. */
import { redact } from '../observe/redact.ts'
import type { DeclineCause, Operation, Outcome, Responses } from './outcome.ts'
import { meaningOf, type ReasonMeaning } from './reasons.ts'
import { FacilitatorRequestError } from './request-error.ts'
import { parseResponse } from './response-schema.ts'

/** What an HTTP status without a protocol body means, per kind of operation. */
type StatusMeaning = DeclineCause | 'declined-transient' | 'unknown'

const statusTable: readonly (readonly [
  statuses: readonly number[],
  read: StatusMeaning,
  settle: StatusMeaning,
])[] = [
  [[400, 413, 415, 422], 'request', 'request'],
  [[401, 403], 'credentials', 'credentials'],
  [[402], 'quota', 'quota'],
  [[404, 405, 410], 'address', 'address'],
  [[408, 425], 'declined-transient', 'unknown'],
  [[429], 'rate-limit', 'rate-limit'],
  // A proxy's 502 after the facilitator broadcast is the classic lost payment. Coinbase's API reference:
  // a 5xx is no guarantee of failure.
  [[500, 501, 502, 503, 504], 'unknown', 'unknown'],
]

/**
 * Codes of errors that can only happen before a connection stands, so that nothing was sent.
 * TLS codes are those of the handshake; any other `ERR_SSL_*` may come in mid-connection.
 */
const beforeSending = new Set([
  'ECONNREFUSED',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'EADDRNOTAVAIL',
  'UND_ERR_CONNECT_TIMEOUT',
  'ERR_SSL_WRONG_VERSION_NUMBER',
  'ERR_SSL_PACKET_LENGTH_TOO_LONG',
  'ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE',
  'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
  'ERR_SSL_TLSV1_UNRECOGNIZED_NAME',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'CERT_HAS_EXPIRED',
  'CERT_NOT_YET_VALID',
  'CERT_UNTRUSTED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_GET_ISSUER_CERT',
  'UNABLE_TO_GET_ISSUER_CERT_LOCALLY',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
])

/** Upstream's `HTTPFacilitatorClient` names the status of an answer without a protocol body only here. */
const statusInUpstreamMessage = /^Facilitator (?:verify|settle|getSupported) failed \((\d{3})\)/

/** The outcome of a call that returned. The answer is checked: client objects may return anything. */
export function classifyResponse<O extends Operation>(
  operation: O,
  answer: unknown,
  httpStatus?: number,
): Outcome<O> {
  if (operation === 'verify') return classifyVerify(answer as Responses['verify'], httpStatus) as Outcome<O>
  if (operation === 'settle') return classifySettle(answer as Responses['settle'], httpStatus) as Outcome<O>
  const response = parseResponse(operation, answer)
  return response === undefined ? notTheProtocol : { kind: 'answered', response }
}

/** The outcome of a call that threw. */
export function classifyError<O extends Operation>(operation: O, error: unknown): Outcome<O> {
  if (error instanceof FacilitatorRequestError) return classifyRequestError(operation, error)

  const asError = error as PossiblyTelling
  const response = responseOfUpstreamError(asError)
  if (response !== undefined) return classifyResponse(operation, response, asError.statusCode)

  const message = typeof asError?.message === 'string' ? asError.message : String(error)
  const status = statusInUpstreamMessage.exec(message)?.[1]
  if (status !== undefined) return classifyStatus(operation, Number(status))

  const code = networkCode(error)
  if (code !== undefined && saysNothingSent(error)) return { kind: 'unreachable', reason: code }
  return { kind: 'unknown', reason: code ?? redact(message), timedOut: isTimeout(asError) }
}

function classifyVerify(answer: Responses['verify'], httpStatus?: number): Outcome<'verify'> {
  if (answer?.isValid === true && !isFailure(httpStatus)) return { kind: 'answered', response: answer }
  if (answer?.isValid !== false) return notTheProtocol
  const reason = answer.invalidReason ?? 'invalid'
  const meaning = meaningOf(reason, answer.invalidMessage)
  if (meaning === undefined && statusDecides(httpStatus)) return classifyStatus('verify', httpStatus)
  const shown = redact(reason)
  switch (meaning) {
    case 'ability':
    case 'trouble':
      return { kind: 'declined', cause: meaning, reason: shown, response: answer }
    case 'spent':
      return { kind: 'spent', reason: shown, response: answer }
    case 'verdict':
    case 'maybe-broadcast':
    case 'pending':
    case undefined:
      return { kind: 'answered', response: answer, reason: shown }
  }
}

function classifySettle(answer: Responses['settle'], httpStatus?: number): Outcome<'settle'> {
  if (answer?.success === true && typeof answer.transaction === 'string' && !isFailure(httpStatus))
    return { kind: 'answered', response: answer }
  if (answer?.success !== false) return notTheProtocol
  const reason = answer.errorReason ?? 'failed'
  const transaction = answer.transaction || undefined
  const meaning: ReasonMeaning | undefined = meaningOf(reason, answer.errorMessage)
  if (meaning === undefined && transaction === undefined && statusDecides(httpStatus))
    return classifyStatus('settle', httpStatus)
  const shown = redact(reason)
  switch (meaning) {
    case 'verdict':
      return { kind: 'answered', response: answer, reason: shown }
    case 'spent':
      return { kind: 'spent', reason: shown, response: answer }
    case 'pending':
      return transaction === undefined
        ? { kind: 'unknown', reason: shown }
        : { kind: 'pending', reason: shown, response: answer, transaction }
    case 'ability':
    case 'trouble':
    case undefined:
      // "Not broadcast" with the hash of a broadcast contradicts itself: the chain has to say.
      return transaction === undefined
        ? { kind: 'declined', cause: meaning ?? 'trouble', reason: shown, response: answer }
        : { kind: 'unknown', reason: shown, transaction }
    case 'maybe-broadcast':
      return transaction === undefined
        ? { kind: 'unknown', reason: shown }
        : { kind: 'unknown', reason: shown, transaction }
  }
}

function classifyRequestError<O extends Operation>(operation: O, error: FacilitatorRequestError): Outcome<O> {
  const reason = redact(error.message)
  if (error.declined !== undefined) return { kind: 'declined', cause: error.declined, reason }
  if (error.response !== undefined) return classifyResponse(operation, error.response, error.status)
  if (error.phase === 'before-sending') return { kind: 'unreachable', reason }
  if (error.status === undefined || error.phase === 'body') return { kind: 'unknown', reason }
  return classifyStatus(operation, error.status, error.retryAfterMs)
}

function classifyStatus<O extends Operation>(
  operation: O,
  status: number,
  retryAfterMs?: number,
): Outcome<O> {
  const reason = `HTTP ${status}`
  const after = retryAfterMs === undefined ? {} : { retryAfterMs }
  const row = statusTable.find(([statuses]) => statuses.includes(status))
  const meaning = row?.[operation === 'settle' ? 2 : 1] ?? 'unknown'
  if (meaning === 'unknown') return { kind: 'unknown', reason, ...after }
  if (meaning === 'declined-transient')
    return { kind: 'declined', cause: 'trouble', reason, transient: true, ...after }
  return { kind: 'declined', cause: meaning, reason, ...after }
}

const notTheProtocol = { kind: 'unknown', reason: "an answer that is not the protocol's" } as const

function isFailure(status: number | undefined): boolean {
  return status !== undefined && (status < 200 || status > 299)
}

/** With a reason that nobody has listed, a telling status says more; 400 and 422 merely repeat the refusal. */
function statusDecides(status: number | undefined): status is number {
  return isFailure(status) && status !== 400 && status !== 422
}

/** Fields of the errors that upstream's clients and `fetch` throw, none of them certain. */
interface PossiblyTelling {
  name?: unknown
  message?: unknown
  statusCode?: number
  invalidReason?: string
  invalidMessage?: string
  errorReason?: string
  errorMessage?: string
  payer?: string
  transaction?: string
  network?: string
  code?: unknown
  syscall?: unknown
  cause?: unknown
}

/** Upstream's `VerifyError` and `SettleError`: known by name, as another copy of upstream may throw them. */
function responseOfUpstreamError(error: PossiblyTelling | undefined): unknown {
  switch (error?.name) {
    case 'VerifyError':
      return pickDefined({
        isValid: false,
        invalidReason: error.invalidReason,
        invalidMessage: error.invalidMessage,
        payer: error.payer,
      })
    case 'SettleError':
      return pickDefined({
        success: false,
        errorReason: error.errorReason,
        errorMessage: error.errorMessage,
        payer: error.payer,
        transaction: error.transaction ?? '',
        network: error.network ?? '',
      })
    default:
      return undefined
  }
}

function pickDefined(fields: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

function isTimeout(error: PossiblyTelling | undefined): boolean {
  return /Timeout/.test(String(error?.name))
}

/** The code of the network error behind what was thrown: `ECONNREFUSED`, `UND_ERR_SOCKET`, … */
export function networkCode(error: unknown): string | undefined {
  const { code, cause } = (error ?? {}) as PossiblyTelling
  const inner = (cause as PossiblyTelling | undefined)?.code
  return typeof inner === 'string' ? inner : typeof code === 'string' ? code : undefined
}

/**
 * Whether this is `fetch`'s own error for a connection that never stood. Only the immediate cause counts: an
 * in-process facilitator whose chain node refused a connection may have broadcast before.
 */
export function saysNothingSent(error: unknown): boolean {
  return error instanceof TypeError && isConnectFailure(error.cause)
}

function isConnectFailure(cause: unknown): boolean {
  if (typeof cause !== 'object' || cause === null) return false
  const { code, syscall, errors } = cause as { code?: unknown; syscall?: unknown; errors?: unknown }
  if (Array.isArray(errors) && errors.length > 0) return errors.every(isConnectFailure)
  return syscall === 'connect' || syscall === 'getaddrinfo' || beforeSending.has(String(code))
}
