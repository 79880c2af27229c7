/** Where the replies to identified payments are kept. */
import { now } from '../../runtime/clock.ts'

/** Texts by name; replicas share one by way of a database. */
export interface ReplyStore {
  get(id: string): Promise<string | undefined>
  /** @param keepMs milliseconds after which the text may be forgotten */
  set(id: string, text: string, keepMs: number): Promise<void>
}

interface Kept {
  readonly text: string
  readonly expiresAt: number
}

/** Characters that are kept of all replies together. */
const mostCharacters = 32_000_000

/** Keeps replies in memory, the newest first. */
export class MemoryReplyStore implements ReplyStore {
  readonly #kept = new Map<string, Kept>()
  #characters = 0

  async get(id: string): Promise<string | undefined> {
    const kept = this.#kept.get(id)
    return kept && kept.expiresAt > now() ? kept.text : undefined
  }

  async set(id: string, text: string, keepMs: number): Promise<void> {
    this.#forget(id)
    this.#kept.set(id, { text, expiresAt: now() + keepMs })
    this.#characters += text.length
    for (const [oldest, { expiresAt }] of this.#kept) {
      if (this.#characters <= mostCharacters && expiresAt > now()) return
      this.#forget(oldest)
    }
  }

  #forget(id: string): void {
    this.#characters -= this.#kept.get(id)?.text.length ?? 0
    this.#kept.delete(id)
  }
}
