/** What is said of an option that nobody reads. */
export function unknownOption(name: string, known: readonly string[]): string {
  return `${name} is not an option; there are ${known.join(', ')}`
}
