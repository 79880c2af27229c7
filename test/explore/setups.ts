import type { Setup } from './world.ts'

const three = { facilitators: 3, callers: 2, isProtected: true, isAudited: false }

/** What is explored: small worlds as far as they go, and the largest as far as time allows. */
export const setups: readonly Setup[] = [
  { ...three, name: 'chain', hasChain: true },
  { ...three, name: 'audit', hasChain: true, isAudited: true },
  { ...three, name: 'no chain', hasChain: false },
  { ...three, name: 'unprotected', hasChain: false, isProtected: false },
  { ...three, name: 'chain, one caller', hasChain: true, callers: 1 },
  { ...three, name: 'chain, one facilitator', hasChain: true, facilitators: 1 },
  { ...three, name: 'audit, one facilitator', hasChain: true, isAudited: true, facilitators: 1, callers: 1 },
]
