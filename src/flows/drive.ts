/** Drives the machine of a settlement: does what it says, and reports what came of it. */

import type { Outcome } from '../facilitator/outcome.ts'
import type { Member } from '../pool/member.ts'
import { now } from '../runtime/clock.ts'
import type { SettlementState } from '../settlement/ledger.ts'
import {
  type Action,
  type Conclusion,
  type Event,
  type Rules,
  start,
  step,
  wakesAt,
} from '../settlement/machine.ts'
import type { ChainView } from '../settlement/probe.ts'
import type { Run } from './run.ts'

export interface Drive {
  readonly run: Run<'settle'>
  readonly rules: Rules
  readonly before: SettlementState | undefined
  /** Absent where no probe can look at the payment. */
  readonly chain: ChainView | undefined
  /** Called with a facilitator whose claim of success is false. */
  accuse(member: Member, transaction: string): void
}

export async function drive({ run, rules, before, chain, accuse }: Drive): Promise<Conclusion> {
  /** What has happened and was not taken in yet, in order. */
  const events: Event[] = []
  let wake = () => {}
  const report = (event: Event) => {
    events.push(event)
    wake()
  }
  const asked: Member[] = []
  const memberOf = (attempt: number) => asked[attempt] as Member

  const ask = (member: Member | undefined) => {
    if (!member) return report({ kind: 'route-empty' })
    const attempt = asked.push(member) - 1
    report({ kind: 'asking' })
    const end = (outcome: Outcome<'settle'>) => report({ kind: 'ended', attempt, outcome })
    // A fault of ours must neither crash the seller nor read as "not charged".
    run.ask(member).then(end, () => end({ kind: 'unknown', reason: 'a fault in the aggregator' }))
  }
  const perform = (action: Exclude<Action, { kind: 'conclude' }>): unknown => {
    switch (action.kind) {
      case 'ask-next':
        if (action.isAnew)
          run.startOver(asked.filter((_, attempt) => state.attempts[attempt]?.kind === 'open'))
        return ask(run.next())
      case 'ask-again':
        return ask(memberOf(action.attempt))
      case 'ask-chain':
        return chain?.ask(rules.deadline - now()).then(report)
      case 'overtake':
        return run.overtake(memberOf(action.attempt), rules.failoverAfterMs)
      case 'accuse':
        return accuse(memberOf(action.attempt), action.transaction)
      case 'end-route':
        return run.end()
    }
  }

  let state = start(rules, before, now())
  let event: Event = { kind: 'started' }
  for (;;) {
    const [next, actions] = step(state, event, now())
    state = next
    for (const action of actions) {
      if (action.kind === 'conclude') return action.conclusion
      perform(action)
    }
    if (events.length === 0) {
      const wakeAt = wakesAt(state)
      let cancel = wake
      await new Promise<void>(resolve => {
        wake = resolve
        cancel = run.waitUntil(wakeAt, resolve)
      })
      cancel()
    }
    event = events.shift() ?? { kind: run.isAborted ? 'stopped' : 'tick' }
  }
}
