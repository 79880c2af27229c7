/** The gateway that is soaked, in a process of its own: told what to use, it tells where it listens and what it holds. */
import { createGateway } from '../../src/http/index.ts'
import { FacilitatorAggregator, MemoryLedger, type SettlementProbe } from '../../src/index.ts'
import { listen, shutDown } from '../../src/node/index.ts'
import { settlementProbe } from '../../src/probe/index.ts'
import { payer } from './fuzz-payments.ts'

export interface GatewayTask {
  readonly facilitators: readonly string[]
  readonly node: string
  readonly tokens: readonly string[]
  /** Payments a second of one token that must pass; each is a verify and a settle. */
  readonly rate: number
  readonly ledgerEntries: number
}

export type GatewayMessage =
  | { readonly kind: 'listening'; readonly url: string }
  | { readonly kind: 'heap'; readonly bytes: number }
  | { readonly kind: 'ended'; readonly unresolved: number }

const send = (message: GatewayMessage) => process.send?.(message)

process.once('message', async ({ facilitators, node, tokens, rate, ledgerEntries }: GatewayTask) => {
  const aggregator = new FacilitatorAggregator({
    facilitators: facilitators.map((url, index) => ({ id: `f${index}`, url })),
    settlement: {
      ledger: new MemoryLedger({ maxEntries: ledgerEntries }),
      probes: [probeOf(node)],
      watchIntervalMs: 1_000,
    },
    healthCheck: { intervalMs: 2_000 },
    logLevel: 'warn',
  })
  const gateway = createGateway(aggregator, { tokens, rateLimit: { perSecond: 2 * rate, burst: 4 * rate } })
  const server = await listen(gateway, { port: 0 })
  process.on('message', async (ask: 'heap' | 'end') => {
    if (ask === 'heap') {
      globalThis.gc?.()
      send({ kind: 'heap', bytes: process.memoryUsage().heapUsed })
      return
    }
    await shutDown(server, aggregator, { graceMs: 5_000 })
    send({ kind: 'ended', unresolved: (await aggregator.getUnresolvedSettlements()).length })
    process.disconnect()
  })
  send({ kind: 'listening', url: server.url })
})

function probeOf(node: string): SettlementProbe {
  return settlementProbe({
    supports: () => true,
    async ask({ nonce }, { signal }) {
      const response = await fetch(`${node}/${nonce}`, { signal })
      const { transaction } = (await response.json()) as { transaction: string | null }
      const seconds = Date.now() / 1000
      if (transaction === null) return { state: 'unspent', asOf: Math.floor(seconds) }
      return { state: 'paid', transaction, payer, minedAt: seconds, asOf: seconds }
    },
  })
}
