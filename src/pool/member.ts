/** One facilitator of the pool: its client, its limits, and what is known of its health and abilities. */
import type { FacilitatorClientLike } from '../facilitator/client.ts'
import type { Operation } from '../facilitator/outcome.ts'
import type { CircuitChange } from '../observe/events.ts'
import { MemberStatistics } from '../observe/statistics.ts'
import type { Payment } from '../payment.ts'
import type { Capabilities } from './capabilities.ts'
import { Circuit, type CircuitOptions } from './circuit.ts'

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

export class Member {
  readonly id: string
  readonly statistics = new MemberStatistics()
  #enabled: boolean
  #isQuarantined = false
  capabilities: Capabilities | undefined
  /** Whether it refused our credentials when it was last asked. */
  hasCredentialTrouble = false
  /** When it last answered a health check, or traffic stood in for one. */
  lastSuccessfulCheck: Date | undefined
  /** Monotonic time (ms) of the last verify or settle that spoke for the facilitator's health. */
  lastPaymentAt = Number.NEGATIVE_INFINITY
  /** Monotonic time (ms) of the last answer to `supported`. */
  capabilitiesAt = Number.NEGATIVE_INFINITY
  /** Monotonic time (ms) at which it was last asked what it supports. */
  askedAt = Number.NEGATIVE_INFINITY

  readonly #lanes: Record<Operation, Map<string | undefined, Lane>> = {
    verify: new Map(),
    settle: new Map(),
    supported: new Map(),
    list: new Map(),
  }

  constructor(
    readonly options: MemberOptions,
    private readonly circuit: CircuitOptions,
    private readonly onLaneChange: (member: Member, change: CircuitChange) => void,
  ) {
    this.id = options.id
    this.#enabled = options.enabled
  }

  get enabled(): boolean {
    return this.#enabled
  }

  /** It claimed a success that the chain does not know. */
  get isQuarantined(): boolean {
    return this.#isQuarantined
  }

  quarantine(): void {
    this.#isQuarantined = true
  }

  /** Enabling ends a quarantine too. */
  setEnabled(enabled: boolean): void {
    this.#enabled = enabled
    if (enabled) this.#isQuarantined = false
  }

  /** The circuit of (operation, scheme, network) at this facilitator. */
  lane(operation: Operation, kind?: Pick<Payment, 'scheme' | 'network' | 'kindKey'>): Circuit {
    const lanes = this.#lanes[operation]
    const known = lanes.get(kind?.kindKey)
    if (known !== undefined) return known.circuit
    if (lanes.size >= maxLanes) lanes.delete(lanes.keys().next().value)
    const lane = { operation, scheme: kind?.scheme, network: kind?.network }
    const circuit = new Circuit(this.circuit, (from, to, consecutiveFailures) =>
      this.onLaneChange(this, { facilitator: this.id, ...lane, from, to, consecutiveFailures }),
    )
    lanes.set(kind?.kindKey, { ...lane, circuit })
    return circuit
  }

  /** Every lane that was used. */
  lanes(): Lane[] {
    return Object.values(this.#lanes).flatMap(lanes => [...lanes.values()])
  }

  /** Whether it may be asked at all. */
  get isInService(): boolean {
    return this.#enabled && !this.#isQuarantined
  }

  /** Healthy: not quarantined, and no lane's circuit is open. */
  get isHealthy(): boolean {
    return !this.#isQuarantined && this.lanes().every(({ circuit }) => circuit.state !== 'open')
  }
}
