/** The payments that this gateway has found valid lately: by then the goods are being made, so a settle is let through. */
import { setBounded } from '../runtime/bounded-map.ts'
import { now } from '../runtime/clock.ts'
import { sha256 } from '../runtime/hash.ts'

/** Payments that are remembered, some 10 MB of them; the oldest gives way. */
const maxPayments = 50_000
/** Milliseconds for which goods may be in the making. */
const rememberedMs = 15 * 60_000
/** Settles that one verify lets through: enough for every retry, and no way around the limit. */
const settlesPerVerify = 20

export class VerifiedPayments {
  readonly #known = new Map<string, { until: number; settlesLeft: number }>()

  /** Takes that a payload is valid. */
  async add(payload: object): Promise<void> {
    const id = await idOf(payload)
    if (id === undefined) return
    this.#known.delete(id)
    const entry = { until: now() + rememberedMs, settlesLeft: settlesPerVerify }
    setBounded(this.#known, id, entry, maxPayments)
  }

  /** Takes one of a payload's settles: whether there was one to be had. */
  async takeSettle(payload: object): Promise<boolean> {
    if (this.#known.size === 0) return false
    const entry = this.#known.get((await idOf(payload)) ?? '')
    if (entry === undefined || entry.until <= now() || entry.settlesLeft === 0) return false
    entry.settlesLeft--
    return true
  }
}

/** Nothing for a payload that cannot be written, as it is nested too deep. */
async function idOf(payload: object): Promise<string | undefined> {
  try {
    return await sha256(new TextEncoder().encode(JSON.stringify(payload)))
  } catch {
    return undefined
  }
}
