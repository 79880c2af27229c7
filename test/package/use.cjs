// The packed package as CommonJS: its errors are upstream's, and the process ends by itself after stop().
const assert = require('node:assert/strict')
const { FacilitatorResponseError } = require('@x402/core/server')
const {
  AggregatorError,
  AllFacilitatorsFailedError,
  FacilitatorAggregator,
} = require('x402-facilitator-aggregator')

async function main() {
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'nobody', url: 'http://127.0.0.1:9' }],
    retries: 0,
  })
  const error = await aggregator.getSupported().catch(thrown => thrown)
  assert(error instanceof AllFacilitatorsFailedError)
  assert(error instanceof FacilitatorResponseError)
  assert(error instanceof AggregatorError)
  await aggregator.stop()
}

main()
