/** What every flow works with. */
import type { SettleResponse } from '@x402/core/types'
import type { AggregatorEvents } from '../events.ts'
import type { Operation } from '../observe/attempt-report.ts'
import type { Observer } from '../observe/observer.ts'
import type { Pool } from '../pool/pool.ts'
import type { Alarms } from '../runtime/clock.ts'
import type { Books } from '../settlement/books.ts'
import type { Chains, NoteSilence } from '../settlement/probe.ts'

/** How far a settlement goes before the chain is asked, and the next facilitator. */
export interface SettlementRules {
  readonly audit: 'off' | 'sample' | 'always'
  readonly crossExamine: boolean
  readonly probeAfterMs: number
  readonly failoverAfterMs: number
}

export interface Context {
  readonly pool: Pool
  readonly observer: Observer<AggregatorEvents>
  readonly alarms: Alarms
  readonly deadlineMs: Readonly<Record<Operation, number>>
  readonly backoffMs: number
  /** Milliseconds after which a verify is asked of the next facilitator as well. */
  readonly hedgeAfterMs: number | undefined
  readonly settlement: SettlementRules
  readonly books: Books
  /** Absent without a probe. */
  readonly chains: Chains | undefined
  readonly noteSilence: NoteSilence
  /** The settlements that run in this process, by key. */
  readonly settling: Map<string, Promise<SettleResponse>>
}
