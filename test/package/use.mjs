// The packed package as ES modules: its errors are upstream's, and the process ends by itself after stop().
import assert from 'node:assert/strict'
import { FacilitatorResponseError } from '@x402/core/server'
import {
  AggregatorError,
  AllFacilitatorsFailedError,
  FacilitatorAggregator,
} from 'x402-facilitator-aggregator'

const aggregator = new FacilitatorAggregator({
  facilitators: [{ id: 'nobody', url: 'http://127.0.0.1:9' }],
  retries: 0,
})
const error = await aggregator.getSupported().catch(thrown => thrown)
assert(error instanceof AllFacilitatorsFailedError)
assert(error instanceof FacilitatorResponseError)
assert(error instanceof AggregatorError)
await aggregator.stop()
