/** What Redis answers when it will not do its part, and what to do then. */
import { LedgerError } from '../errors.ts'
import { safeMessageOf } from '../observe/redact.ts'

const causes: readonly (readonly [RegExp, string, 'LEDGER_FULL' | 'LEDGER_FAILED'])[] = [
  [
    /\bOOM\b/,
    'Redis has used up its maxmemory: raise it, or give the ledger a Redis of its own',
    'LEDGER_FULL',
  ],
  [
    /\bREADONLY\b/,
    'this Redis is a read-only replica: give the client the address of the primary',
    'LEDGER_FAILED',
  ],
  [
    /\bMISCONF\b/,
    'Redis takes no writes, as it cannot save its data: look at its log and its disk',
    'LEDGER_FAILED',
  ],
  [
    /\bNOREPLICAS\b/,
    'Redis takes no writes, as it has fewer replicas than min-replicas-to-write',
    'LEDGER_FAILED',
  ],
  [/\bNOAUTH\b|\bWRONGPASS\b/, 'Redis wants another user name or password', 'LEDGER_FAILED'],
  [
    /\bNOPERM\b|ACL failure|user executing the script can't/,
    'the user may not do this in Redis: allow it +@read, +@write, +@scripting, +time and the keys of the prefix',
    'LEDGER_FAILED',
  ],
  [/\bWRONGTYPE\b/, 'something else uses the keys of this prefix: choose another prefix', 'LEDGER_FAILED'],
  [
    /\bMOVED\b|\bCROSSSLOT\b|\bCLUSTERDOWN\b|non local key/,
    'this Redis is a cluster, or a part of it is down: use a client of clusters (createCluster, Cluster)',
    'LEDGER_FAILED',
  ],
]

/**
 * Without a `cause`: the errors of some clients carry the whole command, and with it the buyer's signature.
 *
 * @param what was thrown by the client
 */
export function ledgerFault(what: unknown): LedgerError {
  if (what instanceof LedgerError) return what
  const message = safeMessageOf(what)
  for (const [pattern, advice, code] of causes)
    if (pattern.test(message)) return new LedgerError(`redisLedger: ${advice} (${message}).`, code)
  return new LedgerError(`redisLedger: Redis gives no answer, or a wrong one (${message}).`)
}

export function isUnknownScript(error: unknown): boolean {
  return safeMessageOf(error).includes('NOSCRIPT')
}
