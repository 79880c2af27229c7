/** A token bucket per client, without timers: Workers allow none between requests. */
import { setBounded } from '../runtime/bounded-map.ts'
import { now } from '../runtime/clock.ts'

/** Clients that are remembered; the longest unseen is forgotten first, and starts with a full bucket again. */
const maxClients = 10_000

export interface RateLimitOptions {
  readonly perSecond: number
  readonly burst: number
}

export class RateLimit {
  readonly #buckets = new Map<string, { level: number; at: number }>()

  /** @throws {TypeError} for a rate or a burst that would let nobody through */
  constructor(
    private readonly options: RateLimitOptions,
    private readonly most = maxClients,
  ) {
    if (!(options.perSecond > 0) || !(options.burst >= 1))
      throw new TypeError('rateLimit: expected perSecond above 0 and burst from 1, or false')
  }

  /** Takes one request of `client`: 0, or the milliseconds after which another would be let through. */
  take(client: string): number {
    const { perSecond, burst } = this.options
    const time = now()
    const bucket = this.#buckets.get(client) ?? { level: burst, at: time }
    const level = Math.min(burst, bucket.level + ((time - bucket.at) / 1000) * perSecond)
    const isLetThrough = level >= 1
    this.#buckets.delete(client)
    setBounded(this.#buckets, client, { level: isLetThrough ? level - 1 : level, at: time }, this.most)
    return isLetThrough ? 0 : Math.ceil(((1 - level) / perSecond) * 1000)
  }
}
