import type { CreditSetup } from './credit-world.ts'

const none = { answersLost: 0, repliesLost: 0, departures: 0, crashes: 0, lapses: 0 }
const once = [1, 1]
const twoReplicas = { processes: 2, payers: ['A', 'A'], presentations: once, hasChain: true, redeliveries: 1 }
const oneProcess = { ...twoReplicas, processes: 1 }

/** What is explored of credit: each with a few kinds of mishap, as all of them together make too many worlds. */
export const creditSetups: readonly CreditSetup[] = [
  { ...oneProcess, name: 'credit, lost replies', most: { ...none, repliesLost: 3 }, presentations: [2, 1] },
  { ...oneProcess, name: 'credit, lost answers', most: { ...none, answersLost: 2, repliesLost: 1 } },
  { ...oneProcess, name: 'credit, departures', most: { ...none, departures: 2, answersLost: 1 } },
  {
    ...oneProcess,
    name: 'credit, departures and retries',
    presentations: [2, 1],
    redeliveries: 2,
    most: { ...none, departures: 1 },
  },
  {
    ...oneProcess,
    name: 'credit, retries',
    presentations: [1, 2],
    most: { ...none, answersLost: 1, repliesLost: 1 },
  },
  {
    ...oneProcess,
    name: 'credit, no chain',
    hasChain: false,
    most: { ...none, answersLost: 1, repliesLost: 1 },
  },
  {
    ...oneProcess,
    name: 'credit, another payer',
    payers: ['A', 'B'],
    presentations: [2, 1],
    most: { ...none, repliesLost: 1 },
  },
  {
    ...oneProcess,
    name: 'credit, a process that sleeps',
    presentations: [2, 1],
    most: { ...none, repliesLost: 1, lapses: 1 },
  },
  {
    ...oneProcess,
    name: 'credit, departures beside a process that sleeps',
    presentations: [2, 2],
    most: { ...none, repliesLost: 1, departures: 1, lapses: 1 },
  },
  { ...twoReplicas, name: 'credit, replicas', most: { ...none, answersLost: 1, repliesLost: 1 } },
  { ...twoReplicas, name: 'credit, replicas that sleep', most: { ...none, repliesLost: 1, lapses: 1 } },
  {
    ...twoReplicas,
    name: 'credit, replicas that die',
    most: { ...none, repliesLost: 1, crashes: 1, lapses: 1 },
  },
  {
    ...twoReplicas,
    name: 'credit, everything',
    payers: ['A', 'A', 'B'],
    presentations: [2, 2, 1],
    most: { answersLost: 1, repliesLost: 1, departures: 1, crashes: 1, lapses: 2 },
  },
]
