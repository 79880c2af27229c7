/** Machines with one guard fewer, or a weaker one: the exploration has to find what each of them breaks. */
import { wasReached } from '../../src/settlement/evidence.ts'
import { type Guards, guards } from '../../src/settlement/machine.ts'

const removals = Object.keys(guards).map((name): [string, Partial<Guards>] => [
  `without ${name}`,
  { [name]: () => true },
])

export const mutations: Readonly<Record<string, Partial<Guards>>> = {
  ...Object.fromEntries(removals),
  'with shownUncharged by any block': {
    shownUncharged: state => !wasReached(state) || state.unspent !== undefined,
  },
  'with claimIsDisproved by any block': {
    claimIsDisproved: ({ unspent, patienceEndsAt }, now) => now >= patienceEndsAt && unspent !== undefined,
  },
}
