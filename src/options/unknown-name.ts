/** The problem with a name that nothing has. */
export function unknownName(name: string, known: readonly string[], what = 'an option'): string {
  return `${name} is not ${what}; there are ${known.join(', ')}`
}
