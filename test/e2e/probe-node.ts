/** Nodes for the tests of the probe: a local server in front of the chain, which counts, refuses or alters. */
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text } from 'node:stream/consumers'
import { onTestFinished } from 'vitest'

/** A server that does as `listener` does, until the test has finished. */
export async function startNode(listener: RequestListener): Promise<string> {
  const server = createServer(listener)
  onTestFinished(() => {
    server.closeAllConnections()
    server.close()
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

export interface RpcRequest {
  readonly id: number
  readonly method: string
  readonly params: readonly unknown[]
}

interface RpcAnswer {
  readonly result?: unknown
  readonly error?: { readonly code: number; readonly message: string }
}

export type Alteration = (
  request: RpcRequest,
  /** Asks the chain. */
  forward: () => Promise<RpcAnswer>,
) => RpcAnswer | undefined | Promise<RpcAnswer | undefined>

/**
 * A node of the chain at `rpcUrl` that answers as `alter` says, and as the chain does where that says nothing.
 *
 * @returns its URL, and the methods of the requests that have reached it
 */
export async function startAlteredNode(rpcUrl: string, alter: Alteration = () => undefined) {
  const methods: string[] = []
  const headers = { 'content-type': 'application/json' }
  const url = await startNode(async (incoming, response) => {
    const body = await text(incoming)
    const request: RpcRequest = JSON.parse(body)
    methods.push(request.method)
    const forward = async (): Promise<RpcAnswer> =>
      (await fetch(rpcUrl, { method: 'POST', headers, body })).json() as Promise<RpcAnswer>
    const answer = (await alter(request, forward)) ?? (await forward())
    response.writeHead(200, headers).end(JSON.stringify({ ...answer, jsonrpc: '2.0', id: request.id }))
  })
  return { url, methods }
}

/** Refuses these methods, as nodes do that lack them. */
export function refusing(...refused: string[]): Alteration {
  return ({ method }) =>
    refused.includes(method)
      ? { error: { code: -32601, message: `the method ${method} does not exist/is not available` } }
      : undefined
}
