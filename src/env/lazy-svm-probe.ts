/** The probe for Solana, loaded with the first payment, where `RPC_URL_SOLANA` is set. */
import { connect } from '../chain/connect.ts'
import { messageOf } from '../observe/redact.ts'
import type { SettlementQuery } from '../payment/payment-key.ts'
import type { SettlementProbe } from '../settlement/probe.ts'
import type { ProbeAnswer } from '../settlement/probe-answer.ts'
import type { SvmClusterOptions } from '../svm/index.ts'

export class LazySvmProbe implements SettlementProbe {
  readonly connect = connect
  #probe: Promise<SettlementProbe> | undefined

  constructor(readonly chains: Readonly<Record<string, SvmClusterOptions>>) {}

  supports(network: string, method: SettlementQuery['method']): boolean {
    return method === 'svm' && network in this.chains
  }

  async ask(query: SettlementQuery, options: Parameters<SettlementProbe['ask']>[1]): Promise<ProbeAnswer> {
    try {
      return await (await this.load()).ask(query, options)
    } catch (error) {
      return { state: 'cannot-tell', reason: messageOf(error) }
    }
  }

  load(): Promise<SettlementProbe> {
    this.#probe ??= import('../svm/index.ts').then(svm => svm.svmSettlementProbe(this.chains))
    return this.#probe
  }
}
