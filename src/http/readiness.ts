/** Whether a gateway can serve payments now. */
import type { FacilitatorHealth, HealthStatus } from '../pool/status.ts'

/** @returns why not, a sentence for each facilitator that cannot be used */
export function readiness(
  { facilitators }: HealthStatus,
  isDraining: boolean,
): { isReady: boolean; reasons: string[] } {
  if (isDraining) return { isReady: false, reasons: ['the gateway is shutting down'] }
  const reasons = facilitators.flatMap(facilitator => {
    const trouble = troubleOf(facilitator)
    return trouble === undefined ? [] : [`${facilitator.id} ${trouble}`]
  })
  return { isReady: reasons.length < facilitators.length, reasons }
}

function troubleOf({ isEnabled, isQuarantined, isHealthy, lanes }: FacilitatorHealth): string | undefined {
  if (!isEnabled) return 'is disabled'
  if (isQuarantined) return 'is quarantined: it claimed a settlement that the chain does not know'
  if (!isHealthy) return 'is unhealthy: a circuit is open'
  const check = lanes.find(lane => lane.operation === 'supported')
  return check !== undefined && check.consecutiveFailures > 0 ? 'did not answer its last check' : undefined
}
