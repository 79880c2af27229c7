/** The payments of running tool calls about which the facilitators gave no answer. */
import type { FacilitatorResponseError } from '@x402/core/server'
import type { AnyPaymentPayload } from '../../payment/payment.ts'
import { identify } from '../../payment/payment-key.ts'
import { toJson } from '../../runtime/json.ts'
import { paymentIn } from '../open-requests.ts'

interface Doubt {
  /** How many calls present the payment now. */
  calls: number
  error: FacilitatorResponseError | undefined
}

export class Doubts {
  readonly #doubts = new Map<string, Doubt>()

  /** A call presents this payment. */
  async begin(payload: unknown) {
    const name = await nameOf(payload)
    const doubt = this.#doubts.get(name) ?? { calls: 0, error: undefined }
    doubt.calls++
    this.#doubts.set(name, doubt)
    return {
      /** Why nobody can say what became of it, as far as is known yet. */
      get error() {
        return doubt.error
      },
      end: () => {
        doubt.calls--
        if (doubt.calls === 0) this.#doubts.delete(name)
      },
    }
  }

  /** Of a payment that no call presents nothing is kept. */
  async note(payload: AnyPaymentPayload, error: FacilitatorResponseError): Promise<void> {
    const doubt = this.#doubts.get(await nameOf(payload))
    if (doubt) doubt.error = error
  }
}

/** The same for a payment as it was sent, and as a payment wrapper settles it. */
async function nameOf(payload: unknown): Promise<string> {
  try {
    const payment = paymentIn(payload)
    const keyed = payment && (await identify(payment))
    if (keyed) return keyed.key
  } catch {
    // The payment wrapper learns what is wrong with it.
  }
  return toJson((payload as { payload?: unknown }).payload)
}
