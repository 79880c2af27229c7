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

class OperationStatistics {
  success = 0
  failure = 0
  totalMs = 0
  readonly #window = new Float64Array(windowSize)

  record(succeeded: boolean, durationMs: number): void {
    this.#window[this.count % windowSize] = durationMs
    if (succeeded) this.success++
    else this.failure++
    this.totalMs += durationMs
  }

  get count(): number {
    return this.success + this.failure
  }

  durations(): Float64Array {
    return this.#window.subarray(0, Math.min(this.count, windowSize))
  }
}

export class MemberStatistics {
  readonly #operations = new Map<Operation, OperationStatistics>()

  record(report: AttemptReport, succeeded: boolean): void {
    let operation = this.#operations.get(report.operation)
    if (!operation) {
      operation = new OperationStatistics()
      this.#operations.set(report.operation, operation)
    }
    operation.record(succeeded, report.durationMs)
  }

  get successes(): number {
    return sum(this.#all, 'success')
  }

  get failures(): number {
    return sum(this.#all, 'failure')
  }

  /** Average over all attempts, in milliseconds; 0 before the first. */
  get averageMs(): number {
    return averageMs(this.#all)
  }

  get #all(): OperationStatistics[] {
    return [...this.#operations.values()]
  }

  snapshot(id: string): FacilitatorStatistics {
    const count = (operation: Operation) => this.#operations.get(operation)?.count ?? 0
    const { successes, failures } = this
    return {
      id,
      operations: {
        ...forEachOperation(count),
        total: successes + failures,
      },
      results: { success: successes, failure: failures, successRate: successRate(successes, failures) },
      performance: performanceOf(this.#all),
      perOperation: Object.fromEntries(
        [...this.#operations].map(([name, operation]) => [
          name,
          { success: operation.success, failure: operation.failure, ...performanceOf([operation]) },
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

function averageMs(operations: readonly OperationStatistics[]): number {
  return sum(operations, 'totalMs') / (sum(operations, 'count') || 1)
}

function performanceOf(operations: readonly OperationStatistics[]): Performance {
  const durations = Float64Array.from(operations.flatMap(operation => [...operation.durations()])).sort()
  const rank = (quantile: number) =>
    round(durations[Math.max(0, Math.ceil(durations.length * quantile) - 1)] ?? 0)
  return {
    averageResponseTimeMs: round(averageMs(operations)),
    p50Ms: rank(0.5),
    p95Ms: rank(0.95),
    p99Ms: rank(0.99),
  }
}

function round(milliseconds: number): number {
  return Math.round(milliseconds * 100) / 100
}

function sum(
  operations: readonly OperationStatistics[],
  field: 'success' | 'failure' | 'totalMs' | 'count',
): number {
  return operations.reduce((total, operation) => total + operation[field], 0)
}
