/** What every scenario of the fault matrix works with. */
import type { Chain } from '../bed/chain.ts'
import type { CellResult } from './result.ts'

export type ClientName = 'with probe' | 'without probe' | 'naive'

export interface Bed {
  readonly chain: Chain
  readonly client: ClientName
  readonly payments: number
  /** How many payments are on their way at a time. */
  readonly concurrency: number
  /** Draws numbers from 0 to 1. */
  readonly random: () => number
}

export type Scenario = (bed: Bed) => Promise<CellResult>

/** Makes `payments` results, as many at a time as the bed allows. */
export async function forEachPayment<T>(
  { payments, concurrency }: Bed,
  make: () => Promise<T>,
): Promise<T[]> {
  const made: T[] = []
  let begun = 0
  const makeOneAfterTheOther = async () => {
    while (begun++ < payments) made.push(await make())
  }
  await Promise.all(Array.from({ length: concurrency }, makeOneAfterTheOther))
  return made
}
