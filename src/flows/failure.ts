/** What is said when no facilitator served the request. */
import { AggregatorStoppedError, AllFacilitatorsFailedError } from '../errors.ts'
import type { AttemptReport, Operation } from '../observe/attempt-report.ts'
import { redact } from '../observe/redact.ts'
import type { Payment } from '../payment/payment.ts'
import type { Context } from './context.ts'

/** An operation that nobody served. */
export interface Failed {
  readonly context: Context
  readonly operation: Operation
  readonly reports: readonly AttemptReport[]
  readonly isAborted: boolean
  readonly payment?: Payment | undefined
}

/**
 * @param isUncharged nothing was charged, and that is sure
 * @throws {AllFacilitatorsFailedError} always, with the reason why
 */
export function allFailed(failed: Failed, isUncharged = failed.payment !== undefined): never {
  const { operation, reports, isAborted, payment } = failed
  const { pool } = failed.context
  if (isAborted) throw new AggregatorStoppedError(operation, reports)
  if (reports.length > 0) {
    const asked = new Set(reports.map(report => report.facilitator)).size
    const charged = isUncharged ? '; nothing was charged' : ''
    throw new AllFacilitatorsFailedError(
      `${operation}: all facilitators failed (${asked} of ${pool.members.length} asked)${charged}.`,
      reports,
    )
  }
  if (payment && !pool.couldServe(payment)) {
    throw new AllFacilitatorsFailedError(
      `${operation}: no facilitator can take this payment (${describeKind(payment)}): ` +
        (pool.members.some(member => member.isInService)
          ? 'each lacks the kind or an extension, or it was made for another. See getSupported().'
          : 'each is disabled or quarantined. See getHealthStatus().'),
      [],
      'NO_ELIGIBLE_FACILITATOR',
    )
  }
  throw new AllFacilitatorsFailedError(
    `${operation}: No healthy facilitators available. See getHealthStatus().`,
    [],
    'NO_HEALTHY_FACILITATOR',
  )
}

/** The names are the caller's, who may have put anything there. */
function describeKind({ x402Version, scheme, network }: Payment): string {
  return redact(`x402 version ${x402Version}, scheme ${scheme}, network ${network}`)
}
