/** Turns what a call returned or threw into an outcome: pure functions over the tables below and `reasons.ts`. */

import type { Operation } from '../observe/attempt-report.ts'
import { messageOf, redact } from '../observe/redact.ts'
import { isRecord } from '../runtime/json.ts'
import type { DeclineCause, Outcome, Responses } from './outcome.ts'
import { meaningOf, type ReasonMeaning } from './reasons.ts'
import { FacilitatorRequestError, notTheProtocols, notWritable } from './request-error.ts'
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
  414: 'request',
  415: 'request',
  429: 'rate-limit',
  431: 'request',
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

/** What anything else there is called: that there is something counts all the same. */
export const unreadable = 'unreadable'

/**
 * Codes of errors that can only happen before a connection stands, so that nothing was sent. TLS codes are those
 * of the handshake; any other `ERR_SSL_*` may come in mid-connection.
 */
const beforeSending =
  /^(ECONNREFUSED|ENOTFOUND|EAI_AGAIN|EHOSTUNREACH|ENETUNREACH|EADDRNOTAVAIL|UND_ERR_CONNECT_TIMEOUT|CERT_.*|(DEPTH_ZERO_)?SELF_SIGNED_CERT.*|UNABLE_TO_(GET_ISSUER_CERT|VERIFY).*|ERR_TLS_CERT_.*|ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|SSLV3_ALERT_HANDSHAKE_FAILURE|TLSV1_ALERT_PROTOCOL_VERSION|TLSV1_UNRECOGNIZED_NAME))$/

/** Codes of errors of this process, which can open no more. */
const ownTrouble = /^E(MFILE|NFILE|NOBUFS|NOMEM|ADDRNOTAVAIL)$/

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
  const isPayment = operation === 'verify' || operation === 'settle'
  // Of what is advertised no more is read than the schema takes.
  const response = (isPayment ? answer : parseResponse(operation, answer)) as Responses[O]
  const isSuccess = isPayment ? succeeds(operation, answer) : response && true
  if (isSuccess === undefined) return { kind: 'unknown', reason: notTheProtocols }
  if (isSuccess && isOk(httpStatus)) return { kind: 'answered', response }
  const { invalidReason, invalidMessage, errorReason, errorMessage, transaction } = answer as Refusal
  const named = operation === 'settle' ? `${transaction ?? ''}` : ''
  // A facilitator may put anything there, a signature too.
  const hash = named && (readableHash.test(named) ? named : unreadable)
  if (isSuccess) {
    if (operation !== 'settle') return classifyStatus(operation, httpStatus, retryAfterMs)
    // A success under an error's status contradicts itself: the chain has to say.
    return { kind: 'unknown', reason: `HTTP ${httpStatus} with a success`, transaction: hash || undefined }
  }

  const reason = invalidReason ?? errorReason ?? 'no reason given'
  const meaning = meaningOf(reason, invalidMessage ?? errorMessage)
  // With a reason that nobody has listed a telling status says more; 400 and 422 merely repeat the refusal.
  if (!meaning && !hash && !isOk(httpStatus) && ![400, 422].includes(httpStatus))
    return classifyStatus(operation, httpStatus, retryAfterMs, response)
  return classifyRefusal(operation, response, redact(reason), meaning, hash)
}

/**
 * The outcome of a call that threw.
 */
export function classifyError<O extends Operation>(operation: O, error: unknown): Outcome<O> {
  if (error instanceof FacilitatorRequestError) {
    const { failure } = error
    if (failure.kind !== 'status')
      return { ...failure, reason: redact(error.message), isOurs: isOurs(error.message) }
    const { status, response, retryAfterMs } = failure
    return response === undefined
      ? classifyStatus(operation, status, retryAfterMs)
      : classifyResponse(operation, response, status, retryAfterMs)
  }

  // A buyer must not open circuits with it.
  if (operation === 'verify' && error instanceof RangeError)
    return { kind: 'declined', cause: 'request', reason: notWritable }

  const telling = (error ?? {}) as PossiblyTelling
  const response = responseOfUpstreamError(telling)
  if (response) return classifyResponse(operation, response, telling.statusCode)

  const message = typeof telling.message === 'string' ? telling.message : messageOf(error)
  const status = statusInUpstreamMessage.exec(message)?.[1]
  if (status !== undefined) return classifyStatus(operation, Number(status))

  const code = networkCode(error)
  if (saysNothingSent(error))
    return { kind: 'unreachable', reason: code ?? 'no connection', isUnconfirmed: true, isOurs: isOurs(code) }
  return {
    kind: 'unknown',
    reason: redact(code ?? message),
    timedOut: /Timeout/.test(String(telling.name)),
    isOurs: isOurs(code),
  }
}

function isOurs(code = ''): true | undefined {
  return ownTrouble.test(code) || undefined
}

/** Whether an answer says yes or no; `undefined` when it is not the protocol's. */
function succeeds(operation: 'verify' | 'settle', answer: unknown): boolean | undefined {
  const { isValid, success, transaction } = (answer ?? {}) as Record<string, unknown>
  if (operation === 'verify') return typeof isValid === 'boolean' ? isValid : undefined
  if (success === true) return (typeof transaction === 'string' && /^[!-~]*$/.test(transaction)) || undefined
  return success === false ? false : undefined
}

function classifyRefusal<O extends Operation>(
  operation: O,
  response: Responses[O],
  reason: string,
  meaning: ReasonMeaning | undefined,
  transaction: string,
): Outcome<O> {
  if (meaning === 'spent') return { kind: 'spent', reason, response }
  const isVerdict = meaning === 'verdict' || (!meaning && operation === 'verify')
  if (isVerdict && !transaction) return { kind: 'answered', reason, response }
  if (operation === 'settle') {
    if (meaning === 'pending' && transaction) return { kind: 'pending', reason, response, transaction }
    // A refusal with the hash of a broadcast contradicts itself: the chain has to say.
    const isReverted = meaning === 'reverted'
    if (meaning === 'pending' || meaning === 'maybe-broadcast' || isReverted || transaction)
      return { kind: 'unknown', reason, transaction: transaction || undefined, isReverted }
  }
  return { kind: 'declined', cause: causeOf(meaning), reason, response }
}

function causeOf(meaning: ReasonMeaning | undefined): DeclineCause {
  if (meaning === 'ability' || meaning === 'simulation') return meaning
  return meaning === 'reverted' ? 'simulation' : 'trouble'
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
  if (!cause) return { kind: 'unknown', reason, retryAfterMs }
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
  transaction?: string
}

/** Fields of the errors that upstream's clients and `fetch` throw, none of them certain. */
interface PossiblyTelling {
  name?: unknown
  message?: unknown
  statusCode?: number
  code?: unknown
  cause?: unknown
}

/** Upstream's `VerifyError` and `SettleError`: known by name, as another copy of upstream may throw them. */
function responseOfUpstreamError(error: PossiblyTelling): unknown {
  switch (error.name) {
    case 'VerifyError':
      return parseResponse('verify', { ...error, isValid: false })
    case 'SettleError':
      return parseResponse('settle', { ...error, success: false })
    default:
      return undefined
  }
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
  if (!isRecord(cause)) return false
  const { code, syscall, errors, message } = cause
  if (Array.isArray(errors) && errors.length > 0) return errors.every(isConnectFailure)
  if (denoConnectFailure.test(String(message))) return true
  // Some of the codes come in mid-connection too, where the call that failed is named.
  if (syscall !== undefined) return syscall === 'connect' || syscall === 'getaddrinfo'
  return beforeSending.test(String(code))
}
