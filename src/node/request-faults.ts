/** Requests that one server reads otherwise than the next: what the handler cannot see any more, as its URL is tidied. */
import type { IncomingMessage, ServerResponse } from 'node:http'

/** A backslash or a dot segment, escaped or not, which URLs resolve. */
const ambiguousPath = /\\|\/(\.|%2e){1,2}(\/|$)/i

/** @returns what is wrong with it, if anything is */
export function faultOf({ rawHeaders, url = '' }: IncomingMessage): string | undefined {
  const hosts = rawHeaders.filter((name, index) => index % 2 === 0 && /^host$/i.test(name))
  if (hosts.length > 1) return 'it names more than one Host'
  const [path = ''] = url.split('?', 1)
  // A whole URL has a host of its own, beside that of the header.
  if (!path.startsWith('/')) return 'its target is not a path'
  return ambiguousPath.test(path) ? 'its path has dot segments or backslashes' : undefined
}

export function refuse(response: ServerResponse, fault: string): void {
  const body = JSON.stringify({ error: 'INVALID_REQUEST', message: `the request is ambiguous: ${fault}` })
  response.writeHead(400, { 'content-type': 'application/json', connection: 'close' }).end(body)
}
