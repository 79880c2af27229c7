/** The bed as a case sees it from inside a runtime: the host's control endpoint, over nothing but `fetch`. */
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import type { FacilitatorOperation, Fault } from '../bed/facilitator.ts'

/** Where everything is; the same for all cases of one run. */
export interface Place {
  readonly controlUrl: string
  readonly rpcUrl: string
  readonly chainId: number
  readonly network: string
  readonly facilitators: readonly { readonly id: string; readonly url: string }[]
}

/** A fresh payment, signed and not sent. */
export interface Payment {
  readonly payload: PaymentPayload
  readonly requirements: PaymentRequirements
  readonly payer: string
  readonly payTo: string
  readonly nonce: string
  /** In atomic units, as a decimal number. */
  readonly amount: string
}

/** Requests that a facilitator has received since the last reset. */
export type Calls = Readonly<Record<FacilitatorOperation, number>>

export type Bed = ReturnType<typeof bedAt>

/** Takes the bed over: every facilitator lives, behaves, and has received nothing. */
export async function openBed(place: Place): Promise<Bed> {
  const bed = bedAt(place)
  await bed.reset()
  return bed
}

function bedAt({ controlUrl }: Place) {
  async function ask<T>(path: string, body: object = {}): Promise<T> {
    const response = await fetch(`${controlUrl}${path}`, { method: 'POST', body: JSON.stringify(body) })
    const answer = await response.json()
    if (!response.ok) throw new Error(`${path}: ${(answer as { error: string }).error}`)
    return answer as T
  }
  return {
    reset: () => ask('/reset'),
    /** @param index its place in the pool, from 0 */
    facilitator: (index: number) => ({
      fault: (faults: Partial<Record<FacilitatorOperation, Fault>>) => ask('/fault', { index, faults }),
      /** Misbehaves at the next request only. */
      faultOnce: (faults: Partial<Record<FacilitatorOperation, Fault>>) =>
        ask('/fault-once', { index, faults }),
      heal: () => ask('/heal', { index }),
      kill: () => ask('/kill', { index }),
      revive: () => ask('/revive', { index }),
      calls: () => ask<Calls>('/calls', { index }),
    }),
    payment: () => ask<Payment>('/payment'),
    balanceOf: async (address: string) => BigInt(await ask<string>('/balance', { address })),
    isSpent: ({ payer, nonce }: Payment) => ask<boolean>('/spent', { payer, nonce }),
  }
}
