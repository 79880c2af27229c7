import type { Setup } from './world.ts'

const three = { facilitators: 3, callers: 2, isProtected: true, isAudited: false }
/** One purchase, and few moves to its deadline: what takes long to happen is reached. */
const small = { ...three, facilitators: 1, callers: 1, tickMs: 3_000 }

/** What is explored: small worlds as far as they go, and the largest as far as time allows. */
export const setups: readonly Setup[] = [
  { ...small, name: 'small, chain', hasChain: true },
  { ...small, name: 'small, chain, two facilitators', hasChain: true, facilitators: 2 },
  { ...small, name: 'small, audit', hasChain: true, isAudited: true },
  {
    ...small,
    name: 'small, audit, reorganizations',
    hasChain: true,
    isAudited: true,
    hasReorganizations: true,
  },
  { ...small, name: 'small, audit, two facilitators', hasChain: true, isAudited: true, facilitators: 2 },
  { ...small, name: 'small, two callers', hasChain: true, callers: 2 },
  { ...small, name: 'small, no chain, two callers', hasChain: false, callers: 2 },
  { ...small, name: 'small, no chain', hasChain: false, facilitators: 2 },
  { ...small, name: 'small, unprotected', hasChain: false, isProtected: false, facilitators: 2 },
  { ...three, name: 'chain', hasChain: true },
  { ...three, name: 'audit', hasChain: true, isAudited: true },
  { ...three, name: 'no chain', hasChain: false },
  { ...three, name: 'unprotected', hasChain: false, isProtected: false },
  { ...three, name: 'chain, one caller', hasChain: true, callers: 1 },
  { ...three, name: 'chain, one facilitator', hasChain: true, facilitators: 1 },
  { ...three, name: 'audit, one facilitator', hasChain: true, isAudited: true, facilitators: 1, callers: 1 },
]
