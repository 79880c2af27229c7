const nothing = () => {}

/** What has happened, in order, for one who takes it in one by one. */
export class EventQueue<T> {
  readonly #events: T[] = []
  #wake = nothing

  push(event: T): void {
    this.#events.push(event)
    this.#wake()
  }

  /**
   * The next event; nothing when `wait` called back before there was one.
   *
   * @param wait arranges for `wake` to be called when the wait is over, and returns what cancels that
   */
  async next(wait: (wake: () => void) => () => void): Promise<T | undefined> {
    if (this.#events.length === 0) {
      let cancel = nothing
      await new Promise<void>(resolve => {
        this.#wake = resolve
        cancel = wait(resolve)
      })
      cancel()
    }
    return this.#events.shift()
  }
}
