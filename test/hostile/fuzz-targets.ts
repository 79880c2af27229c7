/** Everything that is fuzzed. */
import { facilitatorTarget } from './fuzz-facilitator.ts'
import { gatewayTarget } from './fuzz-gateway.ts'
import { rawTarget } from './fuzz-raw.ts'
import { type Result, runTarget, type Target } from './fuzz-run.ts'

export interface AnyTarget {
  readonly name: string
  readonly share: number
  run(cases: number, seed: number, onProgress?: (done: number) => void): Promise<Result>
}

function any<Case>(target: Target<Case>): AnyTarget {
  const { name, share } = target
  return { name, share, run: (cases, seed, onProgress) => runTarget(target, cases, seed, onProgress) }
}

export const targets: readonly AnyTarget[] = [any(gatewayTarget), any(facilitatorTarget), any(rawTarget)]
