/** Whether a facilitator that rejects a payment is right: where the chain can tell, it is the judge. */

import type { Outcome } from '../facilitator/outcome.ts'
import { meaningOf } from '../facilitator/reasons.ts'
import type { Operation } from '../observe/attempt-report.ts'
import type { Payment } from '../payment/payment.ts'
import type { SignedPayment } from '../settlement/probe.ts'
import type { Context } from './context.ts'

/** An answer after which nobody else is asked. */
export type Rejection<O extends Operation> = Extract<Outcome<O>, { kind: 'answered' | 'spent' }>

export interface Examination<O extends Operation> {
  readonly context: Context
  readonly facilitator: string
  readonly operation: O
  readonly payment: Payment & SignedPayment
  /** Milliseconds that the question may take. */
  readonly timeoutMs: number
}

/** @returns the rejection, or the decline that it becomes */
export async function examine<O extends Operation>(
  rejection: Rejection<O>,
  { context, facilitator, operation, payment, timeoutMs }: Examination<O>,
): Promise<Outcome<O>> {
  const { chains, observer, settlement } = context
  const { reason = '', response } = rejection
  try {
    // A reason that nobody has listed may be about anything.
    const isCheckable = chains && settlement.crossExamine && meaningOf(reason)
    const cause = isCheckable && (await chains.crossExamine(payment, response, timeoutMs))
    if (!cause) return rejection
    if (cause === 'contradicted')
      observer.emit(
        'facilitator:contradicted',
        { facilitator, operation, network: payment.network, reason },
        'warn',
        event => `${event.facilitator} rejected a payment that the chain accepts`,
      )
    return { kind: 'declined', cause, reason, response }
  } catch {
    return rejection
  }
}
