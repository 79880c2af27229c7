/** What is said of an option that nobody reads: mistyped ones begin like the one that was meant, as a rule. */
export function unknownOption(name: string, known: readonly string[]): string {
  const start = name.replace(/.*\./, '').slice(0, 3)
  const meant = known.find(other => other.startsWith(start))
  return `${name} is not an option; there are ${known.join(', ')}${meant ? `: did you mean ${meant}?` : ''}`
}
