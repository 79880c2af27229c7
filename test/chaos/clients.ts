/** What stands between the seller and the facilitators. */
import type { FacilitatorClient } from '@x402/core/server'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import {
  type AggregatorOptions,
  FacilitatorAggregator,
  type FacilitatorOptions,
  type SettlementProbe,
} from '../../src/index.ts'
import type { TestFacilitator } from '../bed/facilitator.ts'
import { naiveFallback } from '../bed/naive-fallback.ts'
import type { Bed } from './scenario.ts'

const settleTimeoutMs = 6_000
/** A shorter patience than the defaults, so that cells end soon. */
const impatient = { failoverAfterMs: 3_000, probeAfterMs: 1_500 }
/** What a facilitator says counts before what the chain would have said unasked. */
export const answersFirst = { failoverAfterMs: settleTimeoutMs, probeAfterMs: settleTimeoutMs }

type ClientOptions = Pick<AggregatorOptions, 'settlement' | 'deadlineMs'>

/** The aggregator over these facilitators, with a probe where the client has one. */
export function aggregatorOver(
  bed: Pick<Bed, 'chain' | 'client'>,
  facilitators: readonly FacilitatorOptions[],
  { settlement, ...options }: ClientOptions = {},
): FacilitatorAggregator {
  return new FacilitatorAggregator({
    facilitators,
    timeoutMs: { settle: settleTimeoutMs },
    ...options,
    settlement: { probes: probesOf(bed), ...impatient, ...settlement },
    logger: false,
    logLevel: 'error',
  })
}

/** The aggregator with every time as it is by default. */
export function patientAggregatorOver(
  bed: Pick<Bed, 'chain' | 'client'>,
  facilitators: readonly FacilitatorOptions[],
): FacilitatorAggregator {
  return new FacilitatorAggregator({ facilitators, settlement: { probes: probesOf(bed) }, logger: false })
}

export function naiveOver(pool: readonly TestFacilitator[]): FacilitatorClient {
  return naiveFallback(
    pool.map(({ url }) => url),
    settleTimeoutMs,
  )
}

export function probesOf({ chain, client }: Pick<Bed, 'chain' | 'client'>): SettlementProbe[] {
  return client === 'with probe' ? [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })] : []
}
