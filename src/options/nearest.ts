/** What a mistyped name was meant to be. */

/** The first of `names` that at most two characters, added, removed or replaced, make of `name`. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  return names.find(other => isNear(name, other, 2))
}

function isNear(one: string, other: string, edits: number): boolean {
  if (one === other || !edits) return one === other
  const rest = one.slice(1)
  const otherRest = other.slice(1)
  if (one[0] === other[0]) return isNear(rest, otherRest, edits)
  return [otherRest, other].some(end => isNear(rest, end, edits - 1)) || isNear(one, otherRest, edits - 1)
}
