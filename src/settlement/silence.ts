/** Chains that give no answer: a fault of the configuration, or a long one. */
import type { Observer } from '../observe/observer.ts'
import { redact } from '../observe/redact.ts'
import type { NoteSilence } from './probe.ts'

/** How many kinds of silence are reported. */
const maxSilences = 100

/** Reports each kind once, not per question. */
export function silenceNotes(observer: Observer): NoteSilence {
  const noted = new Set<string>()
  return ({ network, method }, reason = `no probe covers ${method}: doubt ends in a 502`) => {
    const key = `${network} ${reason}`
    if (noted.has(key) || noted.size >= maxSilences) return
    noted.add(key)
    observer.log(
      'warn',
      'probe',
      { network, reason: redact(reason) },
      fields => `the chain ${fields.network} gives no answer: ${fields.reason}`,
    )
  }
}
