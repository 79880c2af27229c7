/** A charge that was not delivered is its payer's credit. */
import type { SettleResponse } from '@x402/core/types'
import { AggregatorError, AllFacilitatorsFailedError, SettlementIndeterminateError } from '../errors.ts'
import type { Payment } from '../payment/payment.ts'
import { now } from '../runtime/clock.ts'
import { type Held, ledgerError, redeliveryMs, summaryOf } from '../settlement/books.ts'
import { isUnresolved, type LedgerEntry, type LedgerUpdate } from '../settlement/ledger.ts'
import { conclude, record, stateAfter } from './conclude.ts'
import type { Context } from './context.ts'
import { Run } from './run.ts'
import { success } from './settle-answer.ts'
import { judge } from './verify.ts'

/** Milliseconds in which the chain is to tell what became of all earlier payments. */
const patienceMs = 5_000

/** The chain alone is asked. */
class ChainRun extends Run<'settle'> {
  override next(): undefined {}
}

type Settled = Extract<LedgerUpdate['settlement'], { state: 'settled' }>
type Doubt = Extract<LedgerUpdate['settlement'], { state: 'unresolved' }>

/** An earlier charge that is claimed here, with what is left of its redeliveries. */
interface Credit {
  readonly old: Held
  readonly settlement: Settled
}

/**
 * Uses what this payer was charged before for the same purchase, and did not get: nothing is sent of the new payment,
 * whose signature a facilitator has to find valid. The claim of the old one sees to it that it is used once.
 *
 * @returns nothing where there is no such charge: the new payment is settled
 * @throws {SettlementIndeterminateError} when nobody can tell whether there is
 * @throws {AllFacilitatorsFailedError} when no facilitator judged the signature, or the buyer has left
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
  let credit: Credit | undefined
  try {
    credit = await findCredit(context, payment, held)
  } catch (error) {
    await record(context, held, { state: 'failed', wasSent: false })
    throw error instanceof AggregatorError ? error : ledgerError(error)
  }
  if (!credit) return undefined
  const { old, settlement } = credit
  const { transaction } = settlement
  // The new one first: if the process dies between the two, the charge is the next payment's, and this one is delivered
  // to nobody. From then on it is the new payment's reply that may be lost.
  if (
    !(await record(context, held, settlement)) ||
    !(await record(context, old, { ...settlement, redeliveries: 0 }))
  )
    throw new SettlementIndeterminateError([], transaction)
  context.observer.emit(
    'settlement:credited',
    { ...summaryOf(held), transaction, chargedKey: old.key },
    'info',
    event => `delivered for an earlier charge, ${event.transaction}`,
  )
  return success(payment, transaction, query.payer)
}

async function findCredit(context: Context, payment: Payment, held: Held): Promise<Credit | undefined> {
  const { books } = context
  const credits = await books.creditsFor(held)
  if (books.isAbandoned(held))
    throw new AllFacilitatorsFailedError('settle: the buyer has left; nothing was charged.')
  if (!credits.length) return undefined
  const judged = { payment: asSigned(payment), keyed: held, standing: 'new' } as const
  if (!(await judge(context, judged)).isValid) return undefined
  const deadline = now() + patienceMs
  let doubt: Doubt | undefined
  for (const entry of credits) {
    const found = await takeOver(context, payment, { entry, deadline })
    if (found && 'old' in found) return found
    doubt ??= found
  }
  if (doubt) throw new SettlementIndeterminateError([], doubt.transaction)
  return undefined
}

/** With `upto` less may be settled than was signed, which is what facilitators verify. */
function asSigned(payment: Payment): Payment {
  const { scheme, payload, requirements } = payment
  return scheme === 'upto'
    ? { ...payment, requirements: { ...requirements, amount: payload.accepted.amount } }
    : payment
}

/**
 * What became of an earlier payment: a credit, doubt, or nothing where it was not charged, where another request has
 * taken it, or where the buyer is not kept waiting any longer.
 */
async function takeOver(
  context: Context,
  payment: Payment,
  { entry, deadline }: { entry: LedgerEntry; deadline: number },
): Promise<Credit | Doubt | undefined> {
  const { books, chains, deadlineMs } = context
  const isKnown = !isUnresolved(entry)
  const view = isKnown ? undefined : chains?.viewOf(entry, true)
  // After that the chain will never tell, or cannot say whose charge it was.
  const waitsUntil = Math.max(entry.since + redeliveryMs, view ? view.expiresAt * 1000 : 0)
  const doubt: Doubt | undefined = waitsUntil < Date.now() ? undefined : { state: 'unresolved' }
  if (deadline <= now() || !(isKnown || view || doubt)) return doubt
  const old = await books.claim(entry, deadlineMs.settle)
  if (old.kind === 'refused') return undefined
  const run = new ChainRun(context, 'settle', { payment, deadline })
  const settlement = stateAfter(await conclude(run, { payment, held: old }), old.redeliveries)
  if (settlement.state === 'settled') return { old, settlement }
  if (!(await record(context, old, settlement))) return doubt
  return doubt && settlement.state === 'unresolved' ? settlement : undefined
}
