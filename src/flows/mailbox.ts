const nothing = () => {}

/** What happens, in order, for one who takes it in one at a time. */
export class Mailbox<T> {
  readonly #messages: T[] = []
  #wake = nothing

  get isEmpty(): boolean {
    return this.#messages.length === 0
  }

  post(message: T): void {
    this.#messages.push(message)
    this.#wake()
  }

  /** Ends the wait without a message. */
  wake(): void {
    this.#wake()
  }

  /**
   * The next message; nothing when `wait` called back before there was one.
   *
   * @param wait arranges for `wake` to be called when the wait is over, and returns what cancels that
   */
  async next(wait: (wake: () => void) => () => void): Promise<T | undefined> {
    if (this.isEmpty) {
      let cancel = nothing
      await new Promise<void>(resolve => {
        this.#wake = resolve
        cancel = wait(resolve)
      })
      cancel()
    }
    return this.#messages.shift()
  }
}
