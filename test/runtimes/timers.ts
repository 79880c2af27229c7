/** Lists the timers that are running, in whichever runtime. */

export interface RunningTimers {
  /** The delay of each, in ms. */
  readonly delays: number[]
  /** Ends the observation. */
  stop(): void
}

/** Observes timers that are started from now on. */
export function watchTimers(): RunningTimers {
  const { setTimeout, clearTimeout, setInterval, clearInterval } = globalThis
  const running = new Map<unknown, number>()

  const start = (callback: (...args: unknown[]) => void, delayMs = 0, ...args: unknown[]) => {
    const timer = setTimeout(() => {
      running.delete(timer)
      callback(...args)
    }, delayMs)
    if (!isOfRuntime(new Error().stack)) running.set(timer, delayMs)
    return timer
  }
  const startRepeating = (callback: () => void, delayMs = 0) => {
    const timer = setInterval(callback, delayMs)
    running.set(timer, delayMs)
    return timer
  }
  const end =
    <T>(clear: (timer: T) => void) =>
    (timer: T) => {
      running.delete(timer)
      clear(timer)
    }
  Object.assign(globalThis, {
    setTimeout: start,
    setInterval: startRepeating,
    clearTimeout: end(clearTimeout),
    clearInterval: end(clearInterval),
  })
  return {
    get delays() {
      return [...running.values()]
    },
    stop: () => void Object.assign(globalThis, { setTimeout, clearTimeout, setInterval, clearInterval }),
  }
}

/** Node's own `fetch` keeps timers for its idle connections in the same globals. */
function isOfRuntime(stack = ''): boolean {
  return stack.split('\n')[2]?.includes('(node:internal/') === true
}
