/** The fuzzers, as `npm run fuzz` has them, though not as long. */
import { describe, expect, it } from 'vitest'
import { targets } from './fuzz-targets.ts'

const timeout = 60_000
const cases: Readonly<Record<string, number>> = { gateway: 400, facilitator: 300, raw: 60 }

describe('whatever is sent', () => {
  it.each(targets)('the promises are kept: $name', { timeout }, async ({ name, run }) => {
    const result = await run(cases[name] ?? 0, 20_000)
    expect(result.failure).toBeUndefined()
    expect(result.cases).toBe(cases[name])
  })
})
