// The packed package as ES modules: its errors are upstream's, in both of upstream's builds, and the process ends by
// itself after stop().
import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join } from 'node:path'
import { FacilitatorResponseError } from '@x402/core/server'
import {
  AggregatorError,
  AllFacilitatorsFailedError,
  FacilitatorAggregator,
} from 'x402-facilitator-aggregator'
import { trackDelivery } from 'x402-facilitator-aggregator/delivery'
import { durableObjectLedger, SettlementLedgerObject } from 'x402-facilitator-aggregator/durable-object'
import { aggregatorFromEnv } from 'x402-facilitator-aggregator/env'
import { createGateway } from 'x402-facilitator-aggregator/http'
import { createFacilitatorConfig } from 'x402-facilitator-aggregator/node'
import { postgresLedger } from 'x402-facilitator-aggregator/postgres'
import { redisLedger } from 'x402-facilitator-aggregator/redis'
import { sqliteLedger } from 'x402-facilitator-aggregator/sqlite'

const options = { facilitators: [{ id: 'nobody', url: 'http://127.0.0.1:9' }], retries: 0, logger: false }
const aggregator = new FacilitatorAggregator(options)
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
await assert.rejects(fetch(`${url}/supported`, { headers: supported }))
assert(aggregatorFromEnv({}) instanceof FacilitatorAggregator)

// Ledgers, without the packages that they may need: a runtime without SQLite says what to do.
assert.throws(() => redisLedger({}), /client is none of redis/)
assert.throws(() => durableObjectLedger(), /expected the binding of SettlementLedgerObject/)
assert(new SettlementLedgerObject({ storage: {} }))
assert.throws(() => postgresLedger({}), /client: expected an object with query/)
const path = join(mkdtempSync(join(tmpdir(), 'x402-sqlite-')), 'x402.db')
await sqliteLedger({ path })
  .get('nothing')
  .then(
    entry => assert.equal(entry, undefined),
    ({ message }) => assert.match(message, /this runtime has no SQLite: .* npm install better-sqlite3/),
  )
rmSync(dirname(path), { recursive: true })

// A CommonJS copy beside it: each knows the other's errors as an AggregatorError.
const required = createRequire(import.meta.url)('x402-facilitator-aggregator')
const other = new required.FacilitatorAggregator(options)
const otherError = await other.getSupported().catch(thrown => thrown)
assert(otherError instanceof AggregatorError)
assert(error instanceof required.AggregatorError)
await other.stop()
