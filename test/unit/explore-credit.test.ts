/** Credit in every small world, as `npm run explore` has it, though not as far. */
import { describe, expect, it } from 'vitest'
import { exploreCredit } from '../explore/credit-explore.ts'
import { codeWith, creditMutations } from '../explore/credit-mutations.ts'
import { creditSetups } from '../explore/credit-setups.ts'
import type { Exploration } from '../explore/explore.ts'

const timeout = 60_000

async function exploreSetup(name: string, states: number, mutation?: string): Promise<Exploration> {
  const setup = creditSetups.find(one => one.name === name)
  if (setup === undefined) throw new Error(`there is no setup ${name}`)
  return exploreCredit(setup, await codeWith(mutation), states)
}

describe('a charge that was not delivered', () => {
  it.each(creditSetups.map(({ name }) => name))(
    'is delivered once, or known to be open, in the worlds that are tried: %s',
    { timeout },
    async name => {
      const { states, violation } = await exploreSetup(name, 500)
      expect(violation).toBeUndefined()
      expect(states).toBeGreaterThan(300)
    },
  )

  it('is lost, or delivered twice, where a guard of credit is missing', { timeout }, async () => {
    const name = 'credit recorded for the old payment first'
    const { setup = '' } = creditMutations[name] ?? {}
    expect((await exploreSetup(setup, 6_000, name)).violation?.at(-1)).toMatch(/was charged, and nobody/)
  })
})
