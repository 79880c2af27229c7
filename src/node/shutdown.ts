/** The end of a gateway: nothing in flight is lost, and what stays unresolved is said. */
import type { FacilitatorAggregator } from '../aggregator.ts'
import type { UnresolvedSettlement } from '../settlement/events.ts'
import type { GatewayServer } from './listen.ts'

export interface ShutdownOptions {
  /**
   * Milliseconds that requests in flight get to finish. What follows takes up to 4 s more: in all less than the 30 s
   * that Kubernetes gives a container. Docker gives 10 s: set 5000 there, or `docker stop --time 30`.
   * @default 25000
   */
  graceMs?: number
  /**
   * Called with each thing that happens, as a sentence.
   * @default console.error
   */
  log?: (message: string) => void
}

/** Milliseconds in which aborted requests get their answers, and in which the ledger is read. */
const lateMs = 2_000

/**
 * Stops accepting, finishes what is in flight, aborts what is not done after `graceMs`, stops the aggregator, and
 * reports each settlement that stays unresolved. With a ledger in memory those are lost with the process.
 */
export async function shutDown(
  server: GatewayServer,
  aggregator: FacilitatorAggregator,
  { graceMs = 25_000, log = console.error }: ShutdownOptions = {},
): Promise<void> {
  const closed = server.close()
  if (
    !(await isDoneWithin(
      graceMs,
      closed.then(() => aggregator.stop()),
    ))
  ) {
    log(`not everything was finished within ${graceMs} ms: aborting it`)
    await isDoneWithin(lateMs, Promise.all([aggregator.stop({ inFlight: 'abort' }), closed]))
    server.cut()
  }

  let unresolved: UnresolvedSettlement[] = []
  const reading = aggregator.getUnresolvedSettlements().then(settlements => {
    unresolved = settlements
  })
  const isRead = await isDoneWithin(lateMs, reading).catch(() => false)
  if (!isRead) log('the ledger does not answer: which settlements are unresolved is not known')
  const { isLedgerInMemory } = aggregator.getConfig()
  for (const settlement of unresolved) log(describe(settlement, isLedgerInMemory))
}

function describe(settlement: UnresolvedSettlement, isLost: boolean): string {
  const { key, amount, asset, network, payer = 'an unknown payer', transaction } = settlement
  const which = `${amount} of ${asset} on ${network} by ${payer}`
  const by = transaction === undefined ? '' : `, transaction ${transaction}`
  return isLost
    ? `lost with this process, as the ledger is in memory: ${which}${by}, key ${key}: it may have been charged; look ` +
        'it up, then deliver or refund'
    : `unresolved in the ledger: ${which}${by}: look it up before you deliver or refund, then close ${key}`
}

async function isDoneWithin(ms: number, work: Promise<unknown>): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined
  const late = new Promise<false>(resolve => {
    timer = setTimeout(resolve, ms, false)
  })
  try {
    return await Promise.race([work.then(() => true), late])
  } finally {
    clearTimeout(timer)
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
  const { log = console.error } = options
  let isShuttingDown = false
  const onSignal = (signal: NodeJS.Signals) => {
    if (isShuttingDown) process.exit(signal === 'SIGINT' ? 130 : 143)
    isShuttingDown = true
    log(`${signal}: finishing what is in flight; once more to exit at once`)
    shutDown(server, aggregator, options).then(
      () => process.exit(0),
      error => {
        log(`the shutdown failed: ${error}`)
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
