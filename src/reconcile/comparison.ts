/** Holds payments of the ledger against transfers of the chain, one at a time. */
import { purchaseOf } from '../payment/payment-key.ts'
import { closedBySeller, type LedgerEntry } from '../settlement/ledger.ts'
import type { ProbeAnswer } from '../settlement/probe-answer.ts'
import type { Records } from './records.ts'
import { type CreditUse, type Finding, recorded, type Unseen } from './report.ts'
import type { Arrival } from './transfers.ts'

/** What was learnt of a transfer or of a payment; nothing where ledger and chain agree. */
export type Result =
  | { readonly is: 'finding'; readonly finding: Finding }
  | { readonly is: 'unseen'; readonly unseen: Unseen }
  | { readonly is: 'credit'; readonly credit: CreditUse }
  | undefined

/** What is asked of the chain while comparing. */
export interface ChainSide {
  /** What arrived by a transaction; `undefined` when no node knows it. */
  arrivalsOf(transaction: string): Promise<readonly Arrival[] | undefined>
  /** What became of the authorization of a payment. */
  ask(entry: LedgerEntry): Promise<ProbeAnswer>
  /** Unix ms at which a transfer was made. */
  timeOf(arrival: Arrival): Promise<number>
}

/** A payment whose authorization no chain shows may be settled so long (ms) after its first claim. */
const hiddenMs = 10 * 60_000

const found = (finding: Finding): Result => ({ is: 'finding', finding })
const unseen = (what: Unseen): Result => ({ is: 'unseen', unseen: what })
const idOf = ({ transfer }: Arrival) => `${transfer.transaction} ${transfer.logIndex}`.toLowerCase()
const isDelivered = ({ settlement: { state } }: LedgerEntry) => state === 'settled' || state === 'undelivered'

export class Comparison {
  /** By transfer, the key of the payment that it was counted for without an authorization that shows it. */
  readonly #counted = new Map<string, string>()

  constructor(
    private readonly chain: ChainSide,
    private readonly records: Records,
    private readonly oldestDelivery: number | undefined,
  ) {}

  /** @param entry the payment that the transfer was made for, if the ledger has one */
  async ofArrival(arrival: Arrival, entry: LedgerEntry | undefined): Promise<Result> {
    const { transfer } = arrival
    if (!entry) return this.#ofUnrecorded(arrival)
    const payment = recorded(entry)
    const { settlement } = entry
    switch (settlement.state) {
      case 'settling':
        return unseen({ kind: 'transfer', transfer, reason: `its payment is being settled: ${entry.key}` })
      case 'unresolved':
        return found({
          kind: 'paid-not-delivered',
          transfer,
          payment,
          reason: 'The settlement is unresolved.',
        })
      case 'failed':
        return found({ kind: 'paid-not-delivered', transfer, payment, reason: 'The settlement failed.' })
      case 'undelivered':
        return found({ kind: 'paid-not-delivered', transfer, payment, reason: 'The reply was lost.' })
      case 'rejected':
        return settlement.reason === closedBySeller
          ? undefined
          : found({
              kind: 'charged-but-rejected',
              transfer,
              payment,
              reason: `The payment was rejected: ${settlement.reason}.`,
            })
      case 'settled':
        if (arrival.amount < BigInt(entry.query.amount))
          return found({
            kind: 'delivered-not-paid',
            transfer,
            payment,
            reason: `The payment moved ${transfer.amount} of ${entry.query.amount}.`,
          })
        // It was delivered for an earlier charge, and then its own authorization was used as well.
        return !isSameTransaction(settlement.transaction, transfer.transaction) &&
          (await this.#donorOf(entry, settlement.transaction))
          ? found({
              kind: 'paid-not-delivered',
              transfer,
              payment,
              reason: `The delivery was for an earlier charge, ${settlement.transaction}.`,
            })
          : undefined
    }
  }

  async #ofUnrecorded(arrival: Arrival): Promise<Result> {
    const { transfer } = arrival
    if (await this.#hiddenPaymentOf(arrival)) return undefined
    if (arrival.origin.kind === 'unclear')
      return unseen({
        kind: 'transfer',
        transfer,
        reason: 'no node shows by which authorization it was made: it takes one with debug_traceTransaction',
      })
    const isForgotten =
      arrival.origin.kind === 'authorization' &&
      (await this.chain.timeOf(arrival)) < (this.oldestDelivery ?? Number.POSITIVE_INFINITY)
    return found({
      kind: 'unknown-income',
      transfer,
      reason:
        arrival.origin.kind === 'none'
          ? 'It was made by no authorization that is known here.'
          : `The ledger has no payment for it${isForgotten ? ', or has forgotten it: it remembers no delivery of that time' : ''}.`,
    })
  }

  /** A payment that names the transaction, and whose authorization no chain shows. */
  async #hiddenPaymentOf(arrival: Arrival): Promise<boolean> {
    const time = await this.chain.timeOf(arrival)
    const entries = await this.records.between(time - hiddenMs, time + hiddenMs)
    return entries.some(
      entry =>
        isHidden(entry) &&
        isSameTransaction(namedBy(entry), arrival.transfer.transaction) &&
        this.#count(arrival, entry),
    )
  }

