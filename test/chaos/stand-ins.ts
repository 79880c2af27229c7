/** Facilitators for kinds of payments that upstream's cannot settle on a local chain. */
import type { PaymentPayload, PaymentRequirements, SettleResponse } from '@x402/core/types'
import type { FacilitatorClientLike } from '../../src/index.ts'

export interface Kind {
  readonly x402Version: number
  readonly scheme: string
  readonly network: `${string}:${string}`
}

/** One that finds every payment valid, and settles as it is told. */
export function standIn(
  kind: Kind,
  settle: (payload: PaymentPayload, requirements: PaymentRequirements) => Promise<SettleResponse>,
): FacilitatorClientLike {
  return {
    verify: async () => ({ isValid: true }),
    settle: (payload, requirements) => settle(payload as PaymentPayload, requirements as PaymentRequirements),
    getSupported: async () => ({ kinds: [kind], extensions: [], signers: {} }),
  }
}

/** What was charged outside of any chain that we can see. */
export class Book {
  readonly #charged = new Set<string>()

  /** @returns false when this was charged before */
  charge(payment: string): boolean {
    if (this.#charged.has(payment)) return false
    this.#charged.add(payment)
    return true
  }

  charges(payment: string): number {
    return Number(this.#charged.has(payment))
  }
}
