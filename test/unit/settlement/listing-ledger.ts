/** A ledger that replicas share, and that finds what was not delivered by its payer. */
import {
  type ClaimRequest,
  type LedgerEntry,
  MemoryLedger,
  type SettlementQuery,
} from '../../../src/index.ts'
import { isUndelivered } from '../../../src/settlement/ledger.ts'

export class ListingLedger extends MemoryLedger {
  readonly #keys = new Set<string>()

  override async claim(request: ClaimRequest) {
    this.#keys.add(request.key)
    return super.claim(request)
  }

  async entries(): Promise<LedgerEntry[]> {
    const entries = await Promise.all([...this.#keys].map(key => this.get(key)))
    return entries.filter(entry => entry !== undefined)
  }

  async undelivered(wanted: SettlementQuery): Promise<LedgerEntry[]> {
    const party = ({ payer, network, payTo, asset }: SettlementQuery) => `${[payer, network, payTo, asset]}`
    const entries = await this.entries()
    return entries.filter(entry => isUndelivered(entry) && party(entry.query) === party(wanted))
  }
}
