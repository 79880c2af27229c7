/** What a mistyped name was meant to be. */

/** The first of `names` that at most two characters, added, removed or replaced, make of `name`. */
export function nearest(name: string, names: readonly string[]): string | undefined {
  return names.find(other => isNear(name, other, 2))
}

function isNear(one: string, other: string, edits: number): boolean {
  if (one === other || edits === 0) return one === other
  const [rest, otherRest] = [one.slice(1), other.slice(1)]
  return one[0] === other[0]
    ? isNear(rest, otherRest, edits)
    : isNear(rest, otherRest, edits - 1) ||
        isNear(rest, other, edits - 1) ||
        isNear(one, otherRest, edits - 1)
}
