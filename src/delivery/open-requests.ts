/** The requests with a payment whose replies have not ended, and what is reported of those that are lost. */
import type { PaymentPayload } from '@x402/core/types'
import { type Payment, readPayment } from '../payment/payment.ts'
import { identify } from '../payment/payment-key.ts'
import type { ReplyReports } from './reply-reports.ts'

/** One request with a payment, on its way to its reply. */
export interface OpenRequest {
  /** Its reply has ended, whatever became of it. Counts once. */
  end(): void
  /** It has ended before there was a reply. */
  abandon(): void
  /** The reply said that the payment was settled, and did not reach the buyer. */
  lose(): void
}

export class OpenRequests {
  /** How many requests present a payment now, by its key: who repeats somebody's payment does not end the other's reply. */
  readonly #open = new Map<string, number>()

  constructor(private readonly replies: ReplyReports) {}

  /**
   * @param payload the payment that the request presents, as it was sent
   * @returns nothing where there is no payment whose reply could be delivered again
   */
  begin(payload: unknown): OpenRequest | undefined {
    const payment = paymentIn(payload)
    if (payment === undefined) return undefined
    const { requirements } = payment
    let isOpen = true
    const counting = this.#count(payment)
    const close = async (): Promise<boolean> => {
      if (!isOpen) return false
      isOpen = false
      const key = await counting
      if (key === undefined) return false
      const left = (this.#open.get(key) ?? 1) - 1
      if (left > 0) this.#open.set(key, left)
      else this.#open.delete(key)
      return left === 0
    }
    return {
      end: () => void close(),
      abandon: async () => {
        if (await close()) await this.replies.abandoned(payment.payload, requirements)
      },
      lose: async () => {
        await close()
        await this.replies.lost(payment.payload, requirements)
      },
    }
  }

  async #count(payment: Payment): Promise<string | undefined> {
    try {
      const keyed = await identify(payment)
      if (keyed !== undefined) this.#open.set(keyed.key, (this.#open.get(keyed.key) ?? 0) + 1)
      return keyed?.key
    } catch {
      // The middleware behind this one says what is wrong with it.
      return undefined
    }
  }
}

/** The payment of version 2 that this is; nothing for anything else. */
export function paymentIn(payload: unknown): Payment | undefined {
  try {
    return readPayment(payload as PaymentPayload, (payload as PaymentPayload).accepted)
  } catch {
    return undefined
  }
}
