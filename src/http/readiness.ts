/** Whether a gateway can serve payments now. */
import type { HealthStatus } from '../aggregator.ts'
import type { FacilitatorHealth, LaneHealth } from '../pool/status.ts'

/** @returns why not, a sentence for each facilitator that cannot be used */
export function readiness(
  { facilitators, ledger }: HealthStatus,
  isDraining: boolean,
): { isReady: boolean; reasons: string[] } {
  if (isDraining) return { isReady: false, reasons: ['the gateway is shutting down'] }
  if (ledger?.isNearlyFull) return { isReady: false, reasons: ['the ledger is nearly full'] }
  const reasons = facilitators.flatMap(facilitator => {
    const trouble = troubleOf(facilitator)
    return trouble === undefined ? [] : [`${facilitator.id} ${trouble}`]
  })
  return { isReady: reasons.length < facilitators.length, reasons }
}

function troubleOf({ isEnabled, isQuarantined, lanes }: FacilitatorHealth): string | undefined {
  if (!isEnabled) return 'is disabled'
  if (isQuarantined) return 'is quarantined: it claimed a settlement that the chain does not know'
  const check = lanes.find(lane => lane.operation === 'supported')
  if (check?.circuit === 'open' || cannotBePaidBy(lanes)) return 'is unhealthy: a circuit is open'
  return check !== undefined && check.consecutiveFailures > 0 ? 'did not answer its last check' : undefined
}

/** Whether every network that was paid on has an open circuit. A list that nobody offers is no trouble. */
function cannotBePaidBy(lanes: readonly LaneHealth[]): boolean {
  const paying = lanes.filter(({ operation }) => operation === 'verify' || operation === 'settle')
  const open = new Set(paying.filter(({ circuit }) => circuit === 'open').map(({ network }) => network))
  return paying.length > 0 && paying.every(({ network }) => open.has(network))
}
