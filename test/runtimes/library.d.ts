// The types come from the sources, so that the compiler needs no build.
export { FacilitatorResponseError } from '@x402/core/server'
export { aggregatorFromEnv } from '../../src/env/index.ts'
export { evmSettlementProbe } from '../../src/evm/index.ts'
export { createGateway } from '../../src/http/index.ts'
export * from '../../src/index.ts'
