/** Makes a probe of whatever reads a chain, for chains that no other entry point knows. */
import { connect } from '../chain/connect.ts'
import type { ChainReader, SettlementProbe } from '../settlement/probe.ts'

export type { SettlementQuery } from '../payment/payment-key.ts'
export type { ChainReader, DryRun, SettlementProbe, SignedPayment } from '../settlement/probe.ts'
export type { ProbeAnswer } from '../settlement/probe-answer.ts'

/**
 * A probe for `settlement.probes` that asks `reader`.
 *
 * @example
 * ```ts
 * const probe = settlementProbe({
 *   supports: network => network === 'stellar:pubnet',
 *   ask: async ({ nonce }) => ({ state: 'cannot-tell', reason: `nobody knows ${nonce}` }),
 * })
 * ```
 */
export function settlementProbe(reader: ChainReader): SettlementProbe {
  const { wouldAccept } = reader
  return {
    supports: (network, method) => reader.supports(network, method),
    ask: (query, options) => reader.ask(query, options),
    ...(wouldAccept && { wouldAccept: (...question) => wouldAccept.apply(reader, question) }),
    connect,
  }
}
