/** Settles the payment of PAYLOAD in a process of its own, and prints how that went. */
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator, SettlementIndeterminateError } from '../../src/index.ts'

const { FACILITATORS = '', RPC_URL = '', PAYLOAD = '', NO_PROBE } = process.env
const payload = JSON.parse(PAYLOAD)
const aggregator = new FacilitatorAggregator({
  facilitators: JSON.parse(FACILITATORS),
  healthCheck: false,
  timeoutMs: { settle: 4_000 },
  deadlineMs: { settle: 5_000 },
  settlement: NO_PROBE
    ? {}
    : { probes: [evmSettlementProbe({ [payload.accepted.network]: { rpcUrl: RPC_URL } })] },
})
try {
  const { success } = await aggregator.settle(payload, payload.accepted)
  console.log(success ? 'success' : 'rejected')
} catch (error) {
  console.log(error instanceof SettlementIndeterminateError ? 'indeterminate' : 'failed')
}
await aggregator.stop()
