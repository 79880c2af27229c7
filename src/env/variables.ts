/** Reads variables, and collects what is wrong with them instead of stopping at the first. */

import { AggregatorError } from '../errors.ts'
import { problemsOfUrl } from '../options/checks.ts'
import { longestTimerMs } from '../runtime/clock.ts'

/** Variables by name; what is not text is not read, so that a Worker's other bindings may stand among them. */
export type Environment = Readonly<Record<string, unknown>>

/** Environment variables are wrong; lists each with its problem and an example, never with a secret. */
export class InvalidEnvironmentError extends AggregatorError {
  override readonly name = 'InvalidEnvironmentError'
  readonly code = 'INVALID_ENVIRONMENT'

  constructor(readonly problems: readonly string[]) {
    super(
      `FacilitatorAggregator: ${problems.length === 1 ? 'a variable is' : `${problems.length} variables are`} wrong:\n` +
        problems.map(problem => `  - ${problem}`).join('\n'),
    )
  }
}

const flags: Record<string, boolean> = {
  true: true,
  1: true,
  yes: true,
  on: true,
  false: false,
  0: false,
  no: false,
  off: false,
}

export class Variables {
  readonly #problems: string[] = []

  constructor(private readonly env: Environment) {}

  /** An empty variable counts as unset, as in a `.env` file whose value is yet to be filled in. */
  text(name: string): string | undefined {
    const value = this.env[name]
    if (typeof value !== 'string') return undefined
    const trimmed = value.trim()
    return trimmed === '' ? undefined : trimmed
  }

  flag(name: string): boolean | undefined {
    const value = this.text(name)
    if (value === undefined) return undefined
    const flag = flags[value.toLowerCase()]
    if (flag === undefined) this.wrong(name, `expected true or false, got "${value}"`, 'true')
    return flag
  }

  milliseconds(name: string, otherwise: number, least = 1): number {
    return this.wholeNumber(name, otherwise, { least, unit: 'milliseconds, ' })
  }

  wholeNumber(name: string, otherwise: number, { least = 0, unit = '' } = {}): number {
    const value = this.text(name)
    if (value === undefined) return otherwise
    const number = /^\d+$/.test(value) ? Number(value) : Number.NaN
    if (number >= least && number <= longestTimerMs) return number
    this.wrong(name, `expected ${unit}a whole number from ${least}, got "${value}"`, `${otherwise}`)
    return otherwise
  }

  /** Not echoed: a URL may carry a key. */
  url(name: string, example: string): string | undefined {
    const value = this.text(name)
    if (value === undefined) return undefined
    const [problem] = problemsOfUrl(value)
    if (problem === undefined) return value
    this.wrong(name, problem, example)
    return undefined
  }

  /** URLs with commas between them, which may carry keys in their queries. */
  urls(name: string, example: string): string[] | undefined {
    const values = this.text(name)
      ?.split(',')
      .map(value => value.trim())
    if (values?.every(value => /^https?:\/\/[^\s/]/.test(value) && URL.canParse(value)) === false) {
      this.wrong(name, 'expected one or more URLs that begin with https:// or http://', example)
      return undefined
    }
    return values
  }

  /** The variables that are set and whose names match, in the order of the first number in their names. */
  matching(pattern: RegExp): { name: string; match: RegExpExecArray }[] {
    return Object.keys(this.env)
      .flatMap(name => {
        const match = pattern.exec(name)
        return match === null || this.text(name) === undefined ? [] : [{ name, match }]
      })
      .sort((a, b) => Number(a.match[1]) - Number(b.match[1]))
  }

  wrong(name: string, problem: string, example?: string): void {
    this.#problems.push(
      `${name}: ${problem}${example === undefined ? '' : `; for example ${name}=${example}`}`,
    )
  }

  throwIfWrong(): void {
    if (this.#problems.length > 0) throw new InvalidEnvironmentError(this.#problems)
  }
}
