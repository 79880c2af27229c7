/** A gateway behind a port. Needs @hono/node-server. */
import { once } from 'node:events'
import type { Server } from 'node:http'
import { type AddressInfo, BlockList, isIP } from 'node:net'
import { createAdaptorServer } from '@hono/node-server'
import type { Gateway } from '../http/gateway.ts'

export interface ListenOptions {
  /**
   * 0 for a free one.
   * @default 4020
   */
  port?: number
  /** @default '127.0.0.1' */
  hostname?: string
  /** Lets a gateway without tokens listen where others can reach it: anybody may then settle through it. */
  allowUnauthenticated?: boolean
}

export interface GatewayServer {
  readonly url: string
  readonly gateway: Gateway
  readonly server: Server
  /** Accepts no more, answers 503 on the connections that stand, and resolves when they are done. */
  close(): Promise<void>
  /** Cuts what still stands. */
  cut(): void
}

/** The gateway cannot listen; the message has the reason and the remedy. */
export class InvalidListenError extends Error {
  override readonly name = 'InvalidListenError'
}

/** Milliseconds to read a request's headers, and the whole of it. Answers may take as long as a settlement. */
const headersTimeoutMs = 10_000
const requestTimeoutMs = 15_000

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/**
 * Listens on a port.
 *
 * @throws {InvalidListenError} when others could reach a gateway without tokens, or the port is taken
 */
export async function listen(gateway: Gateway, options: ListenOptions = {}): Promise<GatewayServer> {
  const { port = 4020, hostname = '127.0.0.1' } = options
  if (!gateway.isProtected && !isLoopback(hostname) && options.allowUnauthenticated !== true)
    throw new InvalidListenError(
      `a gateway without tokens must not listen on ${hostname}, where others reach it: give it tokens, listen on ` +
        '127.0.0.1, or set allowUnauthenticated',
    )
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535))
    throw new InvalidListenError(`port: expected a whole number from 0 to 65535, got ${port}`)
  const server = createAdaptorServer({
    fetch: (request, env) => gateway.fetch(request, env),
    // The seller's own Request and Response stay as they are.
    overrideGlobalObjects: false,
    serverOptions: { headersTimeout: headersTimeoutMs, requestTimeout: requestTimeoutMs },
  }) as Server
  server.listen(port, hostname)
  try {
    await once(server, 'listening')
  } catch (cause) {
    const { code, message } = cause as NodeJS.ErrnoException
    const reason = code === 'EADDRINUSE' ? 'the port is taken; choose another' : message
    throw new InvalidListenError(`cannot listen on ${hostname}:${port}: ${reason}`, { cause })
  }
  const { address, port: actualPort } = server.address() as AddressInfo
  const host = isIP(address) === 6 ? `[${address}]` : address
  return {
    url: `http://${host}:${actualPort}`,
    gateway,
    server,
    close() {
      gateway.drain()
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      server.closeIdleConnections()
      return closed
    },
    cut: () => server.closeAllConnections(),
  }
}

/** Whether only this machine can reach what listens there. */
export function isLoopback(hostname: string): boolean {
  const version = isIP(hostname)
  return version === 0 ? hostname === 'localhost' : loopback.check(hostname, version === 6 ? 'ipv6' : 'ipv4')
}
