/** A ledger that must answer: one over a network may hang, and a payment must not hang with it. */
import pTimeout from 'p-timeout'
import type { Claim, ClaimRequest, LedgerEntry, SettlementLedger, SettlementState } from './ledger.ts'

/** Milliseconds that one call may take; several fit into the time by which a claim outlives its operation. */
const timeoutMs = 5_000

export class BoundedLedger implements SettlementLedger {
  constructor(private readonly inner: SettlementLedger) {}

  claim(request: ClaimRequest): Promise<Claim> {
    return bound(this.inner.claim(request))
  }

  update(key: string, claim: string, settlement: SettlementState): Promise<boolean> {
    return bound(this.inner.update(key, claim, settlement))
  }

  get(key: string): Promise<LedgerEntry | undefined> {
    return bound(this.inner.get(key))
  }

  unresolved(): Promise<LedgerEntry[]> {
    return bound(this.inner.unresolved())
  }
}

function bound<T>(work: Promise<T>): Promise<T> {
  return pTimeout(work, { milliseconds: timeoutMs, message: `no answer within ${timeoutMs} ms` })
}
