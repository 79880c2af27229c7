// The built package: what the suite is about is dist/, as users get it.
export { FacilitatorResponseError } from '@x402/core/server'
export { aggregatorFromEnv } from '../../dist/env.js'
export { evmSettlementProbe } from '../../dist/evm.js'
export { createGateway } from '../../dist/http.js'
export {
  AggregatorStoppedError,
  FacilitatorAggregator,
  SettlementIndeterminateError,
} from '../../dist/index.js'
