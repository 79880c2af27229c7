/** Assertions that need no test framework. */

export function check(condition: unknown, message: string): asserts condition {
  if (!condition) throw new Error(message)
}

/** Compares what JSON can tell apart. */
export function equal(actual: unknown, expected: unknown, what: string): void {
  const [is, should] = [print(actual), print(expected)]
  if (is !== should) throw new Error(`${what}: expected ${should}, got ${is}`)
}

/** Repeats `look` until it finds something. */
export async function until<T>(
  what: string,
  look: () => T | undefined | false | Promise<T | undefined | false>,
  timeoutMs = 8_000,
): Promise<T> {
  const startedAt = Date.now()
  for (;;) {
    const found = await look()
    if (found !== undefined && found !== false) return found
    check(Date.now() - startedAt < timeoutMs, `within ${timeoutMs} ms it did not happen that ${what}`)
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

/** What `work` comes to, unless it takes longer than `timeoutMs`. */
export async function within<T>(timeoutMs: number, what: string, work: Promise<T>): Promise<T> {
  let timer: ReturnType<typeof setTimeout> | undefined
  const late = new Promise<never>((_resolve, reject) => {
    timer = setTimeout(() => reject(new Error(`${what}: not done within ${timeoutMs} ms`)), timeoutMs)
  })
  try {
    return await Promise.race([work, late])
  } finally {
    clearTimeout(timer)
  }
}

/** What `work` throws. */
export async function thrown(work: Promise<unknown>, what: string): Promise<Error> {
  let answer: unknown
  try {
    answer = await work
  } catch (error) {
    return error as Error
  }
  throw new Error(`${what}: expected an error, got ${print(answer)}`)
}

function print(value: unknown): string {
  return JSON.stringify(value, (_key, part) => (typeof part === 'bigint' ? `${part}n` : part)) ?? 'undefined'
}
