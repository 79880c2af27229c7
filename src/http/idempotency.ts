/** The same key and payload get the same answer again (draft-ietf-httpapi-idempotency-key-header). */
import type { AnswerStore } from '../ledgers/answer-store.ts'
import { now, within } from '../runtime/clock.ts'
import { sha256 } from '../runtime/hash.ts'
import { writeJson } from '../runtime/json.ts'
import { type Answer, problem } from './answers.ts'

/** Answers that are kept; the oldest finished one goes first. */
export const maxAnswers = 10_000

/** Milliseconds that the shared store may take: without it the answer is what the aggregator and its ledger say. */
const storeMs = 2_000

/** What is kept in the shared store. */
interface Shared {
  readonly digest: string
  readonly answer: Answer
}

const reused = problem(422, 'IDEMPOTENCY_KEY_REUSED', 'this Idempotency-Key was used for another payment')

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
   * @param store which other gateways share
   */
  constructor(
    private readonly keepMs: number,
    private readonly most = maxAnswers,
    private readonly store?: AnswerStore,
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
      return known.digest === digest ? known.answer : reused

    const answering = this.store ? this.#onceForAll(this.store, { key, digest }, work) : work()
    const kept: Kept = { digest, answer: answering, expiresAt: now() + this.keepMs, isFinished: false }
    this.#kept.delete(key)
    this.#kept.set(key, kept)
    const answer = await kept.answer
    kept.isFinished = true
    if (!answer.isFinal) this.#kept.delete(key)
    this.#makeRoom()
    return answer
  }

  /** The ledger keeps two gateways from settling at the same time; the one whose answer decides gives it to both. */
  async #onceForAll(
    store: AnswerStore,
    { key, digest }: { readonly key: string; readonly digest: string },
    work: () => Promise<Answer>,
  ): Promise<Answer> {
    const name = await sha256(key)
    const read = () => readShared(() => store.get(name))
    const before = await read()
    if (before) return before.digest === digest ? before.answer : reused
    const answer = await work()
    const own: Shared = { digest, answer }
    const after = answer.isFinal
      ? await readShared(() => store.putIfAbsent(name, writeJson(own), this.keepMs))
      : await read()
    return after?.digest === digest ? after.answer : answer
  }

  #makeRoom(): void {
    for (const [key, kept] of this.#kept) {
      if (this.#kept.size <= this.most && kept.expiresAt > now()) return
      if (kept.isFinished) this.#kept.delete(key)
    }
  }
}

/** Nothing where the store fails: the ledger, which it belongs to, reports that, and guards the payment. */
async function readShared(ask: () => Promise<string | undefined>): Promise<Shared | undefined> {
  try {
    const text = await within(storeMs, ask)
    return text === undefined ? undefined : (JSON.parse(text) as Shared)
  } catch {
    return undefined
  }
}
