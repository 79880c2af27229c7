/** The problem with a name that nothing has: mistyped ones begin like the one that was meant, as a rule. */
export function unknownName(name: string, known: readonly string[], what = 'an option'): string {
  const meant = known.find(other => other.startsWith(name.slice(0, 3)))
  return `${name} is not ${what}; there are ${known.join(', ')}${meant ? `: did you mean ${meant}?` : ''}`
}
