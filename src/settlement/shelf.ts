/** Keys by the time from which they may be forgotten, found without a look at each of them. */

/** How exact that time is: one set of keys for each slot of so many seconds. */
const slotSeconds = 10

export class Shelf {
  readonly #slots = new Map<number, Set<string>>()
  #due: Set<string>[] = []
  #dueSlot = 0

  /** The keys that may be forgotten after `second` (Unix s). */
  slot(second: number): Set<string> {
    const slot = Math.ceil(second / slotSeconds)
    const keys = this.#slots.get(slot) ?? new Set()
    this.#slots.set(slot, keys)
    return keys
  }

  /** The sets of keys whose time has come, the earliest first, without those before the first that is not empty. */
  due(): readonly Set<string>[] {
    const now = Math.floor(Date.now() / 1000 / slotSeconds)
    if (now !== this.#dueSlot) {
      this.#dueSlot = now
      const due: [number, Set<string>][] = []
      for (const [slot, keys] of this.#slots)
        if (slot <= now) {
          if (keys.size === 0) this.#slots.delete(slot)
          else due.push([slot, keys])
        }
      this.#due = due.sort(([one], [other]) => one - other).map(([, keys]) => keys)
    }
    while (this.#due[0]?.size === 0) this.#due.shift()
    return this.#due
  }
}
