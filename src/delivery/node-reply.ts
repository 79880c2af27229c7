/** A reply of Node's `http`, and of the frameworks on top of it. */
import { lowerCased, presentedPayment, saysSettled } from './headers.ts'
import type { OpenRequests } from './open-requests.ts'

/** An `http.IncomingMessage`, of which the headers are read. */
export interface NodeRequest {
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
}

/** An `http.ServerResponse`. */
export interface NodeResponse {
  on(event: 'finish' | 'close', listener: () => void): unknown
  getHeader(name: string): unknown
  writeHead(...args: unknown[]): unknown
  end(...args: unknown[]): unknown
}

/**
 * Follows the reply from its request to its end. It is lost when the connection closes before the last byte was handed to
 * the system, or has closed before the application ends it.
 */
export function followNodeReply(
  requests: OpenRequests,
  { headers }: NodeRequest,
  response: NodeResponse,
): void {
  const request = requests.begin(presentedPayment(name => headers[name]?.toString()))
  if (request === undefined) return
  let ended: 'not yet' | 'settled' | 'otherwise' = 'not yet'
  let isSent = false
  let isClosed = false
  /** Headers that are written at once are not among those that can be read. */
  let written: Record<string, unknown> = {}

  const { writeHead, end } = response
  response.writeHead = (...args) => {
    written = lowerCased(args.at(-1))
    return writeHead.apply(response, args)
  }
  response.end = (...args) => {
    const answer = end.apply(response, args)
    if (ended === 'not yet') {
      ended = saysSettled(name => written[name] ?? response.getHeader(name)) ? 'settled' : 'otherwise'
      if (isClosed && ended === 'settled') request.lose()
    }
    return answer
  }
  response.on('finish', () => {
    isSent = !isClosed
  })
  response.on('close', () => {
    isClosed = true
    if (isSent || ended === 'otherwise') request.end()
    else if (ended === 'settled') request.lose()
    else request.abandon()
  })
}
