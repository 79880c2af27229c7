/** What a tool call is answered whose payment nobody could tell the end of. */
import type { FacilitatorResponseError } from '@x402/core/server'
import { AggregatorError, SettlementIndeterminateError, SettlementInProgressError } from '../../errors.ts'
import { isRecord } from '../../runtime/json.ts'

/** Where x402 has the payment in a call's `_meta`, and the settlement in its result's. */
export const paymentKey = 'x402/payment'
const settlementKey = 'x402/payment-response'

/** The result of a tool call, as MCP has it. */
export interface ToolResult {
  readonly content: readonly { readonly type: 'text'; readonly text: string }[]
  readonly isError: true
  readonly structuredContent: Readonly<Record<string, unknown>>
}

/** Whether a result tells the buyer that his payment was settled. */
export function isSettled(result: unknown): boolean {
  const meta = isRecord(result) ? result._meta : undefined
  const settlement = isRecord(meta) ? meta[settlementKey] : undefined
  return isRecord(settlement) && settlement.success === true
}

/**
 * A tool's error, which names no price: clients answer a result that does with a new payment. The names of the
 * facilitators are not the buyer's business.
 */
export function doNotPayAgain(error: FacilitatorResponseError): ToolResult {
  const text = adviceOn(error)
  const code = error instanceof AggregatorError ? error.code : 'ALL_FACILITATORS_FAILED'
  const transaction = error instanceof SettlementIndeterminateError ? error.transaction : undefined
  return {
    content: [{ type: 'text', text }],
    isError: true,
    structuredContent: { code, message: text, ...(transaction !== undefined && { transaction }) },
  }
}

function adviceOn(error: FacilitatorResponseError): string {
  if (error instanceof SettlementIndeterminateError) {
    const by = error.transaction === undefined ? '' : ` by transaction ${error.transaction}`
    return `The payment may have been charged${by}. Do not pay again: call this tool later with the same payment.`
  }
  if (error instanceof SettlementInProgressError)
    return (
      'Another call settles this payment, or has just settled it. ' +
      'Do not pay again: call this tool later with the same payment.'
    )
  return (
    'The payment could not be settled, and nothing shows that it was charged. ' +
    'Do not pay again: call this tool later with the same payment.'
  )
}
