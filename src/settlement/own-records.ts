/** What this process has concluded and a ledger may not remember: it could not store it, or may lose it. */
import { setBounded } from '../runtime/bounded-map.ts'
import type { LedgerEntry } from './ledger.ts'

const maxRecords = 10_000

interface OwnRecord {
  readonly entry: LedgerEntry
  readonly claim: string
}

export class OwnRecords {
  readonly #records = new Map<string, OwnRecord>()

  get(key: string): LedgerEntry | undefined {
    return this.#records.get(key)?.entry
  }

  all(): OwnRecord[] {
    return [...this.#records.values()]
  }

  /** The oldest gives way when there are too many. */
  keep(entry: LedgerEntry, claim: string): void {
    setBounded(this.#records, entry.key, { entry, claim }, maxRecords)
  }

  forget(key: string): void {
    this.#records.delete(key)
  }
}
