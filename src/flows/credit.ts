/** A charge that was not delivered is its payer's credit. */
import type { SettleResponse } from '@x402/core/types'
import { AggregatorError, SettlementIndeterminateError } from '../errors.ts'
import type { Payment } from '../payment/payment.ts'
import { type Held, ledgerError, redeliveryMs, summaryOf } from '../settlement/books.ts'
import { isUnresolved, type LedgerEntry, type LedgerUpdate } from '../settlement/ledger.ts'
import { conclude, record, stateAfter } from './conclude.ts'
import type { Context } from './context.ts'
import { Run } from './run.ts'
import { success } from './settle-answer.ts'
import { judge } from './verify.ts'

/** Milliseconds in which the chain is to tell what became of an earlier payment. */
const patienceMs = 5_000

/** The chain alone is asked. */
class ChainRun extends Run<'settle'> {
  override next(): undefined {}
}

/**
 * Uses what this payer was charged before for the same purchase, and did not get: nothing is sent of the new payment,
 * whose signature a facilitator has to find valid. The claim of the old one sees to it that it is used once.
 *
 * @returns nothing where there is no such charge: the new payment is settled
 * @throws {SettlementIndeterminateError} when nobody can tell whether there is
 * @throws {AllFacilitatorsFailedError} when no facilitator judged the signature
 * @throws {LedgerError} when the ledger does not answer
 */
export async function useCredit(
  context: Context,
  payment: Payment,
  held: Held,
): Promise<SettleResponse | undefined> {
  const { before, query } = held
  // It may have been charged itself.
  if (before && (before.state !== 'failed' || before.wasSent)) return undefined
  try {
    const credits = await context.books.creditsFor(held)
    if (credits.length === 0 || !(await judge(context, { payment, keyed: held, standing: 'new' })).isValid)
      return undefined
    let doubt: LedgerUpdate['settlement'] | undefined
    for (const entry of credits) {
      const old = await resolve(context, payment, entry)
      if (old?.state === 'unresolved') doubt = old
      if (old?.state !== 'settled') continue
      const { transaction } = old
      // After the old one: if the process dies between the two, nothing is delivered twice.
      if (!(await record(context, held, old))) throw new SettlementIndeterminateError([], transaction)
      context.observer.emit(
        'settlement:credited',
        { ...summaryOf(held), transaction, chargedKey: entry.key },
        'info',
        event => `delivered for an earlier charge, ${event.transaction}`,
      )
      return success(payment, transaction, query.payer)
    }
    if (!doubt) return undefined
    throw new SettlementIndeterminateError([], 'transaction' in doubt ? doubt.transaction : undefined)
  } catch (error) {
    await record(context, held, { state: 'failed', wasSent: false })
    throw error instanceof AggregatorError ? error : ledgerError(error)
  }
}

/**
 * What became of an earlier payment that is taken over, with what is left of its redeliveries; nothing where another
 * request has taken it.
 */
async function resolve(
  context: Context,
  payment: Payment,
  entry: LedgerEntry,
): Promise<LedgerUpdate['settlement'] | undefined> {
  const { books, chains, deadlineMs } = context
  // Without a probe nobody will ever tell: the buyer is not kept waiting for good.
  if (isUnresolved(entry) && !chains?.viewOf(entry, true) && entry.since + redeliveryMs < Date.now())
    return undefined
  const old = await books.claim(entry, deadlineMs.settle)
  if (old.kind === 'refused') return undefined
  const briefly = { ...context, deadlineMs: { ...deadlineMs, settle: patienceMs } }
  const run = new ChainRun(briefly, 'settle', { payment })
  const state = stateAfter(await conclude(run, { payment, held: old }), old.redeliveries)
  // From now on it is the new payment's reply that may be lost.
  const isHeld = await record(context, old, state.state === 'settled' ? { ...state, redeliveries: 0 } : state)
  return isHeld ? state : { state: 'unresolved' }
}
