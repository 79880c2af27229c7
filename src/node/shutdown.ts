/** The end of a gateway: nothing in flight is lost, and what stays unresolved is said. */
import type { FacilitatorAggregator } from '../aggregator.ts'
import type { GatewayServer } from './listen.ts'

export interface ShutdownOptions {
  /**
   * Milliseconds that requests in flight get to finish.
   * @default 30000
   */
  graceMs?: number
  /** Called with each thing that happens, as a sentence. */
  log?: (message: string) => void
}

/** Stops accepting, finishes what is in flight, aborts what is not done after `graceMs`, and stops the aggregator. */
export async function shutDown(
  server: GatewayServer,
  aggregator: FacilitatorAggregator,
  { graceMs = 30_000, log = () => {} }: ShutdownOptions = {},
): Promise<void> {
  const closed = server.close()
  const stopped = closed.then(() => aggregator.stop())
  let timer: NodeJS.Timeout | undefined
  const expired = new Promise<'expired'>(resolve => {
    timer = setTimeout(resolve, graceMs, 'expired')
  })
  if ((await Promise.race([stopped, expired])) === 'expired') {
    log(`not everything was finished within ${graceMs} ms: aborting it`)
    await aggregator.stop({ inFlight: 'abort' })
    // The aborted requests get their answers before their connections are cut.
    await Promise.race([closed, new Promise(resolve => setTimeout(resolve, 1_000))])
    server.cut()
  }
  clearTimeout(timer)
  for (const left of await aggregator.getUnresolvedSettlements()) {
    const { key, amount, asset, network, payer = 'an unknown payer', transaction } = left
    log(
      `unresolved: ${amount} of ${asset} on ${network} by ${payer}` +
        `${transaction === undefined ? '' : `, transaction ${transaction}`}: look it up before you deliver or refund, ` +
        `then close ${key}`,
    )
  }
}

/**
 * Shuts down on SIGTERM and SIGINT, then exits with code 0; a second signal exits at once.
 *
 * @returns ends the watch for signals
 */
export function shutDownOnSignals(
  server: GatewayServer,
  aggregator: FacilitatorAggregator,
  options: ShutdownOptions = {},
): () => void {
  let isShuttingDown = false
  const onSignal = (signal: NodeJS.Signals) => {
    if (isShuttingDown) process.exit(signal === 'SIGINT' ? 130 : 143)
    isShuttingDown = true
    options.log?.(`${signal}: finishing what is in flight; once more to exit at once`)
    shutDown(server, aggregator, options).then(
      () => process.exit(0),
      error => {
        options.log?.(`the shutdown failed: ${error}`)
        process.exit(1)
      },
    )
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)
  return () => {
    process.off('SIGTERM', onSignal)
    process.off('SIGINT', onSignal)
  }
}
