// Every entry point as a seller's compiler sees it, with nothing skipped.
import type { FacilitatorClient } from '@x402/core/server'
import { type AggregatorEvents, FacilitatorAggregator } from 'x402-facilitator-aggregator'
import { trackDelivery } from 'x402-facilitator-aggregator/delivery'
import { durableObjectLedger, SettlementLedgerObject } from 'x402-facilitator-aggregator/durable-object'
import { aggregatorFromEnv } from 'x402-facilitator-aggregator/env'
import { evmSettlementProbe } from 'x402-facilitator-aggregator/evm'
import { createGateway, createStatusHandler } from 'x402-facilitator-aggregator/http'
import { known } from 'x402-facilitator-aggregator/known'
import { createFacilitatorConfig, listen } from 'x402-facilitator-aggregator/node'
import { type PostgresLedger, postgresLedger } from 'x402-facilitator-aggregator/postgres'
import { settlementProbe } from 'x402-facilitator-aggregator/probe'
import { type RedisClient, redisLedger } from 'x402-facilitator-aggregator/redis'
import { sqliteLedger } from 'x402-facilitator-aggregator/sqlite'
import { svmSettlementProbe } from 'x402-facilitator-aggregator/svm'
import { settlementLedgerConformance } from 'x402-facilitator-aggregator/testing'

const aggregator: FacilitatorClient & FacilitatorAggregator = new FacilitatorAggregator({
  facilitators: [known('payai'), { id: 'mine', url: 'https://facilitator.example' }],
  settlement: {
    probes: [
      evmSettlementProbe({ 'eip155:8453': { rpcUrl: 'https://node.example' } }),
      settlementProbe({
        supports: network => network === 'stellar:pubnet',
        ask: async () => ({ state: 'unspent', asOf: 0 }),
      }),
      svmSettlementProbe({ solana: { rpcUrl: 'https://node.example' } }),
    ],
  },
})
aggregator.on('failover', (event: AggregatorEvents['failover']) => event.from.toUpperCase())
// @ts-expect-error mistyped
new FacilitatorAggregator({ facilitators: [known('payai')], retires: 1 })

export const names: string[] = settlementLedgerConformance(() => {
  throw new Error('none')
}).map(({ name }) => name)
export const fromEnv: FacilitatorAggregator = aggregatorFromEnv({})
export const status: (request: Request) => Promise<Response> = createStatusHandler(aggregator)
export const fetched: (request: Request) => Promise<Response> = trackDelivery(aggregator).fetch(status)
export const config = async (): Promise<string> => (await createFacilitatorConfig(aggregator)).url
export const url = async (): Promise<string> => (await listen(createGateway(aggregator))).url
export const inRedis = (client: RedisClient) => redisLedger({ client })
export const inObjects = durableObjectLedger({ idFromName: name => name, get: () => ({ fetch }) })
export class Settlements extends SettlementLedgerObject {}
export const inPostgres: PostgresLedger = postgresLedger({ client: { query: async () => ({ rows: [] }) } })
export const durable = new FacilitatorAggregator({
  facilitators: [known('payai')],
  settlement: { ledger: sqliteLedger({ path: './x402.db' }) },
})
