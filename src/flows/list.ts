import type { DiscoveryQuery, DiscoveryResponse } from '../facilitator/client.ts'
import type { Context } from './context.ts'
import { allFailed } from './failure.ts'
import { Run } from './run.ts'

/**
 * The resources that a facilitator's discovery service lists; the first that answers.
 *
 * @throws {AllFacilitatorsFailedError} when none did
 */
export async function list(context: Context, query?: DiscoveryQuery): Promise<DiscoveryResponse> {
  const run = new Run(context, 'list', { query })
  for (let member = run.next(); member; member = run.next()) {
    const outcome = await run.ask(member)
    if (outcome.kind === 'answered') return outcome.response
  }
  return allFailed(run)
}
