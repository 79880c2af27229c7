/** Another try at the same facilitator, after a pause. */
import pRetry from 'p-retry'
import type { Operation, Outcome } from './outcome.ts'

export interface RetryOptions<O extends Operation> {
  /** Tries after the first. */
  readonly retries: number
  /** Milliseconds before the first of them; doubles with each, times a random factor from 1 to 2. */
  readonly backoffMs: number
  /** Milliseconds left for all of them. */
  readonly remainingMs: number
  readonly signal: AbortSignal
  worthIt(outcome: Outcome<O>): boolean
}

/** Takes over after a first attempt whose outcome was worth a retry; its last outcome is the result. */
export async function retry<O extends Operation>(
  first: Outcome<O>,
  again: () => Promise<Outcome<O> | undefined>,
  options: RetryOptions<O>,
): Promise<Outcome<O>> {
  let outcome = first
  try {
    await pRetry(
      async attemptNumber => {
        if (attemptNumber > 1) outcome = (await again()) ?? outcome
        if (options.worthIt(outcome)) throw new WorthRetrying()
      },
      {
        retries: options.retries,
        minTimeout: Math.max(options.backoffMs, retryAfterMs(first) ?? 0),
        maxRetryTime: options.remainingMs,
        randomize: retryAfterMs(first) === undefined,
        signal: options.signal,
      },
    )
  } catch (error) {
    if (!(error instanceof WorthRetrying) && !options.signal.aborted) throw error
  }
  return outcome
}

export function retryAfterMs(outcome: Outcome): number | undefined {
  return 'retryAfterMs' in outcome ? outcome.retryAfterMs : undefined
}

class WorthRetrying extends Error {}
