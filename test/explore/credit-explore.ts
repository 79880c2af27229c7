/**
 * Search through every world of `CreditWorld` that can be reached. From a world that was reached before it goes on to the
 * end of a history, as a world that goes on need not be made anew; then from another one, drawn by lot, so that a search
 * that is ended early has been everywhere.
 */
import { type Code, type CreditSetup, CreditWorld } from './credit-world.ts'
import type { Exploration } from './explore.ts'

/** A world with moves that were not made yet. */
interface Open {
  readonly path: readonly number[]
  readonly left: number[]
}

/** @param maxStates distinct worlds after which the search ends, complete or not */
export async function exploreCredit(setup: CreditSetup, code: Code, maxStates: number): Promise<Exploration> {
  const startedAt = process.hrtime.bigint()
  const seen = new Set<string>()
  let transitions = 0
  let depth = 0
  const report = (isComplete: boolean, violation?: readonly string[]): Exploration => ({
    states: seen.size,
    transitions,
    depth,
    seconds: Number(process.hrtime.bigint() - startedAt) / 1e9,
    isComplete,
    violation,
  })
  const open: Open[] = []
  const random = numbers()
  try {
    let world: CreditWorld | undefined = new CreditWorld(setup, code)
    let at: Open | undefined = { path: [], left: [...world.moves().keys()] }
    open.push(at)
    while (open.length > 0) {
      if (at === undefined || world === undefined) {
        at = open[Math.floor(random() * open.length)] as Open
        world = await remake(setup, code, at.path)
      }
      const [move = 0] = at.left.splice(Math.floor(random() * at.left.length), 1)
      if (at.left.length === 0) open.splice(open.indexOf(at), 1)
      const path: readonly number[] = [...at.path, move]
      await step(world, path)
      transitions++
      depth = Math.max(depth, path.length)
      at = undefined
      if (world.violation === undefined && !seen.has(world.key)) {
        seen.add(world.key)
        const left = [...world.moves().keys()]
        if (left.length > 0) at = { path, left }
        if (at !== undefined) open.push(at)
        if (seen.size >= maxStates) return report(false)
      }
      if (world.violation !== undefined) return report(false, await historyOf(setup, code, path))
    }
    return report(true)
  } finally {
    CreditWorld.end()
  }
}

async function step(world: CreditWorld, path: readonly number[]): Promise<string> {
  const move = world.moves()[path.at(-1) ?? 0]
  if (move === undefined) throw new Error('the same moves led to another world')
  await world.make(move)
  return move.text
}

async function remake(
  setup: CreditSetup,
  code: Code,
  path: readonly number[],
  history: string[] = [],
): Promise<CreditWorld> {
  const world = new CreditWorld(setup, code)
  for (const at of path.keys()) history.push(await step(world, path.slice(0, at + 1)))
  return world
}

async function historyOf(setup: CreditSetup, code: Code, path: readonly number[]): Promise<string[]> {
  const history: string[] = []
  const world = await remake(setup, code, path, history)
  world.moves()
  return [...history, world.violation ?? 'the same moves led to another world']
}

/** Numbers from 0 to 1, the same ones each time (mulberry32). */
function numbers(): () => number {
  let state = 1
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state)
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32
  }
}
