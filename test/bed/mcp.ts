/** Paid tools of the Model Context Protocol: payment wrappers as servers have them, and calls as paying clients make them. */
import type { Client } from '@modelcontextprotocol/sdk/client/index.js'
import type { McpServer } from '@modelcontextprotocol/sdk/server/mcp.js'
import type { RequestOptions } from '@modelcontextprotocol/sdk/shared/protocol.js'
import type { CallToolResult } from '@modelcontextprotocol/sdk/types.js'
import type { FacilitatorClient, x402ResourceServer } from '@x402/core/server'
import type { PaymentPayload, PaymentRequired, PaymentRequirements } from '@x402/core/types'

const resource = { url: 'mcp://tool/goods', description: 'goods', mimeType: 'application/json' }

/** Answers one call of the tool, with the payment that was sent with it. */
export type PaidTool = (payment: PaymentPayload | undefined) => Promise<CallToolResult>

const goods: CallToolResult = { content: [{ type: 'text', text: 'goods' }] }

function askForPayment(required: object): CallToolResult {
  return {
    content: [{ type: 'text', text: JSON.stringify(required) }],
    structuredContent: { ...required },
    isError: true,
  }
}

/** What upstream's wrapper does: a settle that throws ends in another request for payment. */
export function upstreamTool(seller: x402ResourceServer, accepts: PaymentRequirements[]): PaidTool {
  const ask = async (error: string) =>
    askForPayment(await seller.createPaymentRequiredResponse(accepts, resource, error))
  return async payment => {
    if (payment === undefined) return ask('Payment required')
    const requirements = seller.findMatchingRequirements(accepts, payment)
    if (requirements === undefined) return ask('No matching payment requirements')
    const { isValid, invalidReason } = await seller.verifyPayment(payment, requirements)
    if (!isValid) return ask(`${invalidReason}`)
    try {
      const settlement = await seller.settlePayment(payment, requirements)
      if (!settlement.success) return ask(`${settlement.errorReason}`)
      return { ...goods, _meta: { 'x402/payment-response': settlement } }
    } catch (error) {
      return ask(`Payment settlement failed: ${error}`)
    }
  }
}

/** What people write by hand: every trouble ends in another request for payment. */
export function handWrittenTool(facilitator: FacilitatorClient, accepts: PaymentRequirements[]): PaidTool {
  const ask = (error: string) => askForPayment({ x402Version: 2, error, resource, accepts })
  return async payment => {
    const [requirements] = accepts
    if (payment === undefined || requirements === undefined) return ask('Payment required')
    try {
      const { isValid, invalidReason } = await facilitator.verify(payment, requirements)
      if (!isValid) return ask(`${invalidReason}`)
      const settlement = await facilitator.settle(payment, requirements)
      if (!settlement.success) return ask(`${settlement.errorReason}`)
      return { ...goods, _meta: { 'x402/payment-response': settlement } }
    } catch (error) {
      return ask(String(error))
    }
  }
}

export function registerTool(server: McpServer, tool: PaidTool): void {
  server.registerTool('goods', { description: 'goods', inputSchema: {} }, (_arguments, { _meta }) =>
    tool(_meta?.['x402/payment'] as PaymentPayload | undefined),
  )
}

export async function callTool(
  client: Client,
  payment?: PaymentPayload,
  options?: RequestOptions,
): Promise<CallToolResult> {
  const _meta = payment === undefined ? {} : { 'x402/payment': payment }
  return (await client.callTool(
    { name: 'goods', arguments: {}, _meta },
    undefined,
    options,
  )) as CallToolResult
}

/** What the client is asked to pay, if he is; this is how upstream's client reads a result. */
export function requestedPayment({
  isError,
  structuredContent,
}: CallToolResult): PaymentRequired | undefined {
  const isRequest = isError === true && Array.isArray(structuredContent?.accepts)
  return isRequest ? (structuredContent as unknown as PaymentRequired) : undefined
}
