// The packed package as CommonJS: its errors are upstream's, and the process ends by itself after stop().
const assert = require('node:assert/strict')
const { FacilitatorResponseError } = require('@x402/core/server')
const {
  AggregatorError,
  AllFacilitatorsFailedError,
  FacilitatorAggregator,
} = require('x402-facilitator-aggregator')
const { trackDelivery } = require('x402-facilitator-aggregator/delivery')
const { aggregatorFromEnv } = require('x402-facilitator-aggregator/env')
const { createGateway } = require('x402-facilitator-aggregator/http')
const { createFacilitatorConfig } = require('x402-facilitator-aggregator/node')
const { durableObjectLedger } = require('x402-facilitator-aggregator/durable-object')
const { postgresLedger } = require('x402-facilitator-aggregator/postgres')
const { redisLedger } = require('x402-facilitator-aggregator/redis')
const { sqliteLedger } = require('x402-facilitator-aggregator/sqlite')

async function main() {
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'nobody', url: 'http://127.0.0.1:9' }],
    retries: 0,
  })
  const error = await aggregator.getSupported().catch(thrown => thrown)
  assert(error instanceof AllFacilitatorsFailedError)
  assert(error instanceof FacilitatorResponseError)
  assert(error instanceof AggregatorError)

  const request = new Request('http://gateway.example/supported')
  assert.equal((await createGateway(aggregator).fetch(request)).status, 502)
  const answer = new Response('goods')
  assert.equal(await trackDelivery(aggregator).fetch(() => answer)(request), answer)
  const { url, createAuthHeaders } = await createFacilitatorConfig(aggregator, { acceptLostPayments: true })
  const { supported } = await createAuthHeaders()
  assert.equal((await fetch(`${url}/supported`, { headers: supported })).status, 502)
  await aggregator.stop()
  assert.throws(() => redisLedger({}), /client is none of redis/)
  assert.throws(() => durableObjectLedger(), /expected the binding of SettlementLedgerObject/)
  assert.throws(() => postgresLedger({}), /client: expected an object with query/)
  assert.throws(() => sqliteLedger({}), /path: expected the path of a file/)
  assert(aggregatorFromEnv({}) instanceof FacilitatorAggregator)
}

main()
