/** One settlement on its way: attempts, what the chain says meanwhile, and the conclusion (README, "How a payment stays safe"). */
import type { SettleResponse } from '@x402/core/types'
import { now } from '../clock.ts'
import type { Outcome } from '../facilitator/outcome.ts'
import { isExplainedByPayment } from '../facilitator/reasons.ts'
import type { Payment } from '../payment.ts'
import type { Member } from '../pool/member.ts'
import type { ChainView } from '../settlement/chain-view.ts'
import type { SettlementState } from '../settlement/ledger.ts'
import type { ProbeAnswer } from '../settlement/probe.ts'
import type { SettlementSettings } from '../settlement/settlements.ts'
import { Inquiry } from './inquiry.ts'
import { Mailbox } from './mailbox.ts'
import type { Run } from './run.ts'

/** How a settlement ended. */
export type Conclusion =
  /** A facilitator said so. */
  | { readonly kind: 'settled'; readonly response: SettleResponse }
  /** The chain said so. */
  | { readonly kind: 'recovered'; readonly transaction: string; readonly payer?: string | undefined }
  /** A deterministic rejection; nothing was charged, or not by this purchase. */
  | { readonly kind: 'rejected'; readonly response: SettleResponse }
  /** No facilitator settled, and none can have charged. `response` when all of them lacked the ability. */
  | { readonly kind: 'failed'; readonly isWordOnly: boolean; readonly response?: SettleResponse | undefined }
  | { readonly kind: 'indeterminate'; readonly transaction: string | undefined }

/** The share of successes that `audit: 'sample'` looks up. */
const sampleShare = 0.1
/** Milliseconds after which a facilitator that answered "pending" is asked again, where no chain can tell; doubles. */
const firstRepeatMs = 1_000

/** Milliseconds by which our clock may be behind the chain's before a block counts as made after an attempt. */
const skewMs = 3_000

type Happening =
  | { readonly kind: 'ended'; readonly member: Member; readonly outcome: Outcome<'settle'> }
  | { readonly kind: 'chain'; readonly answer: ProbeAnswer }

export class Settling {
  /** Attempts that have not ended. */
  #open = 0
  /** The attempt begun last; the older ones were overtaken. */
  #latest: Member | undefined
  #patienceEndsAt = 0
  /** An attempt may have moved the money: only the chain, or a success, can say how this ends. */
  #mayHaveMoved: boolean
  /** A facilitator that had trouble says that it broadcast nothing; that is only its word. */
  #isWordOnly: boolean
  /** The chain has been asked whether that word is true. */
  #isWordChecked = false
  #isWordConfirmed = false
  /** Unix ms when the last attempt ended: what a block from before shows, the attempt may have changed. */
  #lastEndedAt = 0
  /** A facilitator gave a verdict: no other one is asked. */
  #verdict: SettleResponse | undefined
  /** A facilitator that is waiting for its transaction. */
  #pending: Member | undefined
  /** A success that waits for the chain to confirm it. */
  #claimed: { readonly member: Member; readonly response: SettleResponse } | undefined
  #transaction: string | undefined
  /** The chain has shown the payment, though not under enough blocks yet. */
  #wasMined = false
  /** Whether the next facilitator may be asked. */
  #mayGoOn: boolean
  /** Every facilitator of the route has been asked. */
  #isExhausted = false
  /** The next was asked while an attempt was open: either may be what has used the authorization. */
  #wasOvertaken = false

  #repeatMs = firstRepeatMs
  #endRepeat: (() => void) | undefined
  readonly #happenings = new Mailbox<Happening>()
  readonly #inquiry: Inquiry | undefined

  /**
   * @param chain absent where no probe can look at the payment: then an attempt that may have acted is the last
   * @param before what an earlier settlement of the same purchase left behind
   */
  constructor(
    private readonly run: Run<'settle'>,
    private readonly payment: Payment,
    private readonly chain: ChainView | undefined,
    private readonly settings: SettlementSettings,
    /** Told of a facilitator whose claim of success the chain does not know. */
    private readonly onLie: (member: Member, transaction: string) => void,
    before: SettlementState | undefined,
  ) {
    if (chain !== undefined)
      this.#inquiry = new Inquiry(chain, run.deadline, answer =>
        this.#happenings.post({ kind: 'chain', answer }),
      )
    this.#mayHaveMoved = before?.state === 'unresolved'
    this.#isWordOnly = before?.state === 'failed' && before.isWordOnly
    this.#transaction = before?.state === 'unresolved' ? before.transaction : undefined
    this.#mayGoOn = !this.#mayHaveMoved
    if (this.#mayHaveMoved) this.#inquiry?.askAt(now())
  }

