/** One of upstream's facilitators for Solana behind HTTP, whose edge can be told to misbehave. */
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { generateKeyPairSigner } from '@solana/kit'
import { x402Facilitator } from '@x402/core/facilitator'
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import { toFacilitatorSvmSigner } from '@x402/svm'
import { registerExactSvmScheme } from '@x402/svm/exact/facilitator'
import { type Market, network } from './market.ts'

/** What it does instead of settling, or after it. */
export type SettleFault =
  /** Reads the request and never answers. */
  | { kind: 'hang' }
  /** Closes the connection instead of answering. */
  | { kind: 'reset' }
  /** Answers something else. */
  | { kind: 'answer'; status: number; body?: unknown }
  /** Settles, and then misbehaves. */
  | { kind: 'settle-then'; next: SettleFault }
  /** Misbehaves once, and behaves from then on. */
  | { kind: 'once'; fault: SettleFault }
  /** Claims a settlement that it has not made. */
  | { kind: 'false claim' }

export type SolanaFacilitator = Awaited<ReturnType<typeof startSolanaFacilitator>>

export async function startSolanaFacilitator(market: Market, id: string) {
  const signer = await generateKeyPairSigner()
  market.give(signer.address)
  const facilitator = new x402Facilitator()
  registerExactSvmScheme(facilitator, {
    signer: toFacilitatorSvmSigner(signer, { defaultRpcUrl: market.node.url }),
    networks: network,
  })
  const calls = { verify: 0, settle: 0, supported: 0 }
  let fault: SettleFault | undefined

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const operation = request.url?.slice(1)
    if (operation !== 'verify' && operation !== 'settle' && operation !== 'supported')
      return answer(response, 404, {})
    calls[operation]++
    if (operation === 'supported') return answer(response, 200, facilitator.getSupported())
    const payment = await paymentOf(request)
    const act = () => facilitator[operation](payment.paymentPayload, payment.paymentRequirements)
    await misbehave(operation === 'settle' ? fault : undefined, response, act)
  }

  async function misbehave(
    asTold: SettleFault | undefined,
    response: ServerResponse,
    act: () => Promise<unknown>,
  ): Promise<void> {
    switch (asTold?.kind) {
      case undefined:
        return answer(response, 200, await act())
      case 'hang':
        return
      case 'reset':
        response.socket?.resetAndDestroy()
        return
      case 'answer':
        return answer(response, asTold.status, asTold.body ?? { error: 'fault' })
      case 'settle-then':
        await act()
        return misbehave(asTold.next, response, act)
      case 'once':
        fault = undefined
        return misbehave(asTold.fault, response, act)
      case 'false claim':
        return answer(response, 200, {
          ...{ success: true, transaction: '5'.repeat(88), network, payer: signer.address },
        })
    }
  }

  const server = createServer((request, response) => {
    handle(request, response).catch(error => answer(response, 500, { error: String(error) }))
  })
  server.keepAliveTimeout = 0
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    id,
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    address: signer.address,
    calls,
    /** Misbehaves from now on when it is to settle. */
    fault(next: SettleFault | undefined) {
      fault = next
    },
    async stop() {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    },
  }
}

async function paymentOf(request: IncomingMessage) {
  let body = ''
  for await (const chunk of request) body += chunk
  return JSON.parse(body) as { paymentPayload: PaymentPayload; paymentRequirements: PaymentRequirements }
}

function answer(response: ServerResponse, status: number, body: unknown): void {
  if (response.headersSent || response.destroyed) return
  response.writeHead(status, { 'content-type': 'application/json' })
  response.end(JSON.stringify(body))
}
