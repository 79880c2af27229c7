/** A ledger that must answer: one over a network may hang, and a payment must not hang with it. */
import { within } from '../runtime/clock.ts'
import type {
  Claim,
  ClaimRequest,
  LedgerEntry,
  LedgerUsage,
  SettlementLedger,
  SettlementState,
} from './ledger.ts'

/** Milliseconds that one call may take; several fit into the time by which a claim outlives its operation. */
const timeoutMs = 5_000
/** The same for an update, for which a buyer waits who has paid. */
const updateTimeoutMs = 2_000

/** Its methods are async functions: a ledger may answer or throw at once, against its contract. */
export class BoundedLedger implements SettlementLedger {
  constructor(private readonly inner: SettlementLedger) {}

  async claim(request: ClaimRequest): Promise<Claim> {
    const claiming = Promise.resolve(this.inner.claim(request))
    try {
      return await within(timeoutMs, () => claiming)
    } catch (error) {
      claiming
        .then(
          late => late.kind === 'claimed' && this.#release(request, late.before),
          // It may be stored, and only its answer lost, with what was there before.
          async () => this.#release(request, await this.#leftBefore(request)),
        )
        .catch(() => {})
      throw error
    }
  }

  /** Nothing, or an earlier settlement that may have charged. */
  async #leftBefore({ key, since }: ClaimRequest): Promise<SettlementState | undefined> {
    const entry = await this.inner.get(key)
    return !entry || entry.since === since ? undefined : { state: 'unresolved' }
  }

  /** Nobody settles under a claim that was not answered in time: the next one shall not have to wait for its end. */
  #release(
    { key, claim }: ClaimRequest,
    state: SettlementState = { state: 'failed', wasSent: false },
  ): Promise<boolean> {
    return this.inner.update(key, claim, state)
  }

  async update(key: string, claim: string, settlement: SettlementState): Promise<boolean> {
    const update = async () => this.inner.update(key, claim, settlement)
    // Once more at once: a success that is not stored when its claim lapses may be delivered again by a replica.
    return within(updateTimeoutMs, () => update().catch(update))
  }

  async get(key: string): Promise<LedgerEntry | undefined> {
    return within(timeoutMs, () => this.inner.get(key))
  }

  async unresolved(): Promise<LedgerEntry[]> {
    return within(timeoutMs, () => this.inner.unresolved())
  }

  usage(): LedgerUsage | undefined {
    return this.inner.usage?.()
  }
}
