/** Turns what a call returned or threw into an outcome: pure functions over the tables below and `reasons.ts`. */

import type { Operation } from '../observe/attempt-report.ts'
import { messageOf, redact } from '../observe/redact.ts'
import type { DeclineCause, Outcome, Responses } from './outcome.ts'
import { meaningOf, type ReasonMeaning } from './reasons.ts'
import { FacilitatorRequestError } from './request-error.ts'
import { parseResponse } from './response-schema.ts'

/**
 * HTTP statuses that, without a protocol body, say that the facilitator did not act. Any other one leaves it unknown:
 * a proxy's 502 after the facilitator broadcast is the classic lost payment. Coinbase's API reference: a 5xx is no
 * guarantee of failure.
 */
const declinedStatuses: Readonly<Record<number, DeclineCause>> = {
  401: 'credentials',
  403: 'credentials',
  404: 'address',
  405: 'address',
  410: 'address',
  413: 'request',
  415: 'request',
  429: 'rate-limit',
}

/**
 * The same, but for a settle. Some facilitators answer 400 when the wait for the receipt fails, after the broadcast; a
 * hostile one may charge and say 402.
 */
const declinedUnlessSettle: Readonly<Record<number, DeclineCause>> = {
  400: 'request',
  402: 'quota',
  // Worth a second try where that is harmless.
  408: 'trouble',
  409: 'request',
  422: 'request',
  425: 'trouble',
}

/** What a facilitator may call a transaction: Solana's take 88 characters, signatures and keys more, or others. */
const readableHash = /^\w{1,100}$/

/**
 * Codes of errors that can only happen before a connection stands, so that nothing was sent. TLS codes are those
 * of the handshake; any other `ERR_SSL_*` may come in mid-connection.
 */
const beforeSending =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|UND_ERR_CONNECT_TIMEOUT|CERT_.*|(DEPTH_ZERO_)?SELF_SIGNED_CERT.*|UNABLE_TO_(GET_ISSUER_CERT|VERIFY).*|ERR_TLS_CERT_.*|ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|SSLV3_ALERT_HANDSHAKE_FAILURE|TLSV1_ALERT_PROTOCOL_VERSION|TLSV1_UNRECOGNIZED_NAME))$/

/** Deno gives no code, but says which step failed. */
const denoConnectFailure = / client error \(Connect\): /

/** Upstream's `HTTPFacilitatorClient` names the status of an answer without a protocol body only here. */
const statusInUpstreamMessage = /^Facilitator (?:verify|settle|getSupported) failed \((\d{3})\)/

/** The outcome of a call that returned. The answer is checked: client objects may return anything. */
export function classifyResponse<O extends Operation>(
  operation: O,
  answer: unknown,
  httpStatus = 200,
  retryAfterMs?: number,
): Outcome<O> {
  // What it supports is kept, cloned and passed on: no more of it than the protocol has.
  const response = (operation === 'supported' ? parseResponse(operation, answer) : answer) as Responses[O]
  const isSuccess = succeeds(operation, response)
  if (isSuccess === undefined) return { kind: 'unknown', reason: "an answer that is not the protocol's" }
  if (isSuccess) {
    if (isOk(httpStatus)) return { kind: 'answered', response }
    if (operation !== 'settle') return classifyStatus(operation, httpStatus, retryAfterMs)
    // A success under an error's status contradicts itself: the chain has to say.
    const { transaction } = answer as Refusal
    return { kind: 'unknown', reason: `HTTP ${httpStatus} with a success`, transaction: hashOf(transaction) }
  }

  const { invalidReason, invalidMessage, errorReason, errorMessage, transaction } = answer as Refusal
  const reason = invalidReason ?? errorReason ?? 'no reason given'
  const meaning = meaningOf(reason, invalidMessage ?? errorMessage)
  const hash = operation === 'settle' ? hashOf(transaction) : undefined
  // With a reason that nobody has listed a telling status says more; 400 and 422 merely repeat the refusal.
  if (meaning === undefined && hash === undefined && !isOk(httpStatus) && ![400, 422].includes(httpStatus))
    return classifyStatus(operation, httpStatus, retryAfterMs, response)
  return classifyRefusal(operation, response, redact(reason), meaning, hash)
}

/**
 * The outcome of a call that threw.
 */
export function classifyError<O extends Operation>(operation: O, error: unknown): Outcome<O> {
  if (error instanceof FacilitatorRequestError) return classifyRequestError(operation, error)

  // A payload nested some thousand deep can be read, but not written. A buyer must not open circuits with it.
  if (operation === 'verify' && error instanceof RangeError)
    return { kind: 'declined', cause: 'request', reason: 'a payment that cannot be written as JSON' }

  const telling = (error ?? {}) as PossiblyTelling
  const response = responseOfUpstreamError(telling)
  if (response !== undefined) return classifyResponse(operation, response, telling.statusCode)

  const message = typeof telling.message === 'string' ? telling.message : messageOf(error)
  const status = statusInUpstreamMessage.exec(message)?.[1]
  if (status !== undefined) return classifyStatus(operation, Number(status))

  const code = networkCode(error)
  if (saysNothingSent(error))
    return { kind: 'unreachable', reason: code ?? 'no connection', isUnconfirmed: true }
  return { kind: 'unknown', reason: code ?? redact(message), timedOut: /Timeout/.test(String(telling.name)) }
}

