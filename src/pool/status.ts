/** Health, statistics and configuration as outsiders see them. */
import type { Operation } from '../observe/attempt-report.ts'
import { type FacilitatorStatistics, successRate } from '../observe/statistics.ts'
import type { CircuitName } from './circuit.ts'
import type { Member } from './member.ts'

/** The state of one lane: an operation on payments of one scheme and network at one facilitator. */
export interface LaneHealth {
  operation: Operation
  /** Absent for `supported` and `list`, as is `network`. */
  scheme?: string | undefined
  network?: string | undefined
  circuit: CircuitName
  consecutiveFailures: number
}

export interface FacilitatorHealth {
  id: string
  /** It is not quarantined, and no lane's circuit is open. */
  isHealthy: boolean
  isEnabled: boolean
  /** It claimed a settlement that the chain does not know. */
  isQuarantined: boolean
  /** The most that any lane has in a row. */
  consecutiveFailures: number
  totalSuccesses: number
  totalFailures: number
  successRate: string
  averageResponseTimeMs: number
  /** ISO 8601; absent before the first. */
  lastSuccessfulCheck?: string | undefined
  lanes: LaneHealth[]
}

export interface PoolHealth {
  facilitators: FacilitatorHealth[]
  summary: { total: number; healthy: number; unhealthy: number }
}

export interface Statistics {
  facilitators: FacilitatorStatistics[]
}

export function poolHealth(members: readonly Member[]): PoolHealth {
  const facilitators = members.map(facilitatorHealth)
  const healthy = facilitators.filter(facilitator => facilitator.isHealthy).length
  return {
    facilitators,
    summary: { total: facilitators.length, healthy, unhealthy: facilitators.length - healthy },
  }
}

export function statistics(members: readonly Member[]): Statistics {
  return { facilitators: members.map(member => member.statistics.snapshot(member.id)) }
}

function facilitatorHealth(member: Member): FacilitatorHealth {
  const { successes, failures } = member.statistics
  const lanes: LaneHealth[] = member.lanes().map(({ circuit, ...lane }) => ({
    ...lane,
    circuit: circuit.state,
    consecutiveFailures: circuit.failures,
  }))
  return {
    id: member.id,
    isHealthy: member.isHealthy,
    isEnabled: member.enabled,
    isQuarantined: member.isQuarantined,
    consecutiveFailures: Math.max(0, ...lanes.map(lane => lane.consecutiveFailures)),
    totalSuccesses: successes,
    totalFailures: failures,
    successRate: successRate(successes, failures),
    averageResponseTimeMs: Math.round(member.statistics.averageMs),
    lastSuccessfulCheck: member.lastSuccessfulCheck?.toISOString(),
    lanes,
  }
}
