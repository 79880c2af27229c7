/** The promises of the library, checked in whichever runtime evaluates this. */
import type { Case, Env, Result } from './case.ts'
import { abandonedCheck, abandonedSettle } from './cases/abandoned.ts'
import { circuit } from './cases/circuit.ts'
import { environment } from './cases/environment.ts'
import { events } from './cases/events.ts'
import { failover, failoverWithoutProbe } from './cases/failover.ts'
import { gateway } from './cases/gateway.ts'
import { indeterminate } from './cases/indeterminate.ts'
import { lazy, lazyWatch } from './cases/lazy.ts'
import { reconcileHang, reconcileReset } from './cases/reconcile.ts'
import { stop } from './cases/stop.ts'
import { timeout } from './cases/timeout.ts'
import { within } from './expect.ts'

export const cases: readonly Case[] = [
  failover,
  failoverWithoutProbe,
  timeout,
  circuit,
  lazy,
  lazyWatch,
  reconcileReset,
  reconcileHang,
  indeterminate,
  events,
  environment,
  gateway,
  abandonedCheck,
  abandonedSettle,
  stop,
]

const caseTimeoutMs = 30_000

/** One after the other, as they share the facilitators. */
export async function runAll(env: Env): Promise<Result[]> {
  const results: Result[] = []
  for (const one of cases) results.push(await runCase(one, env))
  return results
}

export async function runCase({ name, run }: Case, env: Env): Promise<Result> {
  const startedAt = Date.now()
  const ended = (error?: unknown): Result => {
    const durationMs = Date.now() - startedAt
    return error === undefined ? { name, durationMs } : { name, durationMs, error: describe(error) }
  }
  try {
    await within(caseTimeoutMs, name, run(env))
    return ended()
  } catch (error) {
    return ended(error)
  }
}

function describe(error: unknown): string {
  const { message, stack } = error as Partial<Error>
  if (message === undefined) return String(error)
  return stack?.includes(message) ? stack : `${message}\n${stack ?? ''}`
}
