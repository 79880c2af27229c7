import type { SettleResponse } from '@x402/core/types'
import type { Payment } from '../payment/payment.ts'
import { amountOf, identify } from '../payment/payment-key.ts'
import { never } from '../runtime/clock.ts'
import type { Held } from '../settlement/books.ts'
import {
  duplicate,
  isSettling,
  isUnresolved,
  type LedgerEntry,
  type SettlementState,
} from '../settlement/ledger.ts'
import { type Conclusion, guards } from '../settlement/machine.ts'
import type { ChainView } from '../settlement/probe.ts'
import type { Context } from './context.ts'
import { drive } from './drive.ts'
import { endOf } from './in-progress.ts'
import { Run } from './run.ts'
import { answer, quarantine, type Settling } from './settle-answer.ts'

/** The share of successes that `audit: 'sample'` looks up. */
const sampleShare = 0.1

/**
 * Settles a payment once: claims it in the ledger, asks one facilitator after the other, and the chain where a
 * facilitator leaves doubt. A payment whose replay protection is not known is not tried elsewhere after an attempt that
 * may have moved the money, or a denial in the protocol's words.
 *
 * @throws {SettlementIndeterminateError} when the money may have moved
 * @throws {AllFacilitatorsFailedError} when nobody settled, and nobody seems to have charged
 * @throws {SettlementInProgressError} when another request settles it
 * @throws {LedgerError} when the settlement could not be recorded; nothing was sent
 */
export async function settle(context: Context, payment: Payment): Promise<SettleResponse> {
  const keyed = await identify(payment)
  if (!keyed) return perform(context, { payment, held: undefined })
  const held = await context.books.claim(keyed, context.deadlineMs.settle)
  if (held.kind === 'refused')
    return isSettling(held.entry, keyed.fingerprint)
      ? endOf(keyed.key, context, 'settle')
      : refused(context, payment, held.entry)

  const { settling } = context
  const running = perform(context, { payment, held })
  settling.set(held.key, running)
  try {
    return await running
  } finally {
    settling.delete(held.key)
  }
}

async function perform(context: Context, settling: Settling): Promise<SettleResponse> {
  const { payment, held } = settling
  // While an earlier settlement of it is in doubt, the chain is asked about that alone.
  const examinable = held?.before?.state === 'unresolved' ? undefined : held?.query
  const run = new Run(context, 'settle', { payment, examinable })
  const conclusion = await conclude(run, settling)
  run.end()
  const isHeld = !held || (await record(context, held, stateAfter(conclusion)))
  // A claim that lapsed may be another one's by now, who delivers: one success, not two.
  return answer(run, settling, isHeld ? conclusion : inDoubt(conclusion))
}

function refused(
  { chains }: Context,
  { requirements: { network } }: Payment,
  entry: LedgerEntry,
): SettleResponse {
  // A look at what is unresolved may have missed it while it was claimed.
  if (isUnresolved(entry)) chains?.watcher.resume()
  const { reason: errorReason, message: errorMessage } = duplicate
  return { success: false, errorReason, errorMessage, transaction: '', network }
}

async function conclude(run: Run<'settle'>, { payment, held }: Settling): Promise<Conclusion> {
  const { context } = run
  try {
    const chain = held && viewOf(held, context)
    const { audit, probeAfterMs, failoverAfterMs } = context.settlement
    const isProtected = held !== undefined && held.query.method !== 'payload'
    run.mayRepeatUnconfirmed = isProtected
    return await drive({
      run,
      chain,
      before: held?.before,
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
        may: guards,
      },
      accuse: (member, transaction) => quarantine(context, { member, network: payment.network, transaction }),
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
async function record({ books, chains }: Context, held: Held, settlement: SettlementState): Promise<boolean> {
  const recorded = await books.record(held, settlement)
  if (recorded === 'open') chains?.watcher.watch(held.key)
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

/** A ledger keeps no more of what a facilitator says than anything honest takes. */
function short(text: string): string {
  return text.slice(0, 128)
}

/** The doubt that is left of a conclusion which must not be reported. */
function inDoubt(conclusion: Conclusion | undefined): Conclusion {
  const after = conclusion && stateAfter(conclusion)
  const transaction = after && 'transaction' in after ? after.transaction : undefined
  return { kind: 'indeterminate', transaction, ownTransactions: undefined }
}
