/** The EVM probe, loaded with the first payment: viem is needed only where `RPC_URL_<chain id>` is set. */
import { connect } from '../chain/connect.ts'
import type { EvmChainOptions } from '../evm/index.ts'
import { messageOf } from '../observe/redact.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import type { DryRun, SettlementProbe, SignedPayment } from '../settlement/probe.ts'
import type { ProbeAnswer } from '../settlement/probe-answer.ts'

export class LazyEvmProbe implements SettlementProbe {
  readonly connect = connect
  #probe: Promise<SettlementProbe> | undefined

  constructor(readonly chains: Readonly<Record<string, EvmChainOptions>>) {}

  supports(network: string, method: SettlementQuery['method']): boolean {
    return (method === 'eip3009' || method === 'permit2') && network in this.chains
  }

  async ask(query: SettlementQuery, options: Parameters<SettlementProbe['ask']>[1]): Promise<ProbeAnswer> {
    try {
      return await (await this.load()).ask(query, options)
    } catch (error) {
      return { state: 'cannot-tell', reason: messageOf(error) }
    }
  }

  async wouldAccept(payment: SignedPayment, options: { readonly signal: AbortSignal }): Promise<DryRun> {
    const probe = await this.load().catch(() => undefined)
    return probe?.wouldAccept?.(payment, options) ?? 'cannot-tell'
  }

  /** @throws {Error} without viem */
  load(): Promise<SettlementProbe> {
    this.#probe ??= loadProbe(this.chains)
    return this.#probe
  }
}

async function loadProbe(chains: Readonly<Record<string, EvmChainOptions>>): Promise<SettlementProbe> {
  let evm: typeof import('../evm/index.ts')
  // Bundlers take an import that may fail for optional only inside a `try`.
  try {
    evm = await import('../evm/index.ts')
  } catch (cause) {
    throw new Error(
      'RPC_URL_<chain id> needs viem, and payments are not looked up on their chains: npm install viem',
      { cause },
    )
  }
  return evm.evmSettlementProbe(chains)
}
