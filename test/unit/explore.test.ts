/** The settlement machine in every small world, as `npm run explore` has it, though not as far. */
import { describe, expect, it } from 'vitest'
import { guards } from '../../src/settlement/machine.ts'
import { type Exploration, explore } from '../explore/explore.ts'
import { mutations } from '../explore/mutations.ts'
import { setups } from '../explore/setups.ts'

const timeout = 60_000

function exploreSetup(name: string, states: number, mutation?: string): Exploration {
  const setup = setups.find(one => one.name === name)
  if (setup === undefined) throw new Error(`there is no setup ${name}`)
  return explore(setup, { ...guards, ...mutations[mutation ?? ''] }, states)
}

describe('the settlement machine', () => {
  it.each(setups.map(({ name }) => name))(
    'keeps every promise in the nearest worlds: %s',
    { timeout },
    name => {
      const states = 15_000
      expect(exploreSetup(name, states)).toMatchObject({ states, violation: undefined })
    },
  )

  it.each([
    [
      'without shownUncharged',
      'small, chain',
      [
        'claims the payment',
        'facilitator A broadcasts A10',
        'facilitator A denies, in the protocol',
        'A10 reaches a block',
        'charged, and reported that nothing was (invariant 2)',
      ],
    ],
    [
      'without verdictStands',
      'small, no chain',
      [
        'claims the payment',
        'facilitator A broadcasts A10',
        'facilitator A answers 429, and rejects the payment when it is asked once more',
        'A10 reaches a block',
        'charged, and answered 402 (invariant 2)',
      ],
    ],
    [
      'without claimWasFalse',
      'small, audit, reorganizations',
      [
        'claims the payment',
        'facilitator A broadcasts A10',
        'A10 reaches a block',
        'facilitator A answers success',
        'the chain shows it paid, though not for good',
        'a reorganization takes A10 back',
        '3 s pass',
        'the chain shows it unspent',
        '3 s pass',
        'the chain shows it unspent',
        'an honest facilitator is quarantined',
      ],
    ],
  ])('%s breaks a promise: %s', { timeout }, (mutation, setup, history) => {
    expect(exploreSetup(setup, 300_000, mutation).violation).toEqual(history)
  })
})
