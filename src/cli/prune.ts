/** Forgets old payments, so that a ledger does not grow for ever. */
import type { SettlementLedger } from '../settlement/ledger.ts'

export const dayMs = 24 * 60 * 60 * 1000

/**
 * Forgets what is over and older than `days`, now and every day; does not keep the process alive.
 *
 * @returns ends it
 */
export function pruneDaily(
  ledger: SettlementLedger,
  days: number,
  log: (message: string) => void,
): () => void {
  const prune = async () => {
    try {
      const forgotten = await pruneAll(ledger, days * dayMs)
      if (forgotten > 0) log(`forgot ${forgotten} payments that are over and older than ${days} days`)
    } catch (error) {
      log(`old payments could not be forgotten: ${(error as Error).message}`)
    }
  }
  void prune()
  const timer = setInterval(() => void prune(), dayMs)
  timer.unref()
  return () => clearInterval(timer)
}

/** A ledger may forget a part at a time, to hold up nobody for long. */
async function pruneAll(ledger: SettlementLedger, olderThanMs: number): Promise<number> {
  let forgotten = 0
  for (;;) {
    const part = (await ledger.prune?.({ olderThanMs })) ?? 0
    if (part === 0) return forgotten
    forgotten += part
  }
}
