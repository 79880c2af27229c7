/** Time for the whole library: monotonic readings for durations, and timers that can be ended early. */

/** Milliseconds on a clock that never jumps; for durations and deadlines only. */
export function now(): number {
  return performance.now()
}

/** The longest delay (ms) that a timer takes. */
export const longestTimerMs = 2 ** 31 - 1

/** A time that does not come, and one that lies behind all others. */
export const never = Infinity
export const longAgo = -never

type TimerHandle = ReturnType<typeof setTimeout>

/** Calls back after `delayMs` (ms) without keeping the process alive, where the runtime knows how. */
export function setBackgroundTimeout(callback: () => void, delayMs: number): TimerHandle {
  const handle = setTimeout(callback, Math.min(delayMs, longestTimerMs))
  ;(handle as { unref?: () => void }).unref?.()
  return handle
}

/** Waits for `work`, but no longer than `signal` allows. */
export function untilAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  return new Promise((resolve, reject) => {
    const abort = () => reject(signal.reason)
    work.then(resolve, reject).finally(() => signal.removeEventListener('abort', abort))
    if (signal.aborted) abort()
    else signal.addEventListener('abort', abort, { once: true })
  })
}

/**
 * Waits for `work` no longer than `longestMs` (ms), and aborts its signal then.
 *
 * @throws {Error} when it takes longer; what `work` throws
 */
export async function within<T>(
  longestMs: number,
  work: (signal: AbortSignal) => T | Promise<T>,
): Promise<T> {
  const controller = new AbortController()
  let timer: TimerHandle | undefined
  const tooLong = new Promise<never>((_, reject) => {
    timer = setBackgroundTimeout(() => {
      const error = new Error(`no answer within ${longestMs} ms`)
      reject(error)
      controller.abort(error)
    }, longestMs)
  })
  try {
    return await Promise.race([work(controller.signal), tooLong])
  } finally {
    clearTimeout(timer)
  }
}

/**
 * The timeouts and pauses of the calls in flight. `ringAll` ends every wait at once: it is how `stop()` aborts calls,
 * those of clients that know no signal included.
 */
export class Alarms {
  readonly #armed = new Map<TimerHandle, () => void>()
  #controller = new AbortController()

  setTimeout(ring: () => void, delayMs: number): TimerHandle {
    const alarm = setTimeout(ring, delayMs)
    this.#armed.set(alarm, ring)
    return alarm
  }

  clearTimeout(alarm: TimerHandle): void {
    clearTimeout(alarm)
    this.#armed.delete(alarm)
  }

  /** Aborts when the alarms ring. */
  get signal(): AbortSignal {
    return this.#controller.signal
  }

  ringAll(): void {
    this.#controller.abort()
    for (const ring of this.#armed.values()) ring()
  }

  /** Ready for new attempts after `ringAll`. */
  reset(): void {
    if (this.#controller.signal.aborted) this.#controller = new AbortController()
  }
}
