/** The settlements that may have been charged and were not delivered, for the seller. */
import type { Observer } from '../observe/observer.ts'
import { type Books, ledgerError, summarize } from './books.ts'
import type { SettlementEvents, UnresolvedSettlement } from './events.ts'
import type { Chains } from './probe.ts'

/** @throws {LedgerError} when the ledger does not answer */
export async function listUnresolved(
  books: Books,
  chains: Chains | undefined,
): Promise<UnresolvedSettlement[]> {
  try {
    const entries = await books.unresolved()
    return entries.map(entry => ({ ...summarize(entry), ...chains?.watcher.findings.get(entry.key) }))
  } catch (error) {
    throw ledgerError(error)
  }
}

/** Reports those that are left when the aggregator stops. */
export async function reportUnresolved(books: Books, observer: Observer<SettlementEvents>): Promise<void> {
  try {
    await books.flush()
    for (const left of (await books.unresolved()).map(summarize))
      observer.emit(
        'settlement:indeterminate',
        { ...left, attempts: [], isLeftAtStop: true },
        'error',
        event => `stopped with an unresolved settlement: ${event.key}`,
      )
  } catch (error) {
    books.failed(error)
  }
}
