/** Whether the server that a ledger needs is there; where it must be, its absence is a failure. */

/**
 * Says in one line which ledgers are left out, and why.
 *
 * @param isThere whether the tests can have the server
 * @returns the same, for `describe.runIf`
 * @throws {Error} when it is not, and `REQUIRE_LEDGERS=1`
 */
export function hasServer(ledgers: string, needed: string, isThere: boolean): boolean {
  if (isThere) return true
  const line = `left out: the ledgers on ${ledgers}, as there is no ${needed}`
  if (process.env.REQUIRE_LEDGERS === '1') throw new Error(`REQUIRE_LEDGERS=1, and ${line}`)
  process.stderr.write(`${line}\n`)
  return false
}
