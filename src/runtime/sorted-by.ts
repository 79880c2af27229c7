/** A copy of `items` in the order of ascending keys, each computed once; equal ones stay in their order. */
export function sortedBy<T>(items: readonly T[], keyOf: (item: T) => number): T[] {
  return items
    .map(item => ({ item, key: keyOf(item) }))
    .sort((a, b) => a.key - b.key)
    .map(({ item }) => item)
}