  /** One transfer counts for one payment. */
  #count(arrival: Arrival, { key, query }: LedgerEntry): boolean {
    const id = idOf(arrival)
    const owner = this.#counted.get(id) ?? key
    if (owner !== key || arrival.amount < BigInt(query.amount)) return false
    const isCountedElsewhere = [...this.#counted].some(([other, by]) => by === key && other !== id)
    if (isCountedElsewhere) return false
    this.#counted.set(id, key)
    return true
  }

  /**
   * A payment whose transfer is not among those of its blocks.
   *
   * @param credits those found until now
   */
  async ofUnpaid(entry: LedgerEntry, credits: readonly CreditUse[]): Promise<Result> {
    if (!isDelivered(entry) || /^0*$/.test(entry.query.amount)) return undefined
    const payment = recorded(entry)
    const transaction = namedBy(entry)
    const arrivals = (await this.chain.arrivalsOf(transaction)) ?? []
    if (isHidden(entry)) return this.#ofHidden(entry, arrivals)
    // What is less than the price is reported with the transfer.
    if (await this.#isOwn(entry, arrivals)) return undefined
    const donor = await this.#donorOf(entry, transaction)
    if (donor) return ofCredited(entry, donor, credits)
    const answer = await this.chain.ask(entry)
    switch (answer.state) {
      case 'paid':
        return undefined
      case 'unspent':
        return found({
          kind: 'delivered-not-paid',
          payment,
          reason: 'The authorization was never used.',
        })
      case 'spent-otherwise':
        if (answer.transaction && (await this.#isOwn(entry, await this.chain.arrivalsOf(answer.transaction))))
          return undefined
        return found({
          kind: 'delivered-not-paid',
          payment,
          reason: 'The authorization was cancelled, or used for something else.',
        })
      case 'cannot-tell':
        return unseen({ kind: 'payment', payment, reason: answer.reason })
    }
  }

  async #isOwn(entry: LedgerEntry, arrivals: readonly Arrival[] = []): Promise<boolean> {
    for (const arrival of arrivals)
      if (
        arrival.transfer.payer === entry.query.payer?.toLowerCase() &&
        (await this.records.of(arrival))?.key === entry.key
      )
        return true
    return false
  }

  async #ofHidden(entry: LedgerEntry, arrivals: readonly Arrival[]): Promise<Result> {
    for (const arrival of arrivals)
      if ((await this.records.of(arrival)) === undefined && this.#count(arrival, entry)) return undefined
    return unseen({
      kind: 'payment',
      payment: recorded(entry),
      reason:
        'no event of the chain shows payments of its kind, and the transaction that it names did not make it',
    })
  }

  /** The payment that the named transaction has charged, if it was for the same thing. */
  async #donorOf(entry: LedgerEntry, transaction: string): Promise<Charge | undefined> {
    const purchase = purchaseOf(entry.query)
    for (const arrival of (await this.chain.arrivalsOf(transaction)) ?? []) {
      const donor = await this.records.of(arrival)
      if (donor && donor.key !== entry.key && purchase && purchaseOf(donor.query) === purchase)
        return { donor, arrival }
    }
    return undefined
  }
}

/** A payment with the transfer that it has made. */
interface Charge {
  readonly donor: LedgerEntry
  readonly arrival: Arrival
}

/** What a charge has paid for is delivered once: whoever passes it on keeps no delivery. */
function ofCredited(
  entry: LedgerEntry,
  { donor, arrival: { transfer } }: Charge,
  credits: readonly CreditUse[],
): Result {
  const { transaction } = transfer
  const payment = recorded(entry)
  const isLast = !hasPassedOn(entry)
  const isUsed =
    isLast && credits.some(credit => credit.isLast && isSameTransaction(credit.transaction, transaction))
  if (!hasPassedOn(donor) || isUsed)
    return found({
      kind: 'delivered-not-paid',
      payment,
      reason: `The transaction that it names, ${transaction}, paid for another delivery.`,
    })
  if (entry.settlement.state === 'undelivered')
    return found({ kind: 'paid-not-delivered', transfer, payment, reason: 'The reply was lost.' })
  return { is: 'credit', credit: { transaction, key: entry.key, isLast } }
}

/** Its delivery was lost, or counts for another payment. */
function hasPassedOn({ settlement }: LedgerEntry): boolean {
  return settlement.state === 'settled'
    ? settlement.redeliveries === 0
    : ['unresolved', 'failed'].includes(settlement.state)
}

/** Nothing that is known here shows its authorization on the chain. */
function isHidden({ query }: LedgerEntry): boolean {
  return query.method !== 'eip3009' && query.method !== 'permit2'
}

function namedBy({ settlement }: LedgerEntry): string {
  return ('transaction' in settlement && settlement.transaction) || ''
}

function isSameTransaction(one: string, other: string): boolean {
  return one.toLowerCase() === other.toLowerCase()
}
