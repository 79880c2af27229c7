import type { SettleResponse } from '@x402/core/types'
import { SettlementIndeterminateError } from '../errors.ts'
import type { SettlementSummary } from '../observe/events.ts'
import type { Payment } from '../payment/payment.ts'
import { amountOf, identify, type KeyedPayment } from '../payment/payment-key.ts'
import type { Member } from '../pool/member.ts'
import { never } from '../runtime/clock.ts'
import { writeJson } from '../runtime/json.ts'
import { type Held, summaryOf } from '../settlement/books.ts'
import { duplicate, isUnresolved, type SettlementState } from '../settlement/ledger.ts'
import type { Conclusion } from '../settlement/machine.ts'
import { drive } from './drive.ts'
import { allFailed } from './failure.ts'
import { type Context, Run } from './run.ts'

/** The share of successes that `audit: 'sample'` looks up. */
const sampleShare = 0.1

/**
 * Settles a payment once: claims it in the ledger, asks one facilitator after the other, and the chain where a
 * facilitator leaves doubt. A payment whose replay protection is not known is not tried elsewhere after an attempt that
 * may have moved the money, or a denial in the protocol's words.
 *
 * @throws {SettlementIndeterminateError} when the money may have moved
 * @throws {AllFacilitatorsFailedError} when nobody settled, and nobody seems to have charged
 * @throws {LedgerError} when the settlement could not be recorded; nothing was sent
 */
export async function settle(context: Context, payment: Payment): Promise<SettleResponse> {
  const keyed = await identify(payment)
  const hold = keyed && (await claim(context, keyed))
  if (keyed !== undefined && hold === undefined) return refusal(payment)

  // While an earlier settlement of it is in doubt, the chain is asked about that alone.
  const isExaminable = hold?.claimed.before?.state !== 'unresolved'
  const run = new Run(context, 'settle', { payment }, isExaminable ? keyed?.query : undefined)
  const conclusion = await conclude(context, payment, run, hold)
  run.end()
  const isHeld = hold === undefined || (await record(context, hold, conclusion))
  // A claim that lapsed may be another one's by now, who delivers: one success, not two.
  return answer(context, payment, run, isHeld ? conclusion : inDoubt(conclusion), keyed)
}

/** A payment with its entry in the ledger. */
interface Hold {
  readonly keyed: KeyedPayment
  readonly claimed: Held
}

async function claim(context: Context, keyed: KeyedPayment): Promise<Hold | undefined> {
  const claimed = await context.books.claim(keyed, context.deadlineMs.settle)
  if (claimed.kind === 'claimed') return { keyed, claimed }
  // A look at what is unresolved may have missed it while it was claimed.
  if (isUnresolved(claimed.entry)) context.resolver.resume()
  return undefined
}

async function conclude(
  context: Context,
  payment: Payment,
  run: Run<'settle'>,
  hold: Hold | undefined,
): Promise<Conclusion> {
  try {
    const isOurClock = hold?.claimed.before === undefined || !context.books.isShared
    const chain = hold && context.chains.viewOf(hold.claimed, isOurClock)
    const { audit, probeAfterMs, failoverAfterMs } = context.settlement
    const isProtected = hold !== undefined && hold.keyed.query.method !== 'payload'
    run.mayRepeatUnconfirmed = isProtected
    return await drive({
      run,
      chain,
      before: hold?.claimed.before,
      rules: {
        deadline: run.deadline,
        hasChain: chain !== undefined,
        isProtected,
        isExclusive: context.books.isShared,
        isAudited: audit === 'always' || (audit === 'sample' && Math.random() < sampleShare),
        isFree: Number(amountOf(payment.requirements)) === 0,
        expiresAt: chain?.expiresAt ?? never,
        network: payment.requirements.network,
        probeAfterMs,
        failoverAfterMs,
      },
      accuse: (member, transaction) => quarantine(context, member, payment.network, transaction),
    })
  } catch (error) {
    // A fault of ours must not read as "not charged".
    context.observer.fault('fault', 'settle failed', error)
    return inDoubt(undefined)
  }
}

/** Whether the claim still held; otherwise another one may deliver. */
async function record(context: Context, hold: Hold, conclusion: Conclusion): Promise<boolean> {
  const { keyed, claimed } = hold
  const { query, since } = claimed
  const entry = { ...keyed, query, since, settlement: stateAfter(conclusion) }
  const recorded = await context.books.record(entry, claimed)
  if (recorded === 'open') context.resolver.watch(keyed.key)
  return recorded !== 'taken'
}

function stateAfter(conclusion: Conclusion): SettlementState {
  switch (conclusion.kind) {
    case 'settled':
      return { state: 'settled', transaction: short(conclusion.response.transaction) }
    case 'recovered':
      return { state: 'settled', transaction: conclusion.transaction }
    case 'rejected':
      return { state: 'rejected', reason: short(conclusion.response.errorReason ?? 'rejected') }
    case 'failed':
      return { state: 'failed', wasSent: conclusion.wasSent }
    case 'indeterminate': {
      const { transaction, ownTransactions } = conclusion
      return { state: 'unresolved', transaction, ownTransactions }
    }
  }
}

/** A success that upstream's middleware cannot write as JSON would become a 402: what cannot be written is left out. */
function writable(response: SettleResponse): SettleResponse {
  const isPlain = Object.values(response).every(value => Object(value) !== value && typeof value !== 'bigint')
  return isPlain ? response : JSON.parse(writeJson(response))
}

/** A ledger keeps no more of what a facilitator says than anything honest takes. */
function short(text: string): string {
  return text.slice(0, 128)
}

function answer(
  context: Context,
  payment: Payment,
  run: Run<'settle'>,
  conclusion: Conclusion,
  keyed: KeyedPayment | undefined,
): SettleResponse {
  const { observer } = context
  const { network } = payment.requirements
  const attempts = run.reports
  switch (conclusion.kind) {
    case 'settled':
      return writable(conclusion.response)
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
      return { success: true, transaction, network, ...(payer === undefined ? {} : { payer }) }
    }
    case 'failed':
      return run.verdictOnAbilities ?? allFailed(context, run, 'settle', payment, conclusion.isProven)
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

/** The doubt that is left of a conclusion which must not be reported. */
function inDoubt(conclusion: Conclusion | undefined): Conclusion {
  const after = conclusion && stateAfter(conclusion)
  const transaction = after && 'transaction' in after ? after.transaction : undefined
  return { kind: 'indeterminate', transaction, ownTransactions: undefined }
}

function refusal({ requirements: { network } }: Payment): SettleResponse {
  const { reason: errorReason, message: errorMessage } = duplicate
  return { success: false, errorReason, errorMessage, transaction: '', network }
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
      `${event.facilitator} is quarantined: the chain does not know its settlement ${event.transaction}`,
  )
}
