/** Notices the use of what Workers forbid outside a request: time, timers, random numbers and the network. */

/** Records each use from now on; what it returns ends that, and tells the uses with where they were. */
export function setTraps(): () => string[] {
  const uses = new Set<string>()
  const undo: (() => void)[] = []

  function trap(owner: object, name: string, label: string): void {
    const original = (owner as Record<string, unknown>)[name]
    const own = Object.getOwnPropertyDescriptor(owner, name)
    const trapped = function (this: unknown, ...args: unknown[]) {
      uses.add(`${label}${callerIn(new Error().stack)}`)
      return (original as (...args: unknown[]) => unknown).apply(this, args)
    }
    // Some runtimes let a global be replaced, and not redefined.
    if (own?.configurable === false) Object.defineProperty(owner, name, { value: trapped })
    else Object.defineProperty(owner, name, { value: trapped, configurable: true, writable: true })
    undo.push(() => {
      if (own === undefined) delete (owner as Record<string, unknown>)[name]
      else Object.defineProperty(owner, name, own)
    })
  }

  for (const name of ['setTimeout', 'setInterval', 'fetch']) trap(globalThis, name, name)
  for (const name of ['getRandomValues', 'randomUUID']) trap(crypto, name, `crypto.${name}`)
  for (const name of ['digest', 'generateKey', 'importKey', 'sign', 'verify', 'deriveBits', 'encrypt'])
    trap(crypto.subtle, name, `crypto.subtle.${name}`)
  trap(Math, 'random', 'Math.random')
  trap(Date, 'now', 'Date.now')

  return () => {
    for (const restore of undo.splice(0)) restore()
    return [...uses]
  }
}

/** The frame below the trap's own. */
function callerIn(stack: string | undefined): string {
  const frames = (stack ?? '').split('\n').filter(line => /:\d+/.test(line))
  const caller = frames[1]?.trim()
  return caller === undefined ? '' : ` (${caller})`
}
