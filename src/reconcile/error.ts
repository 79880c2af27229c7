import { AggregatorError } from '../errors.ts'
import { redact } from '../observe/redact.ts'

/** A reconciliation could not begin or go on, as a node or the ledger failed. It can be resumed. */
export class ReconciliationError extends AggregatorError {
  override readonly name = 'ReconciliationError'
  readonly code = 'RECONCILIATION_FAILED'

  constructor(problem: string) {
    super(`reconcile: ${problem}`)
  }
}

/** What a node or a ledger has failed with, in words that may be shown: a URL may carry a key. */
export function reasonOf(error: unknown): string {
  const { shortMessage, details, message } = error as Readonly<Record<string, string | undefined>>
  const parts = shortMessage === undefined ? [message ?? `${error}`] : [shortMessage, details ?? '']
  return redact([...new Set(parts)].filter(Boolean).join(' '))
}
