/** The connections of a server: how many there are, for how long, and which one gives way to a new one. */
import type { IncomingMessage, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'

/** Milliseconds between two checks of the connections; Node checks unfinished requests as often. */
export const checkIntervalMs = 2_000
/** Milliseconds that a client may let an answer wait that it does not read. */
const unreadMs = 15_000
/** The same while the server closes; so long a request may still take to arrive. */
const closingMs = 2_000
/** Milliseconds after which a client that has sent no whole request is slow. */
const slowMs = 1_000
/** Milliseconds between two messages that every place is taken. */
const messageIntervalMs = 60_000

interface Connection {
  socket: Socket
  /** Those that have no answer yet; the last one may be incomplete. */
  readonly requests: Set<IncomingMessage>
  /** How its last request was answered, if one was. */
  standing: 'new' | 'refused' | 'served'
  /** In ms of `performance.now()`. */
  readonly openedAt: number
  /** When its answers began to pile up, in ms of `performance.now()`. */
  unreadSince?: number | undefined
}

/** Whether a whole request waits for its answer: it may be a settlement. */
function isAnswering({ requests }: Connection): boolean {
  for (const { complete } of requests) if (complete) return true
  return false
}

/** Who is worth less gives way first. One that has just come had no time yet to send its request. */
function worthOf({ standing, openedAt }: Connection, time: number): number {
  if (standing === 'served') return 2
  return standing === 'new' && time - openedAt < slowMs ? 1 : 0
}

/** By the client's end, which a TLS connection shares with the plain one beneath it. */
const keyOf = ({ remoteAddress, remotePort }: Socket): string => `${remoteAddress} ${remotePort}`

/**
 * At most `most` connections. A new one beyond that takes the place of one that has no whole request: first of those
 * that are slow or were refused what they asked for, then of those that have just come, then of those that were served;
 * among equals of the longest idle. So clients that send slowly, or nothing, and floods keep nobody out, and nothing that
 * has arrived is abandoned; where every connection waits for its answer, the new one is refused.
 */
export class Connections {
  /** The longest idle one comes first. */
  readonly #open = new Map<string, Connection>()
  #closingSince: number | undefined
  #loggedAt = Number.NEGATIVE_INFINITY

  constructor(
    server: Server,
    private readonly most: number,
    private readonly log: (message: string) => void,
  ) {
    server.on('connection', (socket: Socket) => this.#add(socket))
    server.on('secureConnection', (socket: Socket) => {
      const connection = this.#open.get(keyOf(socket))
      if (connection !== undefined) connection.socket = socket
    })
    server.prependListener('request', (request, response) => this.#serve(request, response))
    const timer = setInterval(() => this.#check(), checkIntervalMs).unref()
    server.once('close', () => clearInterval(timer))
  }

  /** From now on, a connection stands only as long as a request on it has no answer yet. */
  close(): void {
    this.#closingSince ??= performance.now()
  }

  /** Ends every connection, whatever waits for an answer on it. */
  cut(): void {
    for (const { socket } of this.#open.values()) socket.destroy()
  }

  #add(socket: Socket): void {
    const key = keyOf(socket)
    const connection: Connection = {
      socket,
      requests: new Set(),
      standing: 'new',
      openedAt: performance.now(),
    }
    if (this.#open.size >= this.most) this.#makeRoom(socket)
    if (socket.destroyed) return
    this.#open.set(key, connection)
    socket.once('close', () => {
      if (this.#open.get(key) === connection) this.#open.delete(key)
    })
  }

  #makeRoom(newcomer: Socket): void {
    const time = performance.now()
    const key = this.#leastWorthy(time)
    const connection = key === undefined ? undefined : this.#open.get(key)
    if (key !== undefined) this.#open.delete(key)
    ;(connection?.socket ?? newcomer).destroy()
    if (time - this.#loggedAt < messageIntervalMs) return
    this.#loggedAt = time
    this.log(
      `all ${this.most} connections are taken (maxConnections, --max-connections): ` +
        (connection === undefined
          ? 'new ones are refused, as each waits for an answer'
          : 'new ones take the place of idle and slow ones'),
    )
  }

  /** @returns nothing when each waits for an answer */
  #leastWorthy(time: number): string | undefined {
    let found: string | undefined
    let least = Number.POSITIVE_INFINITY
    for (const [key, connection] of this.#open) {
      const worth = worthOf(connection, time)
      if (worth >= least || isAnswering(connection)) continue
      if (worth === 0) return key
      found = key
      least = worth
    }
    return found
  }

  #serve(request: IncomingMessage, response: ServerResponse): void {
    const key = keyOf(request.socket)
    const connection = this.#open.get(key)
    if (connection === undefined) return
    connection.requests.add(request)
    response.once('close', () => {
      connection.requests.delete(request)
      connection.standing = response.statusCode < 400 ? 'served' : 'refused'
      if (this.#open.get(key) !== connection) return
      // The last one in the order of idleness.
      this.#open.delete(key)
      this.#open.set(key, connection)
    })
  }

  #check(): void {
    const time = performance.now()
    const isClosing = time - (this.#closingSince ?? time) >= closingMs
    for (const connection of this.#open.values()) {
      const { socket } = connection
      connection.unreadSince = socket.writableLength > 0 ? (connection.unreadSince ?? time) : undefined
      const isUnread = time - (connection.unreadSince ?? time) >= (isClosing ? closingMs : unreadMs)
      if (isUnread || (isClosing && !isAnswering(connection))) socket.destroy()
    }
  }
}
