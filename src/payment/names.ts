/** What names from outside may look like: they are kept, shown and logged. */

/**
 * CAIP-2 (`eip155:8453`, generous enough for the hashes that some chains use as theirs), or a version 1 name (`base`).
 */
export function isNetwork(name: string): boolean {
  return /^(?:[-a-z\d]{3,12}:)?[-\w.+/=]{1,64}$/.test(name)
}

/** A scheme, an address, an amount: text without blanks and control characters. */
export function isPlain(text: string, longest = 128): boolean {
  return text.length <= longest && /^[!-~]+$/.test(text)
}
