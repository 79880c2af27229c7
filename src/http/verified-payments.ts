/** The payments that this gateway has found valid lately: by then the goods are being made, so a settle is let through. */
import { setBounded } from '../runtime/bounded-map.ts'
import { now } from '../runtime/clock.ts'

/** Payments that are remembered, some 5 MB of them; the oldest gives way. */
const maxPayments = 50_000
/** Milliseconds for which goods may be in the making. */
const rememberedMs = 900_000
/** Settles that one verify lets through: enough for every retry, and no way around the limit. */
const settlesPerVerify = 20

export class VerifiedPayments {
  readonly #known = new Map<number, { until: number; settlesLeft: number }>()

  /** Takes that a payload is valid. */
  add(payload: object): void {
    const id = idOf(payload)
    this.#known.delete(id)
    setBounded(this.#known, id, { until: now() + rememberedMs, settlesLeft: settlesPerVerify }, maxPayments)
  }

  /** Takes one of a payload's settles: whether there was one to be had. */
  takeSettle(payload: object): boolean {
    const entry = this.#known.size === 0 ? undefined : this.#known.get(idOf(payload))
    if (entry === undefined || entry.until <= now() || entry.settlesLeft === 0) return false
    entry.settlesLeft--
    return true
  }
}

/**
 * A hash of 53 bits (cyrb53). Who finds two payloads with the same one gets past the limit with the second, as he gets by
 * verifying it: a cryptographic one would only cost more.
 */
function idOf(payload: object): number {
  let one = 0xdeadbeef
  let other = 0x41c6ce57
  const text = textOf(payload)
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    one = Math.imul(one ^ code, 2_654_435_761)
    other = Math.imul(other ^ code, 1_597_334_677)
  }
  one = Math.imul(one ^ (one >>> 16), 2_246_822_507) ^ Math.imul(other ^ (other >>> 13), 3_266_489_909)
  other = Math.imul(other ^ (other >>> 16), 2_246_822_507) ^ Math.imul(one ^ (one >>> 13), 3_266_489_909)
  return 4_294_967_296 * (other & 0x1f_ffff) + (one >>> 0)
}

function textOf(payload: object): string {
  try {
    return JSON.stringify(payload) ?? ''
  } catch {
    // Nested too deep to be written, and so to be sent to a facilitator: it is never found valid.
    return ''
  }
}
