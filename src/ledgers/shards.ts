/** In which part of a ledger a payment is recorded, where its parts are on several machines. */
import type { SettlementQuery } from '../payment/payment-key.ts'

/** Where the payments of a ledger are: by the key alone, and by the payer. */
export interface Shards {
  readonly count: number
  ofKey(key: string): number
  /** Those in which a payer's payments may be. */
  ofPayer(payer: string): readonly number[]
}

/**
 * Keys of this library name the payer, so that all his payments are in one shard and their index is beside them: one call
 * reads or writes both, given the key alone. Those without a payer are spread by the whole key; keys of another form are
 * in the first shard, which is asked for each payer too.
 *
 * @param count must stay the same as long as there are entries
 */
export function shards(count: number): Shards {
  return {
    count,
    ofKey(key) {
      const parts = key.split('|')
      return parts.length === 5 ? hash(parts[3] || key) % count : 0
    },
    ofPayer: payer => [...new Set([hash(payer) % count, 0])],
  }
}

/** Equal for payments of one payer to one payee, in one token on one network; absent where nobody knows the payer. */
export function groupOf({ network, payer, payTo, asset }: SettlementQuery): string | undefined {
  if (!payer) return undefined
  const group = `${network}|${payer}|${payTo}|${asset}`
  return network.startsWith('eip155:') ? group.toLowerCase() : group
}

/** FNV-1a over what is the same in any case. */
function hash(text: string): number {
  let hashed = 0x811c9dc5
  for (const character of text.toLowerCase())
    hashed = Math.imul(hashed ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0
  return hashed
}

/** Runs for each shard at the same time. */
export function forEachShard<T>({ count }: Shards, work: (shard: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: count }, (_, shard) => work(shard)))
}