  async conclude(): Promise<Conclusion> {
    for (;;) {
      this.#goOn()
      const conclusion = this.#end() ?? this.#takeIn(await this.#nextHappening())
      if (conclusion === undefined) continue
      this.#endRepeat?.()
      return conclusion
    }
  }

  /** Asks the next facilitator, if that is allowed and there is one. */
  #goOn(): void {
    if (!this.#mayGoOn || this.#verdict !== undefined) return
    const member = this.run.next()
    this.#mayGoOn = false
    this.#isExhausted = member === undefined
    this.#patienceEndsAt = now() + this.settings.failoverAfterMs
    if (member === undefined) return
    this.#wasOvertaken ||= this.#open > 0
    this.#latest = member
    this.#inquiry?.askAt(now() + this.settings.probeAfterMs)
    this.#begin(member)
  }

  #begin(member: Member): void {
    this.#open++
    const end = (outcome: Outcome<'settle'>) => {
      this.#open--
      this.#happenings.post({ kind: 'ended', member, outcome })
    }
    // A fault of ours must neither crash the seller nor read as "not charged".
    this.run.ask(member).then(end, () => end({ kind: 'unknown', reason: 'a fault in the aggregator' }))
  }

  /** The conclusion when there is nothing left to wait for. */
  #end(): Conclusion | undefined {
    if (this.run.isAborted && this.#couldStillCharge) return this.#indeterminate()
    if (this.#open > 0 || !this.#happenings.isEmpty) return undefined
    if (this.run.isAborted && this.#isWordOnly) return { kind: 'failed', isWordOnly: true }
    this.#checkWordOnce()
    if (this.#inquiry?.isOpen && (this.#mayHaveMoved || this.#isWordChecked)) return undefined
    if (this.#mayHaveMoved) return this.#indeterminate()
    if (this.#verdict !== undefined && !this.#isVerdictHeldBack)
      return { kind: 'rejected', response: this.#verdict }
    const response = this.#isWordDoubted ? undefined : this.run.verdictOnAbilities
    return { kind: 'failed', isWordOnly: this.#isWordOnly, response }
  }

  /** Before a facilitator in trouble is believed that it has broadcast nothing, the chain is asked. */
  #checkWordOnce(): void {
    if (!this.#isWordOnly || this.#isWordChecked) return
    if (this.#verdict !== undefined && !this.#isVerdictHeldBack) return
    this.#isWordChecked = true
    this.#inquiry?.askAt(now())
  }

  #takeIn(happening: Happening | undefined): Conclusion | undefined {
    switch (happening?.kind) {
      case 'ended':
        return this.#takeOutcome(happening.member, happening.outcome)
      case 'chain':
        return this.#takeChainAnswer(happening.answer)
      case undefined:
        if (now() < this.run.deadline) return undefined
        return this.#couldStillCharge
          ? this.#indeterminate()
          : { kind: 'failed', isWordOnly: this.#isWordOnly }
    }
  }

  #takeOutcome(member: Member, outcome: Outcome<'settle'>): Conclusion | undefined {
    this.#lastEndedAt = Date.now()
    this.#isWordOnly ||= outcome.isUnconfirmed === true
    this.#isWordConfirmed = false
    switch (outcome.kind) {
      case 'answered':
        if (outcome.response.success) return this.#takeSuccess(member, outcome.response)
        this.#takeVerdict(outcome.response, false)
        return undefined
      case 'spent':
        this.#takeVerdict(outcome.response, this.#isWordOnly || this.#wasOvertaken)
        return undefined
      case 'declined':
        if (outcome.cause === 'trouble' || outcome.cause === 'simulation') this.#isWordOnly = true
        this.#takeNoAction(member)
        return undefined
      case 'unreachable':
        this.#takeNoAction(member)
        return undefined
      case 'pending':
        this.#pending = member
        this.#doubt(outcome.transaction)
        if (this.chain === undefined) this.#repeat(member)
        return undefined
      case 'unknown':
        this.#doubt(outcome.transaction)
        if (member === this.#latest) this.#patienceEndsAt = now()
        return undefined
    }
  }

  /** A facilitator did nothing. If it was the one waited for, the next may be asked. */
  #takeNoAction(member: Member): void {
    // Where no chain can be asked, an attempt that may have acted is the last, whatever its repeat was answered.
    if (member === this.#latest && !(this.#mayHaveMoved && this.chain === undefined)) this.#mayGoOn = true
  }

  #takeSuccess(member: Member, response: SettleResponse): Conclusion | undefined {
    const { audit } = this.settings
    const isAudited = audit === 'always' || (audit === 'sample' && Math.random() < sampleShare)
    if (this.chain === undefined || !isAudited) return { kind: 'settled', response }
    this.#claimed = { member, response }
    this.#patienceEndsAt = now() + this.settings.failoverAfterMs
    this.#doubt(response.transaction)
    return undefined
  }

  /** A rejection is held back while this very payment may be what has used the authorization, or the money. */
  #takeVerdict(response: SettleResponse, isSuspicious: boolean): void {
    this.#verdict = response
    this.#isWordChecked = false
    this.run.end()
    if (isSuspicious) this.#doubt(undefined)
    else if (this.#couldStillCharge) this.#inquiry?.askAt(now())
  }

  #doubt(transaction: string | undefined): void {
    this.#mayHaveMoved = true
    this.#transaction ??= transaction
    this.#inquiry?.askAnew()
  }

  #takeChainAnswer(answer: ProbeAnswer): Conclusion | undefined {
    switch (answer.state) {
      case 'paid':
        return this.#claimed === undefined
          ? { kind: 'recovered', transaction: answer.transaction, payer: answer.payer }
          : { kind: 'settled', response: { ...this.#claimed.response, transaction: answer.transaction } }
      case 'spent-otherwise':
        return { kind: 'rejected', response: this.#rejection('nonce_already_used') }
      case 'unspent':
        if (this.chain?.hasExpired(answer))
          return { kind: 'rejected', response: this.#rejection('payment_expired') }
        return this.#takeUnspent(answer.asOf * 1000 >= this.#lastEndedAt + skewMs)
      case 'cannot-tell':
        this.#wasMined ||= answer.isMined === true
        if (this.#couldStillCharge || this.#isVerdictHeldBack) this.#inquiry?.askAgain()
        if (this.#pending !== undefined && this.#open === 0) this.#repeat(this.#pending)
        return undefined
    }
  }

  /** @param isFresh the block that shows it was made after the last attempt had ended */
  #takeUnspent(isFresh: boolean): Conclusion | undefined {
    this.#isWordConfirmed ||= this.#isWordChecked && isFresh
    if (this.#couldStillCharge || (this.#isVerdictHeldBack && !isFresh)) this.#inquiry?.askAgain()
    if (now() < this.#patienceEndsAt) return undefined
    // Neither is a facilitator accused, nor another one believed, for what an old block does not show.
    if (!isFresh && (this.#claimed !== undefined || this.#verdict !== undefined)) return undefined
    // Nobody else is asked after a verdict, and what is in doubt may still land: there is no more to learn.
    if (this.#verdict !== undefined && this.#mayHaveMoved && this.#open === 0) return this.#indeterminate()
    if (this.#claimed !== undefined) this.#expose(this.#claimed)
    if (this.#open > 0 && this.#latest !== undefined && !this.#mayGoOn)
      this.run.overtake(this.#latest, this.settings.failoverAfterMs)
    // All were asked, and the chain says that nothing came of it: asking again cannot charge twice.
    if (this.#isExhausted && this.#open === 0) this.run.startOver()
    this.#mayGoOn = true
    return undefined
  }

  get #isWordDoubted(): boolean {
    return this.#isWordOnly && !this.#isWordConfirmed
  }

  /** A payment that was made by a facilitator whose word is doubted looks like want of funds to the next. */
  get #isVerdictHeldBack(): boolean {
    return this.#isWordDoubted && isExplainedByPayment(this.#verdict?.errorReason)
  }

  get #couldStillCharge(): boolean {
    return this.#mayHaveMoved || this.#open > 0
  }

  /** A success was claimed that the chain does not know. */
  #expose({ member, response }: { member: Member; response: SettleResponse }): void {
    this.#claimed = undefined
    // What a reorganization took back was no lie.
    if (!this.#wasMined) this.onLie(member, response.transaction)
  }

  /** A facilitator remembers what it has broadcast: asked again, it says how that went. */
  #repeat(member: Member): void {
    if (now() + this.#repeatMs >= this.run.deadline) return
    this.#open++
    this.#endRepeat = this.run.wait(() => {
      this.#endRepeat?.()
      this.#open--
      if (!this.run.isAborted) this.#begin(member)
      else this.#happenings.wake()
    }, this.#repeatMs)
    this.#repeatMs *= 2
  }

  /** Nothing when it is time to ask the chain, or the deadline has come. An attempt ends by the deadline itself. */
  #nextHappening(): Promise<Happening | undefined> {
    this.#inquiry?.askIfDue()
    return this.#happenings.next(wake => {
      if (this.chain === undefined && this.#open > 0) return () => {}
      const until = Math.min(this.#inquiry?.dueAt ?? this.run.deadline, this.run.deadline)
      return this.run.wait(wake, Math.max(0, Math.ceil(until - now())))
    })
  }

  #rejection(errorReason: string): SettleResponse {
    const { network } = this.payment.requirements
    return this.#verdict ?? { success: false, errorReason, transaction: '', network }
  }

  #indeterminate(): Conclusion {
    return { kind: 'indeterminate', transaction: this.#transaction }
  }
}
