/** Who is asking, and whether they may. */
import { timingSafeEqual } from 'hono/utils/buffer'

export interface Caller {
  /** A token's place, or an address: what a rate limit and an idempotency key belong to. */
  readonly client: string
  readonly isAllowed: boolean
}

export class Access {
  readonly isProtected: boolean

  /** @throws {TypeError} for an empty token, which would let everybody in */
  constructor(private readonly tokens: readonly string[]) {
    this.isProtected = tokens.length > 0
    if (!Array.isArray(tokens) || tokens.some(token => typeof token !== 'string' || token === ''))
      throw new TypeError('tokens: expected a list of texts that are not empty')
  }

  async check(request: Request, env?: unknown): Promise<Caller> {
    const address = addressOf(env)
    if (!this.isProtected) return { client: address, isAllowed: true }
    const given = /^Bearer +(.+)$/i.exec(request.headers.get('authorization') ?? '')?.[1] ?? ''
    // Every token is compared, so that the time tells nothing about which came close.
    const matches = await Promise.all(this.tokens.map(token => timingSafeEqual(token, given)))
    const place = matches.indexOf(true)
    return place === -1
      ? { client: address, isAllowed: false }
      : { client: `token ${place}`, isAllowed: true }
  }
}

/** The peer's address where `@hono/node-server` tells it. Headers that anybody can write are not believed. */
function addressOf(env: unknown): string {
  const { incoming } = (env ?? {}) as { incoming?: { socket?: { remoteAddress?: string } } }
  return incoming?.socket?.remoteAddress ?? 'somebody'
}
