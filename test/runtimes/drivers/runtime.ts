import type { Place } from '../bed.ts'
import type { Result } from '../case.ts'

export interface Report {
  /** What modules used while they were loaded, and must not. */
  readonly usedByModules: readonly string[]
  readonly usedByConstructors: readonly string[]
  readonly results: readonly Result[]
}

export interface Runtime {
  readonly name: string
  /** @throws when the runtime is not installed, or cannot be started */
  version(): Promise<string>
  /** @throws when the suite did not come to its end */
  run(place: Place): Promise<Report>
}
