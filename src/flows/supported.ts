/** What the pool advertises: asked from each facilitator, united, cached, and announced when it changes. */
import type { SupportedResponse } from '@x402/core/types'
import type { AttemptReport } from '../observe/attempt-report.ts'
import type { Member } from '../pool/member.ts'
import { now } from '../runtime/clock.ts'
import { runtimeWithoutTimers } from '../runtime/without-timers.ts'
import { allFailed } from './failure.ts'
import { type Context, Run } from './run.ts'

export class Supported {
  /** Keeps kinds that only silent facilitators offer; set while an upstream server is bound. */
  keepSilent = false
  readonly #asking = new Map<Member, Promise<readonly AttemptReport[]>>()
  #announced: string | undefined

  /** @param maxAgeMs milliseconds after which an answer is refreshed, beside the call that notices it */
  constructor(
    private readonly context: Context,
    private readonly maxAgeMs: number,
  ) {}

  /**
   * The cached union. Waits only for facilitators that were never asked.
   *
   * @param inBackground takes the refresh of stale answers
   * @throws {AllFacilitatorsFailedError} when no facilitator has ever answered
   */
  async get(inBackground: (work: Promise<unknown>) => void): Promise<SupportedResponse> {
    const inService = this.context.pool.members.filter(member => member.isInService)
    const isAnyKnown = inService.some(member => member.capabilities !== undefined)
    const awaited = inService.filter(
      member => member.capabilities === undefined && (!isAnyKnown || member.lane('supported').failures === 0),
    )
    const oldest = now() - this.maxAgeMs
    const stale = inService.filter(member => member.askedAt < oldest && !awaited.includes(member))
    if (stale.length > 0) inBackground(Promise.all(stale.map(member => this.refresh(member))))

    const reports = (await Promise.all(awaited.map(member => this.refresh(member)))).flat()
    const supported = this.#announce()
    if (supported.kinds.length === 0)
      return allFailed({
        context: this.context,
        operation: 'supported',
        reports,
        isAborted: this.context.alarms.signal.aborted,
      })
    return structuredClone(supported)
  }

  /** Asks one facilitator what it supports, unless it is being asked already. */
  refresh(member: Member): Promise<readonly AttemptReport[]> {
    // Work that ends with the request that began it must not be waited for in another.
    if (runtimeWithoutTimers() !== undefined) return this.#ask(member)
    let asking = this.#asking.get(member)
    if (asking === undefined) {
      asking = this.#ask(member).finally(() => this.#asking.delete(member))
      this.#asking.set(member, asking)
    }
    return asking
  }

  /** Emits `supported:change` if what the pool advertises is not what `get` has told before. */
  noticeChange(): void {
    if (this.#announced !== undefined) this.#announce()
  }

  /** What the pool advertises now; what it last did while every facilitator in service is silent. */
  #announce(): SupportedResponse {
    const { pool, observer } = this.context
    const answering = pool.supported(this.keepSilent)
    const supported = answering.kinds.length > 0 ? answering : pool.supported(true)
    const print = printOf(supported)
    const before = this.#announced
    if (before !== undefined || supported.kinds.length > 0) this.#announced = print
    if (before === undefined || before === print) return supported
    observer.tell(
      'supported:change',
      { supported: structuredClone(supported) },
      'info',
      event => `the pool now advertises ${event.supported.kinds.length} kinds of payment`,
    )
    return supported
  }

  async #ask(member: Member): Promise<readonly AttemptReport[]> {
    member.asked()
    const route = { preferred: [member], lastResort: [] }
    const run = new Run(this.context, 'supported', {}, route)
    const next = run.next()
    const outcome = next && (await run.ask(next))
    if (outcome?.kind === 'answered') {
      this.context.pool.learn(member, outcome.response)
      for (const { operation, circuit } of member.lanes()) if (operation !== 'supported') circuit.openDoor()
    }
    this.noticeChange()
    return run.reports
  }
}

/** Equal for equal sets of kinds: arrays are compared as sets, objects whatever the order of their keys. */
function printOf(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(printOf).sort()}]`
  if (typeof value !== 'object' || value === null)
    return typeof value === 'string' ? JSON.stringify(value) : `${value}`
  return `{${Object.entries(value)
    .map(([name, inner]) => `${JSON.stringify(name)}:${printOf(inner)}`)
    .sort()}}`
}
