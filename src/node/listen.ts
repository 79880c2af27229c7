/** A gateway behind a port. Needs @hono/node-server. */
import { once } from 'node:events'
import { createServer, type RequestListener, type Server } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import { type AddressInfo, BlockList, isIP } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import type { Gateway } from '../http/gateway.ts'
import { unknownName } from '../options/unknown-name.ts'
import { Connections, checkIntervalMs } from './connections.ts'
import { faultOf, refuse } from './request-faults.ts'

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
  /** Serves HTTPS with this certificate (and its chain) and its key, both as PEM. */
  tls?: { cert: string; key: string }
  /**
   * How many connections there may be. A new one beyond that takes the place of one that is idle or sends its request
   * slowly; it is refused where each of them waits for an answer.
   * @default 500
   */
  maxConnections?: number
  /**
   * Called with each thing that happens, as a sentence.
   * @default console.warn
   */
  log?: (message: string) => void
}

export interface GatewayServer {
  readonly url: string
  readonly gateway: Gateway
  readonly server: Server
  /**
   * Accepts no more, answers 503 on the connections that stand, and resolves when they are done. Idle ones end at once,
   * and those whose client does not send or read after some 2 s.
   */
  close(): Promise<void>
  /** Cuts what still stands. */
  cut(): void
}

/** The gateway cannot listen; the message has the reason and the remedy. */
export class InvalidListenError extends Error {
  override readonly name = 'InvalidListenError'
}

const limits = {
  /** Milliseconds to read a request's headers, and the whole of it. Answers may take as long as a settlement. */
  headersTimeout: 10_000,
  requestTimeout: 15_000,
  /** Milliseconds to agree on TLS. */
  handshakeTimeout: 10_000,
  connectionsCheckingInterval: checkIntervalMs,
  /** Milliseconds; longer than proxies keep theirs (60 to 75 s), or a settle may meet the end of its connection. */
  keepAliveTimeout: 90_000,
}

const loopback = new BlockList()
loopback.addSubnet('127.0.0.0', 8, 'ipv4')
loopback.addAddress('::1', 'ipv6')

/**
 * Listens on a port.
 *
 * @throws {InvalidListenError} when others could reach a gateway without tokens, the port is taken, or an option is wrong
 */
export async function listen(gateway: Gateway, options: ListenOptions = {}): Promise<GatewayServer> {
  checkNames(gateway, options)
  const { port = 4020, hostname = '127.0.0.1', tls, maxConnections = 500, log = console.warn } = options
  if (!gateway.isProtected && !isLoopback(hostname) && options.allowUnauthenticated !== true)
    throw new InvalidListenError(
      `a gateway without tokens must not listen on ${hostname}, where others reach it: give it tokens, listen on ` +
        '127.0.0.1, or set allowUnauthenticated',
    )
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535))
    throw new InvalidListenError(`port: expected a whole number from 0 to 65535, got ${port}`)
  if (!(Number.isInteger(maxConnections) && maxConnections > 0))
    throw new InvalidListenError(`maxConnections: expected a whole number from 1, got ${maxConnections}`)
  const answer = getRequestListener((request, env) => gateway.fetch(request, env), {
    // The seller's own Request and Response stay as they are.
    overrideGlobalObjects: false,
  })
  const server = createHttpServer(tls, (request, response) => {
    const fault = faultOf(request)
    if (fault !== undefined) return refuse(response, fault)
    return answer(request, response)
  })
  const connections = new Connections(server, maxConnections, message => log(message))
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
    url: `${tls === undefined ? 'http' : 'https'}://${host}:${actualPort}`,
    gateway,
    server,
    close() {
      gateway.drain()
      connections.close()
      const closed = new Promise<void>(resolve => server.close(() => resolve()))
      server.closeIdleConnections()
      return closed
    },
    cut() {
      connections.cut()
      server.closeAllConnections()
    },
  }
}

const optionNames = ['port', 'hostname', 'allowUnauthenticated', 'tls', 'maxConnections', 'log']

/** @throws {InvalidListenError} for what would be ignored without anybody noticing */
function checkNames(gateway: Gateway, options: ListenOptions): void {
  if (typeof gateway?.fetch !== 'function')
    throw new InvalidListenError('listen: expected the gateway that createGateway returns')
  const unknown = Object.keys(options).find(name => !optionNames.includes(name))
  if (unknown !== undefined) throw new InvalidListenError(`listen: ${unknownName(unknown, optionNames)}`)
}

/** @throws {InvalidListenError} when the certificate or its key is none */
function createHttpServer(tls: ListenOptions['tls'], listener: RequestListener): Server {
  if (tls === undefined) return createServer(limits, listener)
  try {
    return createTlsServer({ ...limits, ...tls }, listener)
  } catch (cause) {
    throw new InvalidListenError(
      `tls: expected a certificate and its key, both as PEM (--tls-cert, --tls-key): ${(cause as Error).message}`,
      { cause },
    )
  }
}

/** Whether only this machine can reach what listens there. */
export function isLoopback(hostname: string): boolean {
  const version = isIP(hostname)
  return version === 0 ? hostname === 'localhost' : loopback.check(hostname, version === 6 ? 'ipv6' : 'ipv4')
}
