/** Claims of success that are looked up on the chain, and what becomes of who makes false ones. */
import type { Chains, ProbeHost } from '../settlement/probe.ts'

/** The share of successes that `audit: 'sample'` looks up. */
const sampleShare = 0.1

export function auditor({ pool, observer, settlement }: ProbeHost): Pick<Chains, 'isAudited' | 'accuse'> {
  const { audit } = settlement
  return {
    isAudited: () => audit === 'always' || (audit === 'sample' && Math.random() < sampleShare),
    accuse(member, network, transaction) {
      pool.quarantine(member)
      observer.emit(
        'facilitator:quarantined',
        { facilitator: member.id, network, transaction },
        'error',
        event =>
          `${event.facilitator} is quarantined: the chain does not know its settlement ${event.transaction}`,
      )
    },
  }
}
