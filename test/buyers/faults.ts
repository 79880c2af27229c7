/** What goes wrong in a purchase. */
import type { Fault } from '../bed/facilitator.ts'

const answerIsLost: Fault = { kind: 'act-then', next: { kind: 'reset' } }

export interface PurchaseFault {
  /** What the facilitator does with the first settles. */
  readonly settle?: Fault
  /** Milliseconds for which the chain's node is down, so that nobody can tell what became of a payment. */
  readonly nodeIsDownMs?: number
  /** The connection to the buyer ends after the settle, in the place of the first reply with goods. */
  readonly isReplyLost?: boolean
  /** The buyers leave when every payment has reached the facilitator. */
  readonly hangUp?: boolean
  /** The replica dies when every payment was charged; the buyers turn to another one with the same ledger. */
  readonly kill?: boolean
  /** Milliseconds after which the buyers make their second call. */
  readonly retryAfterMs?: number
}

export const faults = {
  'doubt, resolved at once': { settle: answerIsLost },
  'doubt for 10 s': { settle: answerIsLost, nodeIsDownMs: 10_000 },
  'reply lost after the settle': { isReplyLost: true },
  'buyer hangs up': { settle: { kind: 'slow', ms: 2_000 }, hangUp: true },
  'replica killed': { settle: { kind: 'act-then', next: { kind: 'hang' } }, kill: true },
  'replica killed, retry after its claim has lapsed': {
    settle: { kind: 'act-then', next: { kind: 'hang' } },
    kill: true,
    retryAfterMs: 5_000,
  },
} as const satisfies Record<string, PurchaseFault>

export type FaultName = keyof typeof faults
