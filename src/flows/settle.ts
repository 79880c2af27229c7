import type { SettleResponse } from '@x402/core/types'
import { SettlementIndeterminateError } from '../errors.ts'
import type { SettlementSummary } from '../observe/events.ts'
import type { Payment } from '../payment.ts'
import type { Member } from '../pool/member.ts'
import { type Claim, duplicate, type SettlementState } from '../settlement/ledger.ts'
import { amountOf, identify, type KeyedPayment, summaryOf } from '../settlement/payment-key.ts'
import { allFailed } from './failure.ts'
import { type Context, Run } from './run.ts'
import { type Conclusion, Settling } from './settling.ts'

/**
 * Settles a payment once: claims it in the ledger, asks one facilitator after the other, and the chain where a
 * facilitator leaves doubt. A payment whose replay protection is not known has no key: it is not recorded, and an
 * attempt that may have moved the money is the last.
 *
 * @throws {SettlementIndeterminateError} when the money may have moved
 * @throws {AllFacilitatorsFailedError} when it did not, and nobody settled
 * @throws {LedgerError} when the settlement could not be recorded; nothing was sent
 */
export async function settle(context: Context, payment: Payment): Promise<SettleResponse> {
  const keyed = await identify(payment)
  if (keyed === undefined) return conclude(context, payment)

  const { settlements } = context
  const claim = crypto.randomUUID()
  const claimed = await settlements.claim(keyed, claim, context.deadlineMs.settle)
  if (claimed.kind === 'refused') {
    return {
      success: false,
      errorReason: duplicate.reason,
      errorMessage: duplicate.message,
      transaction: '',
      network: payment.requirements.network,
    }
  }
  return conclude(context, payment, { keyed, claimed, claim })
}

/** A payment's entry in the ledger, held by `claim`. */
interface Hold {
  readonly keyed: KeyedPayment
  readonly claimed: Extract<Claim, { kind: 'claimed' }>
  readonly claim: string
}

async function conclude(context: Context, payment: Payment, hold?: Hold): Promise<SettleResponse> {
  const { settlements } = context
  const run = new Run(context, 'settle', { payment })
  const onLie = (member: Member, transaction: string) =>
    quarantine(context, member, payment.network, transaction)
  let conclusion: Conclusion
  try {
    const chain = hold && settlements.viewOf(hold.claimed)
    const settling = new Settling(run, payment, chain, settlements.settings, onLie, hold?.claimed.before)
    conclusion = await settling.conclude()
  } catch (error) {
    // A fault of ours must not read as "not charged".
    conclusion = { kind: 'indeterminate', transaction: undefined }
    context.observer.fault('fault', 'settle met a fault of its own', error)
  }
  run.end()
  const after = stateAfter(conclusion)
  // A claim that lapsed may be another one's by now, who delivers: one success, not two.
  if (hold !== undefined && !(await settlements.record(hold.keyed, hold.claim, after)))
    conclusion = {
      kind: 'indeterminate',
      transaction: 'transaction' in after ? after.transaction : undefined,
    }
  return report(context, payment, run, conclusion, hold?.keyed)
}

function stateAfter(conclusion: Conclusion): SettlementState {
  switch (conclusion.kind) {
    case 'settled':
      return { state: 'settled', transaction: conclusion.response.transaction }
    case 'recovered':
      return { state: 'settled', transaction: conclusion.transaction }
    case 'rejected':
      return { state: 'rejected', reason: conclusion.response.errorReason ?? 'rejected' }
    case 'failed':
      return { state: 'failed', isWordOnly: conclusion.isWordOnly }
    case 'indeterminate':
      return { state: 'unresolved', transaction: conclusion.transaction }
  }
}

function report(
  context: Context,
  payment: Payment,
  run: Run<'settle'>,
  conclusion: Conclusion,
  keyed: KeyedPayment | undefined,
): SettleResponse {
  const { observer } = context
  const attempts = run.reports
  switch (conclusion.kind) {
    case 'settled':
    case 'rejected':
      return conclusion.response
    case 'recovered': {
      const { transaction, payer } = conclusion
      observer.tell(
        'settlement:recovered',
        { ...summarize(payment, keyed), transaction, attempts },
        'warn',
        event => `a settlement on ${event.network} was recovered from the chain: ${event.transaction}`,
      )
      const { network } = payment.requirements
      return { success: true, transaction, network, ...(payer === undefined ? {} : { payer }) }
    }
    case 'failed':
      return conclusion.response ?? allFailed(context, run, 'settle', payment)
    case 'indeterminate': {
      const { transaction } = conclusion
      observer.tell(
        'settlement:indeterminate',
        { ...summarize(payment, keyed), transaction, attempts },
        'error',
        event => `a settlement on ${event.network} is indeterminate: the buyer may have been charged`,
      )
      throw new SettlementIndeterminateError(attempts, transaction)
    }
  }
}

function summarize({ requirements }: Payment, keyed: KeyedPayment | undefined): SettlementSummary {
  if (keyed !== undefined) return summaryOf(keyed)
  const { network, payTo, asset } = requirements
  return { network, payTo, asset, amount: amountOf(requirements) }
}

function quarantine({ observer, pool }: Context, member: Member, network: string, transaction: string): void {
  pool.quarantine(member)
  observer.tell(
    'facilitator:quarantined',
    { facilitator: member.id, network, transaction },
    'error',
    event =>
      `${event.facilitator} claimed a settlement that the chain does not know (${event.transaction}): quarantined`,
  )
}
