/** One facilitator of the pool: its client, its limits, and what is known of its health and abilities. */
import type { FacilitatorClientLike } from '../facilitator/client.ts'
import type { Operation } from '../facilitator/outcome.ts'
import type { CircuitChange } from '../observe/events.ts'
import { MemberStatistics } from '../observe/statistics.ts'
import type { Capabilities } from './capabilities.ts'
import { Circuit, type CircuitOptions } from './circuit.ts'

/** Lanes per operation that are remembered: networks may come from outside, so their number is bounded. */
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

export class Member {
  readonly id: string
  readonly statistics = new MemberStatistics()
  enabled: boolean
  /** It claimed a success that the chain does not know. */
  isQuarantined = false
  capabilities: Capabilities | undefined
  /** Whether it refused our credentials when it was last asked. */
  hasCredentialTrouble = false
  /** Wall-clock time (ms) of the last answer to a health check, or of the traffic that stood in for one. */
  lastSuccessfulCheck: number | undefined
  /** Monotonic time (ms) of the last verify or settle that spoke for the facilitator's health. */
  lastPaymentAt = Number.NEGATIVE_INFINITY
  /** Monotonic time (ms) of the last answer to `supported`. */
  capabilitiesAt = Number.NEGATIVE_INFINITY
  /** Monotonic time (ms) at which it was last asked what it supports. */
  askedAt = Number.NEGATIVE_INFINITY

  readonly #lanes: Record<Operation, Map<string, Circuit>> = {
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
    this.enabled = options.enabled
  }

  /** The circuit of (operation, network) at this facilitator. */
  lane(operation: Operation, network = ''): Circuit {
    const lanes = this.#lanes[operation]
    const known = lanes.get(network)
    if (known !== undefined) return known
    if (lanes.size >= maxLanes) lanes.delete(lanes.keys().next().value ?? '')
    const name = { facilitator: this.id, operation, network: network === '' ? undefined : network }
    const lane = new Circuit(this.circuit, (from, to, consecutiveFailures) =>
      this.onLaneChange(this, { ...name, from, to, consecutiveFailures }),
    )
    lanes.set(network, lane)
    return lane
  }

  /** Every lane that was used, with its operation and network. */
  *lanes(): Generator<{ operation: Operation; network: string | undefined; circuit: Circuit }> {
    for (const operation of Object.keys(this.#lanes) as Operation[])
      for (const [network, circuit] of this.#lanes[operation])
        yield { operation, network: network === '' ? undefined : network, circuit }
  }

  /** Healthy: no lane's circuit is open. */
  get isHealthy(): boolean {
    for (const { circuit } of this.lanes()) if (circuit.state === 'open') return false
    return true
  }
}