/** Whether an answer says yes or no; `undefined` when it is not the protocol's. */
function succeeds(operation: Operation, answer: unknown): boolean | undefined {
  const { isValid, success, transaction } = (answer ?? {}) as Record<string, unknown>
  switch (operation) {
    case 'verify':
      return typeof isValid === 'boolean' ? isValid : undefined
    case 'settle':
      if (success === true) return typeof transaction === 'string' || undefined
      return success === false ? false : undefined
    case 'supported':
      return answer === undefined ? undefined : true
    case 'list':
      return parseResponse(operation, answer) === undefined ? undefined : true
  }
}

function classifyRefusal<O extends Operation>(
  operation: O,
  response: Responses[O],
  reason: string,
  meaning: ReasonMeaning | undefined,
  transaction: string | undefined,
): Outcome<O> {
  if (meaning === 'spent') return { kind: 'spent', reason, response }
  const isVerdict = meaning === 'verdict' || (meaning === undefined && operation === 'verify')
  if (isVerdict && transaction === undefined) return { kind: 'answered', reason, response }
  if (operation === 'settle') {
    if (meaning === 'pending' && transaction !== undefined)
      return { kind: 'pending', reason, response, transaction }
    // A refusal with the hash of a broadcast contradicts itself: the chain has to say.
    const isReverted = meaning === 'reverted'
    if (meaning === 'pending' || meaning === 'maybe-broadcast' || isReverted || transaction !== undefined)
      return { kind: 'unknown', reason, transaction, isReverted }
  }
  return { kind: 'declined', cause: causeOf(meaning), reason, response }
}

/** A facilitator may put anything there, a signature too; that there is something counts all the same. */
function hashOf(transaction: unknown): string | undefined {
  if (!transaction) return undefined
  return typeof transaction === 'string' && readableHash.test(transaction) ? transaction : 'unreadable'
}

function causeOf(meaning: ReasonMeaning | undefined): DeclineCause {
  if (meaning === 'ability' || meaning === 'simulation') return meaning
  return meaning === 'reverted' ? 'simulation' : 'trouble'
}

function classifyRequestError<O extends Operation>(operation: O, error: FacilitatorRequestError): Outcome<O> {
  const { failure } = error
  if (failure.kind !== 'status') return { ...failure, reason: redact(error.message) }
  const { status, response, retryAfterMs } = failure
  return response === undefined
    ? classifyStatus(operation, status, retryAfterMs)
    : classifyResponse(operation, response, status, retryAfterMs)
}

/** @param response the answer, where it is the protocol's, but its status says more */
function classifyStatus<O extends Operation>(
  operation: O,
  status: number,
  retryAfterMs?: number,
  response?: Responses[O],
): Outcome<O> {
  const reason = `HTTP ${status}`
  const isSettle = operation === 'settle'
  const cause = declinedStatuses[status] ?? (isSettle ? undefined : declinedUnlessSettle[status])
  if (cause === undefined) return { kind: 'unknown', reason, retryAfterMs }
  return { kind: 'declined', cause, reason, response, retryAfterMs, transient: cause === 'trouble' }
}

function isOk(status: number): boolean {
  return status >= 200 && status < 300
}

interface Refusal {
  invalidReason?: string
  invalidMessage?: string
  errorReason?: string
  errorMessage?: string
  transaction?: unknown
}

/** Fields of the errors that upstream's clients and `fetch` throw, none of them certain. */
interface PossiblyTelling extends Refusal {
  name?: unknown
  message?: unknown
  statusCode?: number
  payer?: string
  network?: string
  code?: unknown
  cause?: unknown
}

/** Upstream's `VerifyError` and `SettleError`: known by name, as another copy of upstream may throw them. */
function responseOfUpstreamError(error: PossiblyTelling): unknown {
  const { name, payer, invalidReason, invalidMessage } = error
  if (name === 'VerifyError') return { isValid: false, invalidReason, invalidMessage, payer }
  const { errorReason, errorMessage, transaction = '', network = '' } = error
  if (name === 'SettleError')
    return { success: false, errorReason, errorMessage, payer, transaction, network }
  return undefined
}

/** The code of the network error behind what was thrown: `ECONNREFUSED`, `UND_ERR_SOCKET`, … */
function networkCode(error: unknown): string | undefined {
  const { code, cause } = (error ?? {}) as PossiblyTelling
  const inner = (cause as PossiblyTelling | undefined)?.code
  return typeof inner === 'string' ? inner : typeof code === 'string' ? code : undefined
}

/** What went wrong on the network, in the fewest words: `fetch failed` says nothing, its cause does. */
export function networkProblem(error: unknown): string {
  return networkCode(error) ?? messageOf((error as PossiblyTelling | null | undefined)?.cause ?? error)
}

/**
 * Whether this is `fetch`'s own error for a connection that never stood. Only the immediate cause counts: an
 * in-process facilitator whose chain node refused a connection may have broadcast before.
 */
export function saysNothingSent(error: unknown): boolean {
  // Bun tells the code on the error itself, which has no cause.
  return error instanceof TypeError && isConnectFailure(error.cause ?? error)
}

function isConnectFailure(cause: unknown): boolean {
  if (typeof cause !== 'object' || cause === null) return false
  const { code, syscall, errors, message } = cause as Record<string, unknown>
  if (Array.isArray(errors) && errors.length > 0) return errors.every(isConnectFailure)
  if (denoConnectFailure.test(String(message))) return true
  // Some of the codes come in mid-connection too, where the call that failed is named.
  if (syscall !== undefined) return syscall === 'connect' || syscall === 'getaddrinfo'
  return beforeSending.test(String(code))
}
