/** When the chain is asked about a settlement: at once or later, and again after growing pauses; once at a time. */
import { now } from '../clock.ts'
import type { ChainView } from '../settlement/chain-view.ts'
import type { ProbeAnswer } from '../settlement/probe.ts'

/** Milliseconds between questions; grows by half with each, to the longest. */
const firstPauseMs = 250
const longestPauseMs = 2_000

export class Inquiry {
  #nextAt = Number.POSITIVE_INFINITY
  #pauseMs = firstPauseMs
  #isAsking = false

  /** @param deadline monotonic time (ms) after which no answer counts */
  constructor(
    private readonly chain: ChainView,
    private readonly deadline: number,
    private readonly onAnswer: (answer: ProbeAnswer) => void,
  ) {}

  /** Asks at `time` (monotonic, ms) at the latest. */
  askAt(time: number): void {
    this.#nextAt = Math.min(this.#nextAt, time)
  }

  /** Asks now, and soon again: something has happened that the chain should show. */
  askAnew(): void {
    this.#pauseMs = firstPauseMs
    this.askAt(now())
  }

  /** Asks once more after a pause. */
  askAgain(): void {
    this.askAt(now() + this.#pauseMs)
    this.#pauseMs = Math.min(this.#pauseMs * 1.5, longestPauseMs)
  }

  /** Puts the question, if it is time and none is on its way. */
  askIfDue(): void {
    if (this.#isAsking || now() < this.#nextAt) return
    this.#nextAt = Number.POSITIVE_INFINITY
    this.#isAsking = true
    this.chain.ask(this.deadline - now()).then(answer => {
      this.#isAsking = false
      this.onAnswer(answer)
    })
  }

  /** Whether an answer may still come. */
  get isOpen(): boolean {
    return this.#isAsking || this.#nextAt < this.deadline
  }

  /** Monotonic time (ms) at which `askIfDue` has something to do. */
  get dueAt(): number {
    return this.#isAsking ? Number.POSITIVE_INFINITY : this.#nextAt
  }
}
