/** In which order the facilitators are asked, before their health is looked at. */
import { forEachOperation, type Operation } from '../observe/attempt-report.ts'
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
      return (_operation, first) =>
        ahead(
          first,
          [...members].sort((a, b) => averageMs(a) - averageMs(b)),
        )
    case 'weighted':
      return (_operation, first) => ahead(first, byWeight(members))
    default:
      return byChoice(strategy, members, onFault)
  }
}

function byPriority(members: readonly Member[]): Order {
  const priorities = new Set(members.map(member => member.options.priority))
  const groups = [...priorities]
    .sort((a, b) => a - b)
    .map(priority => members.filter(member => member.options.priority === priority))
  const sorted = groups.flat()
  if (groups.length === sorted.length) return () => sorted
  const turn = forEachOperation(() => 0)
  return (operation, first) => {
    const offset = turn[operation]++
    return groups.flatMap(group =>
      first && group.includes(first) ? ahead(first, group) : rotate(group, offset),
    )
  }
}

/** Weighted random order: each gets the key random^(1/weight) (Efraimidis and Spirakis, 2006). */
function byWeight(members: readonly Member[]): Member[] {
  return members
    .map(member => ({ member, key: Math.random() ** (1 / member.options.weight) }))
    .sort((a, b) => b.key - a.key)
    .map(({ member }) => member)
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
    const candidates = members.map(member => ({
      id: member.id,
      priority: member.options.priority,
      weight: member.options.weight,
      averageResponseTimeMs: averageMs(member),
    }))
    try {
      const chosen = [...new Set(choose(candidates, operation))].flatMap(
        id => members.find(member => member.id === id) ?? [],
      )
      return chosen.length > 0 ? chosen : fallback(operation, first)
    } catch (error) {
      if (!isTold) onFault(error)
      isTold = true
      return fallback(operation, first)
    }
  }
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
