/** Where in Redis a payment is recorded. */
import type { SettlementQuery } from '../payment/payment-key.ts'

/**
 * In a cluster the payments are spread over so many hash slots. It must stay the same as long as there are entries: it is
 * part of their place.
 */
export const shardCount = 16

/** What the keys of a shard begin with; a script may use all of these. */
export type ShardBase = `${string}{${number}}:`

/**
 * Keys of this library name the payer, so that all his payments are in one shard, and their index is beside them: one
 * script reads or writes both, given the key alone. Keys without a payer are spread by the whole key.
 */
export function shardOfKey(key: string): number {
  const payer = key.split('|')[3]
  return shardOf(payer || key)
}

/** Where the open payments of a payer are indexed. */
export function shardOfPayer(payer: string): number {
  return shardOf(payer)
}

/** Equal for payments of one payer to one payee, in one token on one network; absent where nobody knows the payer. */
export function groupOf({ network, payer, payTo, asset }: SettlementQuery): string | undefined {
  if (!payer) return undefined
  const group = `${network}|${payer}|${payTo}|${asset}`
  return network.startsWith('eip155:') ? group.toLowerCase() : group
}

/** FNV-1a over what is the same in any case. */
function shardOf(text: string): number {
  let hash = 0x811c9dc5
  for (const character of text.toLowerCase())
    hash = Math.imul(hash ^ (character.codePointAt(0) ?? 0), 0x01000193) >>> 0
  return hash % shardCount
}
