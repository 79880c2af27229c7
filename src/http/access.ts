/** Who is asking, and what they may do. */
import { sha256 } from '../runtime/hash.ts'

/**
 * `pay`: verify, settle, list what is supported. `read`: see the status. `admin`: all of it, and check the health, enable
 * or disable a facilitator and close a settlement.
 */
export type Role = 'pay' | 'read' | 'admin'

/** A token of a gateway. */
export interface GatewayToken {
  /** The token itself, or `sha256:` and the digest of it (64 hexadecimal digits), so that the token is stored nowhere. */
  readonly token: string
  /** @default 'pay' */
  readonly role?: Role
  /**
   * Names the token in the log, which never shows the token: letters, digits, `_`, `.` and `-`.
   * @default the role and the place in the list, as in 'pay-1'
   */
  readonly name?: string
}

/** Who asks: the holder of a token, anybody where no token is needed, or somebody without the token that is needed. */
export type Caller =
  | { readonly kind: 'token'; readonly name: string; readonly role: Role }
  | { readonly kind: 'anybody' }
  | { readonly kind: 'stranger' }

type Holder = Extract<Caller, { kind: 'token' }>

const roles: readonly Role[] = ['pay', 'read', 'admin']
const hashed = /^sha256:([0-9a-f]{64})$/i

export class Access {
  readonly isProtected: boolean
  readonly #holders: readonly Holder[]
  readonly #secrets: readonly string[]

  /** @throws {TypeError} for a token that would let everybody in, or nobody; the token itself is not in the message */
  constructor(tokens: readonly (string | GatewayToken)[]) {
    if (!Array.isArray(tokens)) throw new TypeError(`tokens: expected a list of ${shape}`)
    const given = tokens.map(token => (typeof token === 'string' ? { token } : token))
    this.#holders = given.map(holderOf)
    this.#secrets = given.map(({ token }) => (hashed.test(token) ? token.toLowerCase() : token))
    const names = this.#holders.map(({ name }) => name)
    for (const [what, values] of Object.entries({ name: names, token: this.#secrets }))
      if (new Set(values).size < values.length) throw new TypeError(`tokens: two have the same ${what}`)
    this.isProtected = tokens.length > 0
  }

  async callerOf(request: Request): Promise<Caller> {
    if (!this.isProtected) return { kind: 'anybody' }
    const given = /^Bearer +(.+)$/i.exec(request.headers.get('authorization') ?? '')?.[1] ?? ''
    const isAnyHashed = this.#secrets.some(secret => hashed.test(secret))
    const digest = isAnyHashed ? `sha256:${await sha256(new TextEncoder().encode(given))}` : ''
    // Each is compared with what was given in full, so that the time tells nothing about which came close.
    const matches = this.#secrets.map(secret => isEqual(hashed.test(secret) ? digest : given, secret))
    return this.#holders[matches.indexOf(true)] ?? { kind: 'stranger' }
  }
}

/** Whether a caller may do what a role is needed for. Where no token is needed, nobody is an administrator. */
export function mayAct(caller: Caller, need: Role): boolean {
  if (caller.kind === 'token') return caller.role === need || caller.role === 'admin'
  return caller.kind === 'anybody' && need !== 'admin'
}

const shape = 'texts that are not empty, or of { token, role, name }'

function holderOf(given: GatewayToken, place: number): Holder {
  const { token, role = 'pay', name = `${role}-${place + 1}` } = given
  if (typeof token !== 'string' || token === '') throw new TypeError(`tokens: expected a list of ${shape}`)
  if (!/^[!-~]+$/.test(token))
    throw new TypeError('tokens: a token has blanks, or characters that no header carries')
  if (/^sha256:/i.test(token) && !hashed.test(token))
    throw new TypeError('tokens: expected 64 hexadecimal digits after "sha256:"')
  if (!roles.includes(role))
    throw new TypeError(`tokens: "${role}" is not a role; there are ${roles.join(', ')}`)
  if (!/^[\w.-]{1,64}$/.test(name))
    throw new TypeError('tokens: expected a name of 1 to 64 letters, digits, "_", "." and "-"')
  return { kind: 'token', name, role }
}

/** In a time that depends on what was given only, not on where it differs. */
function isEqual(given: string, secret: string): boolean {
  let difference = given.length ^ secret.length
  for (let i = 0; i < given.length; i++)
    difference |= given.charCodeAt(i) ^ secret.charCodeAt(i % secret.length)
  return difference === 0
}
