/** What the types forbid, as a caller without types or a facilitator sends it: the type is the one that is asked for. */
export function untyped<T>(value: unknown): T {
  return value as T
}
