/** The ledger's side of a reconciliation: the payments in one token to one payee. */
import { numberToHex } from 'viem'
import { foldAddress } from '../payment/address.ts'
import type { LedgerEntry, LedgerFilter, SettlementLedger } from '../settlement/ledger.ts'
import { ReconciliationError, reasonOf } from './error.ts'
import type { Arrival, Payee } from './transfers.ts'

/** Entries that are read together. */
const pageSize = 500

export class Records {
  constructor(
    private readonly ledger: Pick<SettlementLedger, 'list' | 'get'>,
    private readonly network: string,
    private readonly payee: Payee,
  ) {}

  /** The payments that were claimed first in this time: Unix ms, `until` excluded. */
  async between(from: number, until: number): Promise<LedgerEntry[]> {
    const entries: LedgerEntry[] = []
    let cursor: string | undefined
    do {
      const page = await this.#list({ from, until, limit: pageSize, cursor })
      entries.push(...page.entries.filter(entry => this.#isToPayee(entry)))
      cursor = page.cursor
    } while (cursor !== undefined)
    return entries
  }

  /** Unix ms since when the ledger remembers what was delivered; `undefined` where it remembers nothing of that kind. */
  async oldestDelivery(): Promise<number | undefined> {
    return (await this.#list({ states: ['settled'], limit: 1 })).entries[0]?.since
  }

  /** The key of the payment that a transfer was made for, as its authorization has it. */
  keyOf({ origin, transfer: { payer } }: Arrival): string | undefined {
    if (origin.kind !== 'authorization') return undefined
    const { method, nonce } = origin
    return method === 'eip3009'
      ? `eip3009|${this.network}|${this.payee.asset}|${payer}|${numberToHex(nonce, { size: 32 })}`
      : `${method}|${this.network}||${payer}|${nonce}`
  }

  /** The payment that a transfer was made for, by its authorization. */
  async of(arrival: Arrival): Promise<LedgerEntry | undefined> {
    const key = this.keyOf(arrival)
    const entry = key === undefined ? undefined : await this.ledger.get(key).catch(failed)
    return entry && this.#isToPayee(entry) ? entry : undefined
  }

  #list(filter: LedgerFilter) {
    return this.ledger.list(filter).catch(failed)
  }

  #isToPayee({ query: { network, asset, payTo } }: LedgerEntry): boolean {
    return (
      network === this.network &&
      foldAddress(asset) === this.payee.asset &&
      foldAddress(payTo) === this.payee.payTo
    )
  }
}

function failed(cause: unknown): never {
  throw new ReconciliationError(`the ledger failed: ${reasonOf(cause)}`)
}
