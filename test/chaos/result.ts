/** What became of the payments of one cell. */
import type { Purchase } from '../bed/buyer.ts'

export interface CellResult {
  /** Delivered, and charged once. */
  ok: number
  /** Charged, but reported so that the buyer is asked to pay again. */
  lost: number
  /** Deliveries without a charge of their own. */
  falseSuccess: number
  /** Neither delivered nor charged. */
  failed: number
  /** Reported as not known (502): not delivered, and the buyer is not asked again. */
  indeterminate: number
  /** Transactions beyond one per charged payment. */
  duplicateBroadcasts: number
  p50Ms: number
  p95Ms: number
  maxMs: number
}

/** What a buyer learns: he has the goods, he does not know, or he is asked to pay. */
export type Answer = 'delivered' | 'unknown' | 'refused'

/** One payment, however often it was sent. */
export interface Sale {
  readonly charges: number
  readonly deliveries: number
  /** What the buyer goes by in the end. */
  readonly answer: Answer
  readonly durationMs: number
}

/** A 502 leaves it open whether the buyer was charged only where it says so. */
export function answerOf({ status, body }: Pick<Purchase, 'status' | 'body'>): Answer {
  if (status === 200) return 'delivered'
  return status === 502 && JSON.stringify(body).includes('may have been charged') ? 'unknown' : 'refused'
}

/** A payment that was sent several times at once: the buyer has what the best of the answers gives him. */
export function saleOf(purchases: readonly Purchase[], charges: number): Sale {
  const answers = purchases.map(answerOf)
  const best = (['delivered', 'unknown'] as const).find(answer => answers.includes(answer))
  return {
    charges,
    deliveries: answers.filter(answer => answer === 'delivered').length,
    answer: best ?? 'refused',
    durationMs: Math.max(...purchases.map(({ durationMs }) => durationMs)),
  }
}

/** @param broadcasts transactions that the facilitators sent, where somebody counts them */
export function tally(sales: readonly Sale[], broadcasts?: number): CellResult {
  const count = (is: (sale: Sale) => boolean) => sales.filter(is).length
  const sum = (of: (sale: Sale) => number) => sales.reduce((total, sale) => total + of(sale), 0)
  const undelivered = sales.filter(({ deliveries }) => deliveries === 0)
  const refused = undelivered.filter(({ answer }) => answer === 'refused')
  const charges = sum(sale => sale.charges)
  return {
    ok: count(({ deliveries, charges }) => deliveries > 0 && charges > 0),
    lost: refused.filter(({ charges }) => charges > 0).length,
    falseSuccess: sum(({ deliveries, charges }) => Math.max(0, deliveries - charges)),
    failed: refused.filter(({ charges }) => charges === 0).length,
    indeterminate: undelivered.length - refused.length,
    duplicateBroadcasts: broadcasts === undefined ? 0 : broadcasts - charges,
    ...percentiles(sales.map(({ durationMs }) => durationMs)),
  }
}

function percentiles(durations: number[]): Pick<CellResult, 'p50Ms' | 'p95Ms' | 'maxMs'> {
  const sorted = durations.sort((a, b) => a - b)
  const at = (quantile: number) => Math.round(sorted[Math.ceil(sorted.length * quantile) - 1] ?? 0)
  return { p50Ms: at(0.5), p95Ms: at(0.95), maxMs: at(1) }
}
