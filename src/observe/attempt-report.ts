/** One attempt as it appears in errors, events, statistics and logs. */

/** The four operations of a facilitator. */
export type Operation = 'verify' | 'settle' | 'supported' | 'list'

/** One value for each operation. */
export function forEachOperation<T>(of: (operation: Operation) => T): Record<Operation, T> {
  return {
    verify: of('verify'),
    settle: of('settle'),
    supported: of('supported'),
    list: of('list'),
  }
}

/** How it went; `Outcome` in `facilitator/outcome.ts` says what each means. */
export type OutcomeKind = 'answered' | 'declined' | 'unreachable' | 'unknown' | 'pending' | 'spent'

/** Such as `unknown, HTTP 502`. */
export function describeOutcome({ outcome, reason }: Pick<AttemptReport, 'outcome' | 'reason'>): string {
  return reason === undefined ? outcome : `${outcome}, ${reason}`
}

/** One call of one operation on one facilitator. */
export interface AttemptReport {
  readonly facilitator: string
  readonly operation: Operation
  /** The payment's network as the requirements name it; absent for `supported` and `list`. */
  readonly network?: string | undefined
  readonly outcome: OutcomeKind
  /** The protocol's reason, the HTTP status or the network error's code; secrets removed. */
  readonly reason?: string | undefined
  readonly durationMs: number
}
