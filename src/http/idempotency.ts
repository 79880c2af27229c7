/** The same key and payload get the same answer again (draft-ietf-httpapi-idempotency-key-header). */
import { now } from '../runtime/clock.ts'
import { sha256 } from '../runtime/hash.ts'
import { type Answer, problem } from './answers.ts'

/** Answers that are kept; the oldest finished one goes first. */
const maxAnswers = 10_000

interface Kept {
  readonly digest: string
  readonly answer: Promise<Answer>
  readonly expiresAt: number
  isFinished: boolean
}

export class IdempotentAnswers {
  readonly #kept = new Map<string, Kept>()

  /**
   * @param keepMs milliseconds for which an answer is kept
   * @param most answers that are kept
   */
  constructor(
    private readonly keepMs: number,
    private readonly most = maxAnswers,
  ) {}

  /**
   * Answers `work`, once per key: who asks again while it runs waits for the same answer, and who asks later gets it
   * from memory. An answer that decides nothing is not kept, so that asking again goes on where it ended.
   *
   * @param body what the key stands for; another body under the same key is refused
   */
  async once(key: string, body: string, work: () => Promise<Answer>): Promise<Answer> {
    const digest = await sha256(body)
    const known = this.#kept.get(key)
    if (known !== undefined && (!known.isFinished || known.expiresAt > now()))
      return known.digest === digest
        ? known.answer
        : problem(422, 'IDEMPOTENCY_KEY_REUSED', 'this Idempotency-Key was used for another payment')

    const kept: Kept = { digest, answer: work(), expiresAt: now() + this.keepMs, isFinished: false }
    this.#kept.delete(key)
    this.#kept.set(key, kept)
    const answer = await kept.answer
    kept.isFinished = true
    if (!answer.isFinal) this.#kept.delete(key)
    this.#makeRoom()
    return answer
  }

  #makeRoom(): void {
    for (const [key, kept] of this.#kept) {
      if (this.#kept.size <= this.most && kept.expiresAt > now()) return
      if (kept.isFinished) this.#kept.delete(key)
    }
  }
}
