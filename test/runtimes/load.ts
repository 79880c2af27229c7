/** Imported before the library: loading any entry point must do nothing that Workers forbid at that time. */
import { setTraps } from './traps.ts'

const endTraps = setTraps()

/** @returns what was used since this module was loaded, and must not have been */
export function endLoading(): string[] {
  return endTraps()
}
