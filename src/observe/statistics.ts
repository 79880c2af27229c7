/** Counts and durations per facilitator and operation, in memory that does not grow. */
import { type AttemptReport, forEachOperation, type Operation } from './attempt-report.ts'

/** How many of the newest durations the percentiles look at. */
const windowSize = 1000

/** Durations of attempts in milliseconds; the percentiles are over the newest 1,000. */
export interface Performance {
  averageResponseTimeMs: number
  p50Ms: number
  p95Ms: number
  p99Ms: number
}

/** Counts of one facilitator, as the status API shows them. */
export interface FacilitatorStatistics {
  id: string
  operations: Record<Operation, number> & { total: number }
  results: { success: number; failure: number; successRate: string }
  performance: Performance
  /** The same per operation, for those that were called. */
  perOperation: Partial<Record<Operation, { success: number; failure: number } & Performance>>
}

class Tally {
  success = 0
  failure = 0
  #totalMs = 0
  readonly #newest = new Float64Array(windowSize)

  record(succeeded: boolean, durationMs: number): void {
    this.#newest[this.count % windowSize] = durationMs
    if (succeeded) this.success++
    else this.failure++
    this.#totalMs += durationMs
  }

  get count(): number {
    return this.success + this.failure
  }

  get averageMs(): number {
    return this.#totalMs / (this.count || 1)
  }

  performance(): Performance {
    const durations = this.#newest.slice(0, this.count).sort()
    const rank = (quantile: number) =>
      round(durations[Math.max(0, Math.ceil(durations.length * quantile) - 1)] ?? 0)
    return {
      averageResponseTimeMs: round(this.averageMs),
      p50Ms: rank(0.5),
      p95Ms: rank(0.95),
      p99Ms: rank(0.99),
    }
  }
}

export class MemberStatistics {
  readonly #all = new Tally()
  readonly #operations = new Map<Operation, Tally>()

  record({ operation, durationMs }: AttemptReport, succeeded: boolean): void {
    let tally = this.#operations.get(operation)
    if (!tally) {
      tally = new Tally()
      this.#operations.set(operation, tally)
    }
    tally.record(succeeded, durationMs)
    this.#all.record(succeeded, durationMs)
  }

  get successes(): number {
    return this.#all.success
  }

  get failures(): number {
    return this.#all.failure
  }

  /** Average over all attempts, in milliseconds; 0 before the first. */
  get averageMs(): number {
    return this.#all.averageMs
  }

  snapshot(id: string): FacilitatorStatistics {
    const { success, failure, count: total } = this.#all
    return {
      id,
      operations: { ...forEachOperation(operation => this.#operations.get(operation)?.count ?? 0), total },
      results: { success, failure, successRate: successRate(success, failure) },
      performance: this.#all.performance(),
      perOperation: Object.fromEntries(
        [...this.#operations].map(([operation, tally]) => [
          operation,
          { success: tally.success, failure: tally.failure, ...tally.performance() },
        ]),
      ),
    }
  }
}

/** `98.64%`, `100%`; `100%` also before the first attempt. */
export function successRate(successes: number, failures: number): string {
  const total = successes + failures
  const percent = total === 0 ? 100 : (successes / total) * 100
  return `${Number.isInteger(percent) ? percent : percent.toFixed(2)}%`
}

function round(milliseconds: number): number {
  return Math.round(milliseconds * 100) / 100
}
