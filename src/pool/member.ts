/** One facilitator of the pool: its client, its limits, and what is known of its health and abilities. */

import type { FacilitatorClientLike, SupportedAnswer } from '../facilitator/client.ts'
import type { Outcome } from '../facilitator/outcome.ts'
import { type AttemptReport, forEachOperation, type Operation } from '../observe/attempt-report.ts'
import { MemberStatistics } from '../observe/statistics.ts'
import type { Payment } from '../payment/payment.ts'
import { longAgo, now } from '../runtime/clock.ts'
import { Capabilities } from './capabilities.ts'
import { Circuit, type CircuitChange, type CircuitOptions } from './circuit.ts'

/** Lanes per operation that are remembered: schemes and networks may come from outside, so their number is bounded. */
const maxLanes = 256

export interface MemberOptions {
  readonly id: string
  /** Absent for a facilitator given by a client object. */
  readonly url: string | undefined
  readonly priority: number
  readonly weight: number
  readonly enabled: boolean
  readonly client: FacilitatorClientLike
  readonly timeoutMs: Readonly<Record<Operation, number>>
  readonly retries: number
}

export interface Lane {
  readonly operation: Operation
  /** Absent for `supported` and `list`, as is `network`. */
  readonly scheme: string | undefined
  readonly network: string | undefined
  readonly circuit: Circuit
}

/** Its fields are written by its own methods alone, which say what has happened. */
export class Member {
  readonly id: string
  readonly statistics = new MemberStatistics()
  enabled: boolean
  /** It claimed a success that the chain does not know. */
  isQuarantined = false
  capabilities: Capabilities | undefined
  #isRefused = false
  lastSuccessfulCheck: Date | undefined
  /** Monotonic time (ms) of the last verify or settle that spoke for the facilitator's health. */
  lastPaymentAt = longAgo
  /** Monotonic time (ms) of the last answer to `supported`. */
  capabilitiesAt = longAgo
  /** Monotonic time (ms) at which it was last asked what it supports. */
  askedAt = longAgo

  readonly #lanes = forEachOperation(() => new Map<string | undefined, Lane>())

  constructor(
    readonly options: MemberOptions,
    private readonly circuitOptions: CircuitOptions,
    private readonly onLaneChange: (member: Member, change: CircuitChange) => void,
  ) {
    this.id = options.id
    this.enabled = options.enabled
  }

  /** Takes what an attempt has shown; `spoke` when it speaks for the facilitator's health. */
  recorded(report: AttemptReport, spoke: boolean): void {
    this.statistics.record(report, spoke)
    if (spoke && (report.operation === 'verify' || report.operation === 'settle')) this.lastPaymentAt = now()
  }

  /** @returns whether it refuses our credentials, and has not before */
  refusesNow(outcome: Outcome): boolean {
    const isRefusal = outcome.kind === 'declined' && outcome.cause === 'credentials'
    const isNew = isRefusal && !this.#isRefused
    if (isRefusal || outcome.kind === 'answered') this.#isRefused = isRefusal
    return isNew
  }

  /** It is being asked what it supports. */
  asked(): void {
    this.askedAt = now()
  }

  /** It has answered what it supports. */
  learned(answer: SupportedAnswer): void {
    this.capabilities = new Capabilities(answer, this.capabilities)
    this.capabilitiesAt = now()
    this.proved()
  }

  /** It has answered a health check, or traffic has stood in for one. */
  proved(): void {
    this.lastSuccessfulCheck = new Date()
  }

  quarantine(): void {
    this.isQuarantined = true
  }

  /** Enabling ends a quarantine too. */
  setEnabled(enabled: boolean): void {
    this.enabled = enabled
    if (enabled) this.isQuarantined = false
  }

  /** The circuit of (operation, scheme, network) at this facilitator, from its first attempt on. */
  circuit(operation: Operation, kindKey?: string): Circuit | undefined {
    return this.#lanes[operation].get(kindKey)?.circuit
  }

  /** Whether attempts on this lane come after those at others. */
  isTroubled(operation: Operation, kindKey: string | undefined, now: number): boolean {
    return this.circuit(operation, kindKey)?.isAvailable(now) === false
  }

  /** The circuit of an attempt that begins. */
  lane(operation: Operation, kind?: Pick<Payment, 'scheme' | 'network' | 'kindKey'>): Circuit {
    const known = this.circuit(operation, kind?.kindKey)
    if (known) return known
    const lane = { operation, scheme: kind?.scheme, network: kind?.network }
    const circuit = new Circuit(this.circuitOptions, (from, to, consecutiveFailures) =>
      this.onLaneChange(this, { facilitator: this.id, ...lane, from, to, consecutiveFailures }),
    )
    const lanes = this.#lanes[operation]
    // A lane without failures, or of what it does not support, gives way. Where there is none, the newcomer is not remembered.
    const hasRoom =
      lanes.size < maxLanes ||
      [...lanes].some(
        ([key, lane]) =>
          (!lane.circuit.failures || this.capabilities?.supports(`${key}`) === false) && lanes.delete(key),
      )
    if (hasRoom) lanes.set(kind?.kindKey, { ...lane, circuit })
    return circuit
  }

  /** Every lane that was used. */
  lanes(): Lane[] {
    return Object.values(this.#lanes).flatMap(lanes => [...lanes.values()])
  }

  /** Whether it may be asked at all. */
  get isInService(): boolean {
    return this.enabled && !this.isQuarantined
  }

  /** Healthy: not quarantined, and no lane's circuit is open. */
  get isHealthy(): boolean {
    return !this.isQuarantined && this.lanes().every(({ circuit }) => circuit.state !== 'open')
  }
}
