/** Asks the facilitators now and then whether they are alive, so that payments need not find out. */
import { longAgo, now, setBackgroundTimeout } from '../runtime/clock.ts'
import type { Member } from './member.ts'

/** Real traffic stands in for a check, but not for ever: capabilities change too. */
const maxSkippedChecks = 10

export interface HealthCheckerOptions {
  /** Milliseconds between checks, give or take a tenth at random. */
  readonly intervalMs: number
  /**
   * `interval`: by a timer. `lazy`: beside a request, when the last check is older than `intervalMs`; for
   * runtimes that allow no timers between requests.
   */
  readonly mode: 'interval' | 'lazy'
}

export class HealthChecker {
  #timer: ReturnType<typeof setTimeout> | undefined
  #lastCheckAt = longAgo

  /** @param check asks one facilitator and takes the answer to where it counts */
  constructor(
    private readonly members: readonly Member[],
    private readonly check: (member: Member) => Promise<unknown>,
    private readonly options: HealthCheckerOptions,
  ) {}

  start(): void {
    if (this.options.mode === 'lazy' || this.#timer) return
    this.#schedule()
    if (this.members.some(member => member.enabled && !member.capabilities)) this.#checkDue()
  }

  stop(): void {
    clearTimeout(this.#timer)
    this.#timer = undefined
  }

  /** Called beside a request in lazy mode: checks when it is time. */
  runIfDue(): Promise<void> | undefined {
    return now() - this.#lastCheckAt < this.options.intervalMs ? undefined : this.#checkDue()
  }

  /** Asks every enabled facilitator now. */
  async checkAll(): Promise<void> {
    this.#lastCheckAt = now()
    await Promise.all(this.members.filter(member => member.enabled).map(this.check))
  }

  #schedule(): void {
    const jitter = 0.9 + Math.random() * 0.2
    this.#timer = setBackgroundTimeout(() => {
      this.#schedule()
      this.#checkDue()
    }, this.options.intervalMs * jitter)
  }

  async #checkDue(): Promise<void> {
    this.#lastCheckAt = now()
    const due = this.members.filter(
      member =>
        member.enabled &&
        (this.options.mode === 'interval' || now() - member.askedAt >= this.options.intervalMs),
    )
    await Promise.all(due.map(member => this.#checkUnlessProved(member)))
  }

  async #checkUnlessProved(member: Member): Promise<void> {
    if (this.#isProvedByTraffic(member)) member.proved()
    else await this.check(member)
  }

  #isProvedByTraffic(member: Member): boolean {
    const time = now()
    const { intervalMs } = this.options
    return (
      member.isHealthy &&
      time - member.lastPaymentAt < intervalMs &&
      time - member.capabilitiesAt < intervalMs * maxSkippedChecks
    )
  }
}
