/** x402's headers: JSON in base64. */

/** The request's headers that carry a payment; the second is version 1's. */
const paymentHeaders = ['payment-signature', 'x-payment'] as const

/** The reply's headers that say how it was settled. */
const settlementHeaders = ['payment-response', 'x-payment-response'] as const

/** The payment that a request's headers carry, as it was sent; `undefined` where there is none. */
export function presentedPayment(headerOf: (name: string) => string | null | undefined): unknown {
  const header = paymentHeaders.map(headerOf).find(Boolean)
  return header ? readHeader(header) : undefined
}

/** What a header holds; `undefined` for any other text. */
function readHeader(header: string): unknown {
  try {
    const bytes = Uint8Array.from(atob(header), letter => letter.charCodeAt(0))
    return JSON.parse(new TextDecoder().decode(bytes))
  } catch {
    return undefined
  }
}

/** Whether a reply with these headers tells the buyer that his payment was settled. */
export function saysSettled(headerOf: (name: string) => unknown): boolean {
  return settlementHeaders.some(name => {
    const settlement = readHeader(`${headerOf(name) ?? ''}`) as { success?: unknown } | undefined | null
    return settlement?.success === true
  })
}

/** Headers that are given by name, as a list of pairs, or of names and values in turn. */
export function lowerCased(headers: unknown): Record<string, unknown> {
  if (typeof headers !== 'object' || headers === null) return {}
  const flat = (Array.isArray(headers) ? headers : Object.entries(headers)).flat()
  const named = flat.flatMap((name, at) => (at % 2 === 0 ? [[`${name}`.toLowerCase(), flat[at + 1]]] : []))
  return Object.fromEntries(named)
}
