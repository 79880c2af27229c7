/** A buyer: upstream's paying fetch, with a funded account. */
import { decodePaymentResponseHeader } from '@x402/core/http'
import type { PaymentPayload, SettleResponse } from '@x402/core/types'
import { registerExactEvmScheme } from '@x402/evm/exact/client'
import { wrapFetchWithPayment, x402Client, x402HTTPClient } from '@x402/fetch'
import type { Hex } from 'viem'
import type { Chain } from './chain.ts'

export interface Purchase {
  readonly status: number
  readonly body: unknown
  /** What the seller says of the settlement. */
  readonly settlement: SettleResponse | undefined
  readonly durationMs: number
}

export interface SignedPayment {
  readonly headers: Record<string, string>
  readonly nonce: Hex
  readonly payload: PaymentPayload
}

export type Buyer = Awaited<ReturnType<typeof createBuyer>>

/** @param balance in atomic units of the token */
export async function createBuyer(chain: Chain, balance = 1_000_000_000n) {
  const account = await chain.newAccount()
  if (balance > 0n) await chain.mint(account.address, balance)
  const client = new x402Client().setSpendControls({
    allowedAssets: [{ network: chain.network, asset: chain.token.address }],
  })
  registerExactEvmScheme(client, { signer: account })

  /** The headers of the last paid request, to send it again. */
  let lastPayment: Record<string, string> = {}
  const remember: typeof fetch = async (input, init) => {
    const request = new Request(input, init)
    if (request.headers.has('payment-signature')) lastPayment = Object.fromEntries(request.headers)
    return fetch(request)
  }
  const pay = wrapFetchWithPayment(remember, client)

  return {
    account,
    address: account.address,
    get lastPayment() {
      return lastPayment
    },
    buy: (url: string, init?: RequestInit) => purchase(() => pay(url, init)),
    /** Asks for the price and signs the payment, without sending it. */
    async sign(url: string): Promise<SignedPayment> {
      const offer = await fetch(url)
      const http = new x402HTTPClient(client)
      const required = http.getPaymentRequiredResponse(name => offer.headers.get(name), await offer.json())
      const payload = await http.createPaymentPayload(required)
      const { nonce } = payload.payload.authorization as { nonce: Hex }
      return { headers: http.encodePaymentSignatureHeader(payload), nonce, payload }
    },
    /** The headers with which a payment is sent whose payload has been changed. */
    encode: (payload: PaymentPayload) => new x402HTTPClient(client).encodePaymentSignatureHeader(payload),
    /** Sends a payment that was made before once more. */
    replay: (url: string, headers: Record<string, string>) => purchase(() => fetch(url, { headers })),
  }
}

async function purchase(send: () => Promise<Response>): Promise<Purchase> {
  const startedAt = performance.now()
  const response = await send()
  const text = await response.text()
  const header = response.headers.get('payment-response')
  return {
    status: response.status,
    body: parse(text),
    settlement: header === null ? undefined : decodePaymentResponseHeader(header),
    durationMs: performance.now() - startedAt,
  }
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
