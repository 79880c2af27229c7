/** How a settlement ends: what is known of its money, and what the ledger keeps of that. */
import { amountOf } from '../payment/payment-key.ts'
import { never } from '../runtime/clock.ts'
import type { Held } from '../settlement/books.ts'
import type { LedgerUpdate } from '../settlement/ledger.ts'
import { type Conclusion, guards } from '../settlement/machine.ts'
import type { ChainView } from '../settlement/probe.ts'
import type { Context } from './context.ts'
import { drive } from './drive.ts'
import type { Run } from './run.ts'
import { type Settling, success } from './settle-answer.ts'

export async function conclude(run: Run<'settle'>, { payment, held }: Settling): Promise<Conclusion> {
  const { context } = run
  const before = held?.before
  // Charged before, and its reply was lost: nobody has to be asked.
  if (before?.state === 'undelivered')
    return { kind: 'settled', response: success(payment, before.transaction, held?.query.payer) }
  try {
    const chain = held && viewOf(held, context)
    const { probeAfterMs, failoverAfterMs } = context.settlement
    const isProtected = held !== undefined && held.query.method !== 'payload'
    run.mayRepeatUnconfirmed = isProtected
    return await drive({
      run,
      chain,
      before,
      rules: {
        deadline: run.deadline,
        chain: chain && context.chains?.reading,
        isProtected,
        isExclusive: context.books.isShared,
        isAudited: context.chains?.isAudited() === true,
        isFree: Number(amountOf(payment.requirements)) === 0,
        expiresAt: chain?.expiresAt ?? never,
        network: payment.requirements.network,
        probeAfterMs,
        failoverAfterMs,
        may: guards,
      },
      accuse: (member, transaction) => context.chains?.accuse(member, payment.network, transaction),
    })
  } catch (error) {
    // A fault of ours must not read as "not charged".
    context.observer.fault('fault', 'settle failed', error)
    return inDoubt(undefined)
  }
}

/** The chain's view of the payment, where a probe can look at it. */
function viewOf(held: Held, { chains, books, noteSilence }: Context): ChainView | undefined {
  if (!chains) noteSilence(held.query)
  return chains?.viewOf(held, !held.before || !books.isShared)
}

/** Whether the claim still held; otherwise another one may deliver. */
export async function record(
  { books, chains }: Context,
  held: Held,
  settlement: LedgerUpdate['settlement'],
): Promise<boolean> {
  const isHeld = await books.record(held, settlement)
  if (isHeld && settlement.state === 'unresolved') chains?.watcher.watch(held.key)
  return isHeld
}

/** @param redeliveries how often it may be delivered again, should replies be lost */
export function stateAfter(conclusion: Conclusion, redeliveries?: number): LedgerUpdate['settlement'] {
  switch (conclusion.kind) {
    case 'settled':
      return { state: 'settled', transaction: short(conclusion.response.transaction), redeliveries }
    case 'recovered':
      return { state: 'settled', transaction: conclusion.transaction, redeliveries }
    case 'rejected':
      return { state: 'rejected', reason: short(conclusion.response.errorReason ?? 'rejected') }
    case 'failed':
      return { state: 'failed', wasSent: conclusion.wasSent }
    case 'indeterminate': {
      const { transaction, ownTransactions } = conclusion
      return { state: 'unresolved', transaction, ownTransactions, redeliveries }
    }
  }
}

/** A ledger keeps no more of what a facilitator says than anything honest takes. */
function short(text: string): string {
  return text.slice(0, 128)
}

/** The doubt that is left of a conclusion which must not be reported. */
export function inDoubt(conclusion: Conclusion | undefined): Conclusion {
  const after = conclusion && stateAfter(conclusion)
  const transaction = after && 'transaction' in after ? after.transaction : undefined
  return { kind: 'indeterminate', transaction, ownTransactions: undefined }
}
