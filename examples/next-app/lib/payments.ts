/** What the routes share: one aggregator, so that the status route shows what the paid routes do. */
import { x402ResourceServer } from '@x402/core/server'
import { ExactEvmScheme } from '@x402/evm/exact/server'
import { FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { evmSettlementProbe } from 'x402-facilitator-aggregator/evm'

export const network = 'eip155:84532' // Base Sepolia
const rpcUrl = process.env.RPC_URL_84532 ?? 'https://sepolia.base.org'

export const aggregator = new FacilitatorAggregator({
  facilitators: [
    { id: 'first', url: process.env.FACILITATOR_1_URL ?? 'https://facilitator.x402.rs' },
    { id: 'second', url: process.env.FACILITATOR_2_URL ?? 'https://x402.org/facilitator' },
  ],
  // Asks the chain when a facilitator's answer to a settle is lost, so that no payment is.
  settlement: { probes: [evmSettlementProbe({ [network]: { rpcUrl } })] },
})

export const resourceServer = new x402ResourceServer(aggregator).register(network, new ExactEvmScheme())
aggregator.bindResourceServer(resourceServer)
