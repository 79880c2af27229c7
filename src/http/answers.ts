/** What the gateway answers to each result and error of the aggregator. */

import { AggregatorError, type AggregatorErrorCode, InvalidPaymentError } from '../errors.ts'
import { meaningOf } from '../facilitator/reasons.ts'
import type { AnyPaymentPayload, AnyPaymentRequirements } from '../payment/payment.ts'
import { writeJson } from '../runtime/json.ts'
import { duplicate } from '../settlement/ledger.ts'

export type AnswerStatus = 200 | 400 | 401 | 403 | 404 | 405 | 409 | 413 | 415 | 422 | 429 | 500 | 502 | 503

export interface Answer {
  readonly status: AnswerStatus
  readonly body: object
  readonly headers: Readonly<Record<string, string>>
  /** It decides the payment: asked again, the answer would be the same. */
  readonly isFinal: boolean
}

/** An answer that is not the protocol's. */
export function problem(status: AnswerStatus, error: string, message: string): Answer {
  const headers: Record<string, string> = status === 401 ? { 'www-authenticate': 'Bearer' } : {}
  return { status, body: { error, message }, headers, isFinal: false }
}

/** The answer to a request that may be made again after so many milliseconds. */
export function retryable(answer: Answer, retryAfterMs: number): Answer {
  const headers = { ...answer.headers, 'retry-after': `${Math.ceil(retryAfterMs / 1000)}` }
  return { ...answer, headers }
}

const statuses: Partial<Record<AggregatorErrorCode, AnswerStatus>> = {
  INVALID_PAYMENT: 400,
  ALL_FACILITATORS_FAILED: 502,
  NO_ELIGIBLE_FACILITATOR: 502,
  NO_HEALTHY_FACILITATOR: 503,
  LEDGER_FULL: 503,
  LEDGER_FAILED: 503,
  AGGREGATOR_STOPPED: 503,
}

const retryAfterMs = 1_000

/** Runs one operation of the aggregator; an error becomes an answer that upstream's clients understand. */
export async function answerTo(operate: () => Promise<object>): Promise<Answer> {
  try {
    return protocolAnswer(await operate())
  } catch (error) {
    return answerToError(error)
  }
}

function answerToError(error: unknown): Answer {
  // What is not known to have left the money alone must not read as a refusal: see createGateway.
  if (!(error instanceof AggregatorError))
    return problem(200, 'INTERNAL_ERROR', 'the gateway met a fault of its own')
  const { path, transaction } = error as { path?: string; transaction?: string }
  const status = statuses[error.code] ?? 200
  const plain = problem(status, error.code, error.message)
  const answer = { ...plain, body: { ...plain.body, path, transaction } }
  const isPassing = status === 503 || error.code === 'SETTLEMENT_IN_PROGRESS'
  return isPassing ? retryable(answer, retryAfterMs) : answer
}

/**
 * The answer to the settle of a payment that this gateway has found valid. Upstream's clients take every status but 200
 * for a refusal, which ends in a 402, though the goods are made: what is a 502 in process stays one.
 */
export function neverRefused(answer: Answer): Answer {
  return answer.status >= 500 ? { ...answer, status: 200 } : answer
}

/** Characters of a header of extensions that are passed on. */
const longestHeader = 8_192

/** What a facilitator sends in a header rather than in the body stays there. */
function protocolAnswer(response: object): Answer {
  const { extensionResponses, ...body } = response as { extensionResponses?: object }
  const headers: Record<string, string> = {}
  if (extensionResponses !== undefined) {
    const header = btoa(String.fromCharCode(...new TextEncoder().encode(writeJson(extensionResponses))))
    // With ours beside it, clients take no more: an answer that they cannot read would be a failure to them.
    if (header.length <= longestHeader) headers['extension-responses'] = header
  }
  const { errorReason } = body as { errorReason?: string | null }
  const isFinal = errorReason !== duplicate.reason && meaningOf(errorReason ?? '') !== 'ability'
  return { status: 200, body, headers, isFinal }
}

export interface PaymentBody {
  readonly paymentPayload: AnyPaymentPayload
  readonly paymentRequirements: AnyPaymentRequirements
}

/** A request's body: the payment, which the aggregator checks, or the answer that says what is wrong with the body. */
export type Body =
  | ({ readonly kind: 'payment' } & PaymentBody)
  | { readonly kind: 'wrong'; readonly answer: Answer }

export function readBody(text: string): Body {
  const wrong = (what: string): Body => ({
    kind: 'wrong',
    answer: answerToError(new InvalidPaymentError('body', what)),
  })
  if (text === '') return wrong('is empty; was it read before, as by an express.json() in front?')
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch (error) {
    return wrong(`is not JSON: ${(error as Error).message}`)
  }
  if (typeof body !== 'object' || body === null || Array.isArray(body))
    return wrong('expected an object with paymentPayload and paymentRequirements')
  const { paymentPayload, paymentRequirements } = body as PaymentBody
  return { kind: 'payment', paymentPayload, paymentRequirements }
}
