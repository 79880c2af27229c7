/** Facilitators over HTTP that share one chain, fast enough for hundreds of payments a second. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { evmNetwork, payer } from './fuzz-payments.ts'

/** What a facilitator does with a settle. */
export type Fault =
  | 'none'
  | 'fails before'
  | 'fails after'
  | 'resets after'
  | 'garbage after'
  | 'refuses'
  | 'hangs after'

/** What a transaction takes (ms). */
const confirmationMs = 20

/** The chain: one transaction for each nonce, whoever sends it. */
export class Chain {
  readonly transactions = new Map<string, string>()

  /** @returns the transaction, unless the nonce was used */
  move(nonce: string): string | undefined {
    if (this.transactions.has(nonce)) return undefined
    const transaction = `0x${nonce.slice(2, 34)}${(this.transactions.size + 1).toString(16).padStart(32, '0')}`
    this.transactions.set(nonce, transaction)
    return transaction
  }
}

export interface MockFacilitator {
  readonly url: string
  readonly server: Server
  /** It answers 503 to everything. */
  isDown: boolean
}

/** @param faultOf decides by the payment's nonce */
export async function startFacilitator(
  chain: Chain,
  faultOf: (nonce: string) => Fault,
): Promise<MockFacilitator> {
  const server = createServer(async (request, response) => {
    const text = await read(request)
    if (facilitator.isDown) return send(response, 503, { error: 'down' })
    switch (request.url) {
      case '/supported':
        return send(response, 200, {
          kinds: [{ x402Version: 2, scheme: 'exact', network: evmNetwork }],
          extensions: [],
          signers: {},
        })
      case '/verify':
        return send(response, 200, { isValid: true, payer })
      case '/settle':
        return settle(response, nonceOf(text))
      default:
        return send(response, 404, {})
    }
  })

  function settle(response: ServerResponse, nonce: string): void {
    const fault = faultOf(nonce)
    const network = evmNetwork
    const refuse = (errorReason: string) =>
      send(response, 200, { success: false, errorReason, transaction: '', network })
    if (fault === 'fails before') {
      send(response, 500, { error: 'out of order' })
    } else if (fault === 'refuses') {
      refuse('failed_to_execute_transfer')
    } else {
      const transaction = chain.move(nonce)
      setTimeout(answer, confirmationMs, transaction)
    }

    function answer(transaction: string | undefined): void {
      if (fault === 'fails after') send(response, 502, { error: 'bad gateway' })
      else if (fault === 'resets after') response.socket?.resetAndDestroy()
      else if (fault === 'garbage after') send(response, 200, '<html>')
      else if (fault === 'hangs after') return
      else if (transaction === undefined) refuse('invalid_exact_evm_nonce_already_used')
      else send(response, 200, { success: true, transaction, network, payer })
    }
  }

  server.listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  const facilitator = {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    server,
    isDown: false,
  }
  return facilitator
}

/** Answers `GET /<nonce>` with the transaction that used it, for the gateway's probe. */
export async function startNode(chain: Chain): Promise<MockFacilitator> {
  const server = createServer((request, response) =>
    send(response, 200, { transaction: chain.transactions.get(request.url?.slice(1) ?? '') ?? null }),
  )
  server.listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, server, isDown: false }
}

export function nonceOf(text: string): string {
  return /"nonce":"(0x[\da-f]{64})"/.exec(text)?.[1] ?? ''
}

async function read(request: IncomingMessage): Promise<string> {
  let text = ''
  for await (const piece of request.setEncoding('utf8')) text += piece
  return text
}

function send(response: ServerResponse, status: number, body: object | string): void {
  const text = typeof body === 'string' ? body : JSON.stringify(body)
  response
    .writeHead(status, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) })
    .end(text)
}
