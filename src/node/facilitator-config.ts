/** The aggregator as `{ url, createAuthHeaders }`, which version 1 middleware takes as its facilitator. */
import { randomBytes } from 'node:crypto'
import type { FacilitatorAggregator } from '../aggregator.ts'
import { InvalidOptionsError } from '../errors.ts'
import { createGateway } from '../http/gateway.ts'
import { listen } from './listen.ts'

export interface FacilitatorConfigOptions {
  /**
   * Starts without a probe too. A buyer who was charged, though the facilitator's answer was lost, is then asked to pay
   * once more, and gets nothing for his first payment.
   * @default false
   */
  acceptLostPayments?: boolean
}

/** What `x402-express`, `x402-hono` and `x402-next` (1.x) take as their facilitator. */
export interface LoopbackFacilitatorConfig {
  url: `http://${string}`
  createAuthHeaders(): Promise<Record<'verify' | 'settle' | 'supported' | 'list', { Authorization: string }>>
}

/**
 * Makes the aggregator reachable for middleware that knows facilitators by URL only: at a free port of 127.0.0.1, for
 * who has a random token. It ends with `aggregator.stop()`, and does not keep the process alive.
 *
 * Version 1 middleware answers 402 to every error of a settle, an unknown outcome too: the aggregator must have a
 * probe, so that there are none.
 *
 * @throws {InvalidOptionsError} when the aggregator has no probe, unless `acceptLostPayments` is set
 * @throws {InvalidListenError} when no port can be had
 *
 * @example
 * ```ts
 * const facilitator = await createFacilitatorConfig(aggregator)
 * app.use(paymentMiddleware(payTo, routes, facilitator))
 * ```
 */
export async function createFacilitatorConfig(
  aggregator: FacilitatorAggregator,
  { acceptLostPayments = false }: FacilitatorConfigOptions = {},
): Promise<LoopbackFacilitatorConfig> {
  if (!acceptLostPayments && !aggregator.getConfig().hasProbe)
    throw new InvalidOptionsError([
      'settlement.probes is missing: version 1 middleware answers 402 to a settle in doubt, and a buyer who was charged ' +
        'pays again. Give a probe (RPC_URL_<chain id>, RPC_URL_SOLANA, evmSettlementProbe or svmSettlementProbe), or set acceptLostPayments of ' +
        'createFacilitatorConfig',
    ])
  const token = randomBytes(32).toString('base64url')
  const gateway = createGateway(aggregator, { tokens: [token], statusPath: false, rateLimit: false })
  const { url, server, close } = await listen(gateway, { port: 0 })
  server.unref()
  aggregator.once('stop', close)

  const headers = { Authorization: `Bearer ${token}` }
  return {
    url: url as `http://${string}`,
    createAuthHeaders: async () => ({
      verify: headers,
      settle: headers,
      supported: headers,
      list: headers,
    }),
  }
}
