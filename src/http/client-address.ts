/** Whose request it is without a token: the address that a limit and an idempotency key belong to. */

/** An address as 128 bits; of IPv4 as IPv6 maps it. */
type Bits = bigint

/** A range of addresses: those that agree with `bits` but for the last ones. */
interface Range {
  readonly bits: Bits
  readonly ignoredBits: bigint
}

/** Reads the connection's address where the runtime has a way of its own. */
export type ConnectionAddress = (request: Request, env: unknown) => string | null | undefined

export class ClientAddresses {
  readonly #proxies: readonly Range[]

  /**
   * @param trustedProxies addresses and ranges (`10.0.0.0/8`) whose `X-Forwarded-For` is believed; a header that anybody
   * can write is not
   * @throws {TypeError} for what is not an address
   */
  constructor(
    trustedProxies: readonly string[],
    private readonly connectionAddress: ConnectionAddress = addressOf,
  ) {
    this.#proxies = trustedProxies.map(readRange)
  }

  /** The client's address, of IPv6 its network (/64), in which one client has all addresses that it likes. */
  of(request: Request, env: unknown): string {
    const peer = readAddress(this.peerOf(request, env))
    if (peer === undefined) return 'somebody'
    const bits = this.#proxies.length === 0 ? peer : this.#behindProxies(peer, request)
    return isIPv4(bits) ? `${bits & 0xffff_ffffn}` : `${bits >> 64n}/64`
  }

  /** The address of the connection, as the runtime writes it; nothing where it is not known. */
  peerOf(request: Request, env: unknown): string {
    return this.connectionAddress(request, env) ?? ''
  }

  /** Each proxy adds the address that it sees at the end: the first one from there that is no proxy of ours counts. */
  #behindProxies(peer: Bits, request: Request): Bits {
    const forwarded = (request.headers.get('x-forwarded-for') ?? '').split(',')
    let seen = peer
    while (this.#isProxy(seen)) {
      const next = readAddress(forwarded.pop()?.trim() ?? '')
      if (next === undefined) break
      seen = next
    }
    return seen
  }

  #isProxy(bits: Bits): boolean {
    return this.#proxies.some(range => bits >> range.ignoredBits === range.bits >> range.ignoredBits)
  }
}

/** What is handed over with a request: by `@hono/node-server`, by Bun, by Deno. */
interface Environments {
  readonly incoming?: { readonly url?: string; readonly socket?: { readonly remoteAddress?: string } }
  requestIP?(request: Request): { readonly address: string } | null
  readonly remoteAddr?: { readonly hostname?: string }
}

function addressOf(request: Request, env: unknown): string | undefined {
  const environment = (env ?? {}) as Environments
  return (
    environment.incoming?.socket?.remoteAddress ??
    environment.requestIP?.(request)?.address ??
    environment.remoteAddr?.hostname
  )
}

/** Whether a connection comes from this machine: from a browser on it, or a proxy. */
export function isLoopback(address: string): boolean {
  return /^(::1|(::ffff:)?127(\.\d{1,3}){3})$/i.test(address)
}

/** The path as it was sent, where that is known: a URL has no dot segments any more. */
export function rawPath(request: Request, env: unknown): string {
  const sent = ((env ?? {}) as Environments).incoming?.url ?? request.url
  return /^(?:\w+:\/\/[^/?#]*)?([^?#]*)/.exec(sent)?.[1] ?? ''
}

const mapped = 0xffffn
const isIPv4 = (bits: Bits): boolean => bits >> 32n === mapped

/** Proxies write ports behind addresses, and systems write zones. */
function readAddress(text: string): Bits | undefined {
  const v4 = /^(?:::ffff:)?(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})(?::\d+)?$/i.exec(text)
  if (v4 !== null) {
    const bytes = v4.slice(1).map(Number)
    return bytes.every(byte => byte < 256) ? join([0xff, 0xff, ...bytes], 8n) : undefined
  }
  const v6 = /^\[?([0-9a-f:.]+)(?:%[\w.-]+)?(?:\]|\]:\d+)?$/i.exec(text)?.[1]
  if (v6?.includes(':') !== true) return undefined
  try {
    // The URL standard writes any spelling of an address in one way, in hexadecimal.
    const [before = '', after] = new URL(`http://[${v6}]`).hostname.slice(1, -1).split('::')
    const head = groupsOf(before)
    const tail = groupsOf(after ?? '')
    const zeros = Array.from({ length: 8 - head.length - tail.length }, () => 0)
    return join([...head, ...zeros, ...tail], 16n)
  } catch {
    return undefined
  }
}

function groupsOf(text: string): number[] {
  return text === '' ? [] : text.split(':').map(group => Number.parseInt(group, 16))
}

function join(parts: readonly number[], size: bigint): Bits {
  return parts.reduce((bits, part) => (bits << size) | BigInt(part), 0n)
}

function readRange(text: string): Range {
  const [address = '', length] = `${text}`.split('/')
  const bits = readAddress(address)
  const most = bits !== undefined && isIPv4(bits) ? 32 : 128
  const prefix = length === undefined ? most : /^\d{1,3}$/.test(length) ? Number(length) : Number.NaN
  if (bits === undefined || !(prefix <= most))
    throw new TypeError(
      `trustedProxies: expected addresses or ranges such as 10.0.0.0/8, got ${JSON.stringify(text)}`,
    )
  return { bits, ignoredBits: BigInt(most - prefix) }
}
