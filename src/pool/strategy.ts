/** In which order the facilitators are asked, before their health is looked at. */
import { forEachOperation, type Operation } from '../observe/attempt-report.ts'
import { sortedBy } from '../runtime/sorted-by.ts'
import type { Member } from './member.ts'

/** What a strategy of your own is told about each facilitator that may serve the request. */
export interface Candidate {
  readonly id: string
  readonly priority: number
  readonly weight: number
  /** Average over all its attempts, in milliseconds; 0 before the first. */
  readonly averageResponseTimeMs: number
}

/**
 * - `priority`: lowest number first; equal priorities take turns.
 * - `latency`: fastest average first; one that has not been measured yet goes ahead.
 * - `weighted`: at random, in proportion to `weight`.
 * - a function: the ids in the order in which to ask; those left out are not asked.
 */
export type Strategy =
  | 'priority'
  | 'latency'
  | 'weighted'
  | ((candidates: readonly Candidate[], operation: Operation) => readonly string[])

/** Orders `members`; `first` goes ahead of its equals. */
export type Order = (operation: Operation, first: Member | undefined) => readonly Member[]

export function orderBy(
  strategy: Strategy,
  members: readonly Member[],
  onFault: (error: unknown) => void,
): Order {
  switch (strategy) {
    case 'priority':
      return byPriority(members)
    case 'latency':
      return (_operation, first) => ahead(first, sortedBy(members, averageMs))
    case 'weighted':
      // Each gets the key random^(1/weight) (Efraimidis and Spirakis, 2006).
      return (_operation, first) =>
        ahead(
          first,
          sortedBy(members, member => -(Math.random() ** (1 / member.options.weight))),
        )
    default:
      return byChoice(strategy, members, onFault)
  }
}

function byPriority(members: readonly Member[]): Order {
  const sorted = sortedBy(members, priorityOf)
  const priorities = [...new Set(sorted.map(priorityOf))]
  if (priorities.length === sorted.length) return () => sorted
  const groups = priorities.map(priority => sorted.filter(member => priorityOf(member) === priority))
  const turn = forEachOperation(() => 0)
  return (operation, first) => {
    const offset = turn[operation]++
    return groups.flatMap(group =>
      first && group.includes(first) ? ahead(first, group) : rotate(group, offset),
    )
  }
}

/** A choice that throws or names nobody must not stop a sale: the priorities decide then. It is told of once. */
function byChoice(
  choose: Exclude<Strategy, string>,
  members: readonly Member[],
  onFault: (error: unknown) => void,
): Order {
  let isTold = false
  const fallback = byPriority(members)
  return (operation, first) => {
    const candidates = members.map(member => {
      const { id, priority, weight } = member.options
      return { id, priority, weight, averageResponseTimeMs: averageMs(member) }
    })
    try {
      const chosen = [...new Set(choose(candidates, operation))].flatMap(
        id => members.find(member => member.id === id) ?? [],
      )
      if (chosen.length > 0) return chosen
    } catch (error) {
      if (!isTold) onFault(error)
      isTold = true
    }
    return fallback(operation, first)
  }
}

export function priorityOf(member: Member): number {
  return member.options.priority
}

function averageMs(member: Member): number {
  return member.statistics.averageMs
}

function ahead(first: Member | undefined, members: readonly Member[]): readonly Member[] {
  return first ? [first, ...members.filter(member => member !== first)] : members
}

function rotate(group: readonly Member[], offset: number): readonly Member[] {
  const start = offset % group.length
  return start === 0 ? group : [...group.slice(start), ...group.slice(0, start)]
}
