/** One call of one operation on one facilitator, under its timeout. */
import type { Operation } from '../observe/attempt-report.ts'
import type { Payment } from '../payment/payment.ts'
import { type Alarms, now } from '../runtime/clock.ts'
import { classifyError, classifyResponse } from './classify.ts'
import type { CallOptions, DiscoveryQuery, FacilitatorClientLike } from './client.ts'
import type { Outcome } from './outcome.ts'
import { FacilitatorRequestError } from './request-error.ts'

/** What is asked: a payment for `verify` and `settle`, a query for `list`. */
export interface Request {
  readonly payment?: Payment
  readonly query?: DiscoveryQuery | undefined
}

const timedOut = Symbol('timed out')

/** A timer that rings later than this (ms) was kept waiting by what else this process does. */
const latenessMs = 100

/**
 * @param timeoutMs milliseconds until the attempt is given up; whether the facilitator acted is unknown then
 * @param alarms ring early when the aggregator is stopped
 */
export async function attempt<O extends Operation>(
  client: FacilitatorClientLike,
  operation: O,
  request: Request,
  timeoutMs: number,
  alarms: Alarms,
): Promise<Outcome<O>> {
  const { signal } = alarms
  const lateAt = now() + timeoutMs + latenessMs
  let isLate = false
  const abort = new LazyAbort()
  let answer: unknown
  try {
    const called = invoke(client, operation, request, abort)
    answer = isThenable(called) ? await withTimeout(called, timeoutMs, alarms) : called
    isLate = answer === timedOut && now() >= lateAt
    // What has arrived meanwhile is read after the timers, in some steps.
    if (isLate) answer = await withTimeout(called as PromiseLike<unknown>, latenessMs, alarms)
    if (answer !== timedOut) return classifyResponse(operation, answer)
  } catch (error) {
    return readError(operation, error)
  }
  const reason = signal.aborted ? 'aborted by stop()' : `no answer within ${Math.round(timeoutMs)} ms`
  abort.now(reason)
  return { kind: 'unknown', reason, timedOut: true, isOurs: isLate || undefined }
}

/** A client may throw anything, even what throws when it is read. */
function readError<O extends Operation>(operation: O, error: unknown): Outcome<O> {
  try {
    return classifyError(operation, error)
  } catch {
    return { kind: 'unknown', reason: 'an error that cannot be read' }
  }
}

function invoke(
  client: FacilitatorClientLike,
  operation: Operation,
  { payment, query }: Request,
  options: CallOptions,
): unknown {
  switch (operation) {
    case 'verify':
      return payment && client.verify(payment.payload, payment.requirements, options)
    case 'settle':
      return payment && client.settle(payment.payload, payment.requirements, options)
    case 'supported':
      return client.getSupported(options)
    case 'list':
      if (!client.list)
        throw new FacilitatorRequestError('its client has no list()', {
          kind: 'declined',
          cause: 'ability',
          isUnsent: true,
        })
      return client.list(query, options)
  }
}

/** Resolves with a symbol when `timeoutMs` (ms) are over, or the alarms ring. */
export function withTimeout(
  called: PromiseLike<unknown>,
  timeoutMs: number,
  alarms: Pick<Alarms, 'setTimeout' | 'clearTimeout'>,
): Promise<unknown> {
  return new Promise((resolve, reject) => {
    const alarm = alarms.setTimeout(() => end(resolve)(timedOut), timeoutMs)
    const end = (settle: (value: unknown) => void) => (value: unknown) => {
      alarms.clearTimeout(alarm)
      settle(value)
    }
    called.then(end(resolve), end(reject))
  })
}

function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | undefined)?.then === 'function'
}

/** Call options whose signal is made when a client first looks at it. */
export class LazyAbort implements CallOptions {
  #controller: AbortController | undefined
  /** Why it is over, when it is. */
  #reason: string | undefined

  get signal(): AbortSignal {
    if (!this.#controller) {
      this.#controller = new AbortController()
      if (this.#reason) this.now(this.#reason)
    }
    return this.#controller.signal
  }

  now(reason: string): void {
    this.#reason = reason
    this.#controller?.abort(new DOMException(reason, 'TimeoutError'))
  }
}
