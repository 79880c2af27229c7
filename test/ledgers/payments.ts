/** Payments for the tests of ledgers. */
import type { ClaimRequest, SettlementLedger } from '../../src/index.ts'

/** A claim of a payment that nobody has seen; its key names its payer, as all keys of this library do. */
export function newClaim(query: Partial<ClaimRequest['query']> = {}): ClaimRequest {
  const nonce = `0x${crypto.randomUUID().replaceAll('-', '').padStart(64, '0')}`
  const asset = '0x0000000000000000000000000000000000000001'
  const payer = query.payer ?? `0x${crypto.randomUUID().replaceAll('-', '').padStart(40, 'a')}`
  return {
    key: `eip3009|eip155:84532|${asset}|${payer.toLowerCase()}|${nonce}`,
    fingerprint: `fingerprint of ${nonce}`,
    claim: crypto.randomUUID(),
    leaseMs: 60_000,
    query: {
      method: 'eip3009',
      network: 'eip155:84532',
      asset,
      payer,
      payTo: '0x0000000000000000000000000000000000000003',
      amount: '10000',
      nonce,
      validBefore: Math.floor(Date.now() / 1000) + 600,
      ...query,
    },
  }
}

export const settled = { state: 'settled', transaction: '0x01', facilitator: 'payai' } as const

/** Every entry of a ledger, page by page. */
export async function all(
  ledger: SettlementLedger,
  filter: Omit<Parameters<SettlementLedger['list']>[0], 'limit' | 'cursor'> = {},
  limit = 10,
) {
  const entries = []
  let cursor: string | undefined
  do {
    const page = await ledger.list({ ...filter, limit, cursor })
    entries.push(...page.entries)
    cursor = page.cursor
  } while (cursor !== undefined)
  return entries
}
