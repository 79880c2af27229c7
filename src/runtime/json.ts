/** The value as JSON, which has no bigint: the protocol writes large numbers as strings. */
export function toJson(value: unknown): string {
  return JSON.stringify(value, (_key, inner) => (typeof inner === 'bigint' ? `${inner}` : inner))
}
