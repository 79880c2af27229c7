/** An entry as a row of a table, in the same columns in every SQL database. */
import { type SettlementQuery, withLesserAmount } from '../payment/payment-key.ts'
import type { LedgerEntry, LedgerFilter, LedgerPage, SettlementState } from '../settlement/ledger.ts'

/** What is read of a row; integers come as text from some drivers. */
export interface SettlementRow {
  readonly payment_key: string
  readonly purchase_fingerprint: string
  /** Unix ms. */
  readonly first_claimed_ms: number | string
  readonly claim_id: string
  /** JSON, as it was stored. */
  readonly settlement: string
  /** Milliseconds until a lease, or the window for another delivery, ends. */
  readonly left_ms: number | string | null
  /** JSON, of the first claim. */
  readonly payment_query: string
  /** The least of any claim, in decimal digits; `null` where it is no whole number. */
  readonly amount: string | null
}

/** What a claim writes of its query, beside the query itself. */
export interface QueryColumns {
  readonly network: string
  readonly asset: string
  readonly payer: string | null
  readonly payee: string
  readonly amount: string | null
  /** Unix ms after which the authorization cannot be used any more; `null` where it names no end. */
  readonly authorizationEndsAt: number | null
}

/** The last millisecond that every database has a date for: the year 9999. */
export const lastMs = 253_402_300_799_999

/** An authorization counts as usable this long (ms) after its end: the chain's clock differs. */
export const usableMarginMs = 60_000

/** An authorization that names no end counts as usable this long (ms) after its first claim, as in the memory ledger. */
export const usableWithoutEndMs = 24 * 60 * 60_000

export function columnsOf(query: SettlementQuery): QueryColumns {
  const { network, asset, payer, payTo, amount, validBefore } = query
  const fold = (name: string) => (network.startsWith('eip155:') ? name.toLowerCase() : name)
  return {
    network,
    asset: fold(asset),
    payer: payer === undefined ? null : fold(payer),
    payee: fold(payTo),
    amount: /^(\d{1,78}|0x[\da-f]{1,64})$/i.test(amount) ? `${BigInt(amount)}` : null,
    authorizationEndsAt: validBefore === undefined ? null : clampMs(validBefore * 1000),
  }
}

export function entryOf(row: SettlementRow): LedgerEntry {
  return {
    key: row.payment_key,
    fingerprint: row.purchase_fingerprint,
    query: queryOf(row),
    since: Number(row.first_claimed_ms),
    claim: row.claim_id,
    settlement: stateAsOfNow(JSON.parse(row.settlement), Number(row.left_ms)),
  }
}

export function queryOf({
  payment_query,
  amount,
}: Pick<SettlementRow, 'payment_query' | 'amount'>): SettlementQuery {
  const query: SettlementQuery = JSON.parse(payment_query)
  return amount === null ? query : withLesserAmount(query, { ...query, amount })
}

/** A claim that has lapsed is `unresolved`, and what was not delivered again in time is `settled`. */
export function stateAsOfNow(stored: SettlementState, leftMs: number): SettlementState {
  switch (stored.state) {
    case 'settling':
      return leftMs > 0 ? stored : { state: 'unresolved' }
    case 'undelivered': {
      const { state, transaction, redeliveries } = stored
      return leftMs > 0
        ? { state, transaction, redeliveries, windowMs: leftMs }
        : { state: 'settled', transaction, redeliveries }
    }
    default:
      return stored
  }
}

/** What `prune` forgets; in the other states a payment may have been charged and not delivered. */
export const statesThatAreOver = ['settled', 'failed', 'rejected'] as const

export const states = ['settling', 'unresolved', 'failed', 'settled', 'undelivered', 'rejected'] as const

/**
 * The condition on rows that are in one of these states as of now. States are written out, so that the partial indexes
 * are used.
 *
 * @param now the expression for the database's clock
 * @param row what a column's name begins with
 */
export function inAnyState(wanted: readonly SettlementState['state'][], now: string, row = ''): string {
  const is = (state: SettlementState['state']) => `${row}state = '${state}'`
  const conditionOf = (state: SettlementState['state']): string => {
    const open = `${row}state_ends_at > ${now}`
    const ended = `${row}state_ends_at <= ${now}`
    switch (state) {
      case 'settling':
      case 'undelivered':
        return `${is(state)} AND ${open}`
      case 'unresolved':
        return `${is(state)} OR ${is('settling')} AND ${ended}`
      case 'settled':
        return `${is(state)} OR ${is('undelivered')} AND ${ended}`
      case 'failed':
      case 'rejected':
        return is(state)
    }
  }
  const conditions = states.filter(state => wanted.includes(state)).map(conditionOf)
  return conditions.length === 0 ? '1 = 0' : `(${conditions.join(' OR ')})`
}

/** Where a page begins: behind this entry. */
interface Place {
  readonly sinceMs: number
  readonly key: string
}

/** The bounds of a page, as the databases' dates have them. */
export function boundsOf({ from, until, cursor }: LedgerFilter): {
  readonly fromMs: number
  readonly untilMs: number
  readonly after: Place | undefined
} {
  const [, sinceMs, key] = /^(\d{1,15})\|(.*)$/s.exec(cursor ?? '') ?? []
  if (cursor !== undefined && key === undefined)
    throw new RangeError('list(): the cursor is none of this ledger')
  return {
    fromMs: clampMs(from ?? 0),
    untilMs: clampMs(until ?? lastMs),
    after: key === undefined ? undefined : { sinceMs: Number(sinceMs), key },
  }
}

/** @param rows one more than the page may have, where there are more */
export function pageOf(rows: readonly SettlementRow[], limit: number): LedgerPage {
  const entries = rows.slice(0, limit).map(entryOf)
  const last = rows.length > limit ? entries.at(-1) : undefined
  return last === undefined ? { entries } : { entries, cursor: `${last.since}|${last.key}` }
}

function clampMs(ms: number): number {
  return Math.min(Math.max(0, Math.floor(ms)), lastMs)
}
