/** Asking the next facilitator before a slow one has answered (Dean and Barroso, "The Tail at Scale", 2013). */
import type { Outcome } from '../facilitator/outcome.ts'
import type { Member } from '../pool/member.ts'
import type { Run } from './run.ts'

interface Ended {
  readonly member: Member
  readonly outcome: Outcome<'verify'>
}

/**
 * The outcomes of asking one facilitator after the other, in the order in which they come. The next one is asked when
 * one has ended, and also `afterMs` (ms) after the last was asked, if that is set. Who breaks off leaves the slow ones
 * behind.
 */
export async function* hedged(run: Run<'verify'>, afterMs: number | undefined): AsyncGenerator<Ended> {
  if (afterMs === undefined) {
    for (let member = run.next(); member; member = run.next())
      yield { member, outcome: await run.ask(member) }
    return
  }
  const open = new Map<Member, Promise<Ended>>()
  try {
    for (let member = run.next(); member || open.size > 0; member = run.next()) {
      if (member) open.set(member, begin(run, member))
      const ended = await first(run, open, member && afterMs)
      if (!ended) {
        if (member) run.hedge(member, afterMs)
        continue
      }
      open.delete(ended.member)
      yield ended
    }
  } finally {
    run.end()
  }
}

async function begin(run: Run<'verify'>, member: Member): Promise<Ended> {
  return { member, outcome: await run.ask(member) }
}

/** The first to end; nothing when `afterMs` pass before. */
async function first(
  run: Run<'verify'>,
  open: ReadonlyMap<Member, Promise<Ended>>,
  afterMs: number | undefined,
): Promise<Ended | undefined> {
  if (afterMs === undefined) return Promise.race(open.values())
  let endWait = () => {}
  const patience = new Promise<undefined>(resolve => {
    endWait = run.wait(() => resolve(undefined), afterMs)
  })
  try {
    return await Promise.race([...open.values(), patience])
  } finally {
    endWait()
  }
}
