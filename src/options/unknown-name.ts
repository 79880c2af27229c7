import { nearest } from './nearest.ts'

/** The problem with a name that nothing has, and what was meant, or what there is. */
export function unknownName(name: string, known: readonly string[], what = 'an option'): string {
  const meant = nearest(name, known)
  return `${name} is not ${what}${meant ? `, did you mean ${meant}?` : `; there are ${known.join(', ')}`}`
}
