/** Machines with one guard fewer, or a weaker one: the exploration has to find what each of them breaks. */
import { wasReached } from '../../src/settlement/evidence.ts'
import { type Guards, guards } from '../../src/settlement/machine.ts'

/** Guards that prevent nothing, and why no exploration can catch their removal. */
export const redundant: Readonly<Record<string, string>> = {
  inTime: 'from the deadline on each step concludes, so that none reaches the actions which it guards',
}

const removals = Object.keys(guards)
  .filter(name => !(name in redundant))
  .map((name): [string, Partial<Guards>] => [`without ${name}`, { [name]: () => true }])

export const mutations: Readonly<Record<string, Partial<Guards>>> = {
  ...Object.fromEntries(removals),
  'with shownUncharged by any block': {
    shownUncharged: state => !wasReached(state) || state.unspent !== undefined,
  },
  'with claimIsDisproved by any block': {
    claimIsDisproved: ({ unspent, patienceEndsAt }, now) => now >= patienceEndsAt && unspent !== undefined,
  },
}
