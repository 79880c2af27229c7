/** Times as they are typed: `24h`, `30d` or `2026-01-31T00:00:00Z`. */

/** Milliseconds of what a duration ends in. */
const units: Readonly<Record<string, number>> = {
  s: 1_000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
  w: 604_800_000,
}

/** @returns Unix ms; a duration counts back from now. `undefined` for what is no time */
export function timeOf(text: string): number | undefined {
  const [, count, unit = ''] = /^(\d{1,9})([smhdw])$/.exec(text) ?? []
  if (count !== undefined) return Date.now() - Number(count) * (units[unit] ?? 0)
  const time = /^\d{4}-\d{2}-\d{2}/.test(text) ? Date.parse(text) : Number.NaN
  return Number.isNaN(time) ? undefined : time
}
