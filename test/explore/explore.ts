/** Breadth-first search through every world that can be reached, the shortest history to each kept. */
import type { Guards } from '../../src/settlement/machine.ts'
import { begin, keyOf, moves, type Setup, type World } from './world.ts'

export interface Exploration {
  readonly states: number
  readonly transitions: number
  readonly depth: number
  readonly seconds: number
  /** Every world that can be reached was seen. */
  readonly isComplete: boolean
  /** The shortest history that breaks a promise, in words; the last line names it. */
  readonly violation: readonly string[] | undefined
}

/** @param maxStates distinct worlds after which the search ends, complete or not */
export function explore(setup: Setup, guards: Guards, maxStates: number): Exploration {
  const startedAt = performance.now()
  const seen = new Set<number>()
  const parents: number[] = []
  const texts: string[] = []
  let frontier: { readonly world: World; readonly index: number }[] = []
  let transitions = 0
  let depth = 0

  const visit = (world: World, parent: number, text: string): number | undefined => {
    const hash = hashOf(keyOf(world))
    if (seen.has(hash)) return undefined
    seen.add(hash)
    parents.push(parent)
    texts.push(text)
    return parents.length - 1
  }
  const historyOf = (index: number): string[] => {
    const history: string[] = []
    for (let at = index; at > 0; at = parents[at] ?? 0) history.unshift(texts[at] ?? '')
    return history
  }
  const report = (isComplete: boolean, violation?: readonly string[]): Exploration => ({
    states: parents.length,
    transitions,
    depth,
    seconds: (performance.now() - startedAt) / 1000,
    isComplete,
    violation,
  })

  const first = begin(setup)
  visit(first, -1, '')
  frontier.push({ world: first, index: 0 })
  while (frontier.length > 0) {
    const next: typeof frontier = []
    depth++
    for (const { world, index } of frontier) {
      for (const { text, to } of moves(world, setup, guards)) {
        transitions++
        const found = visit(to, index, text)
        if (found === undefined) continue
        if (to.violation !== undefined) return report(false, [...historyOf(found), to.violation])
        next.push({ world: to, index: found })
        if (parents.length >= maxStates) return report(false)
      }
    }
    frontier = next
  }
  return report(true)
}

/** 53 bits: among two million worlds, two are taken for one with a probability of 1 in 4,500. */
function hashOf(key: string): number {
  let high = 0xdeadbeef
  let low = 0x41c6ce57
  for (let i = 0; i < key.length; i++) {
    const code = key.charCodeAt(i)
    high = Math.imul(high ^ code, 2654435761)
    low = Math.imul(low ^ code, 1597334677)
  }
  high = Math.imul(high ^ (high >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909)
  low = Math.imul(low ^ (low >>> 16), 2246822507) ^ Math.imul(high ^ (high >>> 13), 3266489909)
  return 4294967296 * (2097151 & low) + (high >>> 0)
}
