/** The value as JSON, which has no bigint: the protocol writes large numbers as strings. */
export function toJson(value: unknown): string {
  try {
    return JSON.stringify(value)
  } catch (error) {
    if (!(error instanceof TypeError)) throw error
    // Not at once: to look at each value takes several times as long.
    return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? `${inner}` : inner))
  }
}

/**
 * The same of an answer. An in-process facilitator may answer with what JSON cannot hold, after it has moved the money:
 * then without it.
 */
export function writeJson(body: object): string {
  try {
    return toJson(body)
  } catch {
    const plain = Object.entries(body).filter(([, value]) => Object(value) !== value)
    return toJson(Object.fromEntries(plain))
  }
}
