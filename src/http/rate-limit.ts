/** A token bucket per client, without timers: Workers allow none between requests. */
import { setBounded } from '../runtime/bounded-map.ts'
import { now } from '../runtime/clock.ts'

/** Clients that are remembered; the longest unseen is forgotten first, and starts with a full bucket again. */
const maxClients = 10_000

export interface RateLimitOptions {
  /** Requests a second in the long run. */
  readonly perSecond: number
  /**
   * Requests at once.
   * @default five times perSecond
   */
  readonly burst?: number
}

/** For those who have no token. */
export const defaultRateLimit: RateLimitOptions = { perSecond: 100 }

export class RateLimit {
  readonly perSecond: number
  readonly burst: number
  readonly #buckets = new Map<string, { level: number; at: number }>()

  /** @throws {TypeError} for a rate or a burst that would let nobody through */
  constructor(
    { perSecond, burst = Math.max(1, 5 * perSecond) }: RateLimitOptions,
    private readonly most = maxClients,
  ) {
    if (!(perSecond > 0) || !(burst >= 1))
      throw new TypeError('rateLimit: expected perSecond above 0 and burst from 1, or false')
    this.perSecond = perSecond
    this.burst = burst
  }

  /** Takes one request of `client`: 0, or the milliseconds after which another would be let through. */
  take(client: string): number {
    const { perSecond, burst } = this
    const time = now()
    const bucket = this.#buckets.get(client) ?? { level: burst, at: time }
    const level = Math.min(burst, bucket.level + ((time - bucket.at) / 1000) * perSecond)
    const isLetThrough = level >= 1
    this.#buckets.delete(client)
    setBounded(this.#buckets, client, { level: isLetThrough ? level - 1 : level, at: time }, this.most)
    return isLetThrough ? 0 : Math.ceil(((1 - level) / perSecond) * 1000)
  }
}
