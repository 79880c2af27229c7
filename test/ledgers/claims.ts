/** Claims and states for the tests of ledgers. */
import type { ClaimRequest, LedgerUpdate } from '../../src/settlement/ledger.ts'

export const settled: LedgerUpdate['settlement'] = {
  state: 'settled',
  transaction: '0x01',
  facilitator: 'one',
}
export const unresolved: LedgerUpdate['settlement'] = { state: 'unresolved', transaction: '0x02' }

/** The first claim of a payment of its own. */
export function newClaim(): ClaimRequest {
  const nonce = crypto.randomUUID()
  return {
    key: `eip3009|eip155:8453|${nonce}`,
    fingerprint: `fingerprint of ${nonce}`,
    claim: crypto.randomUUID(),
    leaseMs: 60_000,
    query: {
      method: 'eip3009',
      network: 'eip155:8453',
      asset: '0xAbCd',
      payer: '0xEf01',
      payTo: '0x2345',
      amount: '10000',
      nonce,
      validBefore: Math.floor(Date.now() / 1000) + 600,
    },
  }
}
