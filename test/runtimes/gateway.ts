/** A seller's gateways whose aggregators are made once and serve many requests, as on Workers and Edge. */
import type { Place } from './bed.ts'
import { aggregatorFromEnv, createGateway, evmSettlementProbe, FacilitatorAggregator } from './library.js'
import { setTraps } from './traps.ts'

export interface Gateways {
  fetch(request: Request): Response | Promise<Response>
}

/** To be called while modules are loaded: the constructors may use no more than loading may. */
export function openGateways(
  { facilitators, network, rpcUrl, chainId }: Place,
  waitUntil: (work: Promise<unknown>) => void,
): { gateways: Gateways; usedByConstructors: string[] } {
  const endTraps = setTraps()
  const settlement = { probes: [evmSettlementProbe({ [network]: { rpcUrl } })] }
  const healthCheck = { mode: 'lazy', intervalMs: 100 } as const
  const gateway = createGateway(
    new FacilitatorAggregator({ facilitators, settlement, healthCheck, waitUntil, logger: false }),
  )
  const unchecked = createGateway(
    new FacilitatorAggregator({ facilitators, settlement, healthCheck: false, logger: false }),
    { basePath: '/unchecked' },
  )
  aggregatorFromEnv({ FACILITATOR_1_URL: facilitators[0]?.url, [`RPC_URL_${chainId}`]: rpcUrl })
  return {
    gateways: {
      fetch(request) {
        const isUnchecked = new URL(request.url).pathname.startsWith('/unchecked/')
        return (isUnchecked ? unchecked : gateway).fetch(request)
      },
    },
    usedByConstructors: endTraps(),
  }
}
