/** Identified payments on Node's `http`, and the frameworks on top of it. */
import { toJson } from '../../runtime/json.ts'
import { lowerCased, presentedPayment, saysSettled } from '../headers.ts'
import type { NodeRequest, NodeResponse } from '../node-reply.ts'
import { Recording } from './recording.ts'
import type { PaidRequest, Reply } from './replies.ts'

/** An `http.IncomingMessage`, with what Express adds. */
export interface IdentifiableRequest extends NodeRequest {
  readonly method?: string | undefined
  readonly url?: string | undefined
  readonly originalUrl?: string | undefined
  /** As a body parser in front has read it. */
  readonly body?: unknown
}

/** An `http.ServerResponse`, whose reply is recorded. */
export interface RecordableResponse extends NodeResponse {
  readonly statusCode: number
  getHeaders(): Readonly<Record<string, unknown>>
  write(...args: unknown[]): boolean
}

/** What a request asks for; nothing where there is no payment. */
export function paidNodeRequest(request: IdentifiableRequest): PaidRequest | undefined {
  const { headers, method = 'GET', url, originalUrl, body } = request
  const payment = presentedPayment(name => headers[name]?.toString())
  return payment === undefined
    ? undefined
    : { method, url: `${originalUrl ?? url}`, body: toJson(body) ?? '', payment }
}

export function sendReply(response: RecordableResponse, { status, headers, body }: Reply): void {
  response.writeHead(status, headers.flat())
  response.end(Uint8Array.from(atob(body), letter => letter.charCodeAt(0)))
}

/** The reply is kept once its last byte was handed to the system. */
export function recordNodeReply(
  response: RecordableResponse,
  end: (reply: Reply | undefined) => Promise<void>,
): void {
  const recording = new Recording()
  let written: Record<string, unknown> = {}
  let isSent = false
  const { write, writeHead, end: endResponse } = response
  const add = ([chunk, encoding]: unknown[]) => {
    if (chunk instanceof Uint8Array) recording.add(chunk)
    else if (typeof chunk === 'string') recording.add(bytesOf(chunk, encoding))
  }
  response.writeHead = (...args) => {
    written = lowerCased(args.at(-1))
    return writeHead.apply(response, args)
  }
  response.write = (...args) => {
    add(args)
    return write.apply(response, args)
  }
  response.end = (...args) => {
    // Node's `end` may call `write` with what it was given.
    response.write = write
    add(args)
    return endResponse.apply(response, args)
  }
  response.on('finish', () => {
    isSent = true
  })
  response.on('close', () => {
    const headers = { ...response.getHeaders(), ...written }
    const isKept = isSent && saysSettled(name => headers[name])
    const reply = isKept ? recording.reply(response.statusCode, listed(headers)) : undefined
    // What cannot be kept is the store's trouble, not the buyer's, who has the reply.
    end(reply).catch(() => {})
  })
}

function bytesOf(text: string, encoding: unknown): Uint8Array {
  const isBinary = encoding === 'latin1' || encoding === 'binary'
  return isBinary ? Uint8Array.from(text, letter => letter.charCodeAt(0)) : new TextEncoder().encode(text)
}

/** Those of one connection are not for the next one. */
const ofConnection = ['connection', 'keep-alive', 'transfer-encoding', 'date']

function listed(headers: Readonly<Record<string, unknown>>): [string, string][] {
  return Object.entries(headers)
    .filter(([name, value]) => value !== undefined && !ofConnection.includes(name))
    .flatMap(([name, value]) =>
      (Array.isArray(value) ? value : [value]).map((one): [string, string] => [name, `${one}`]),
    )
}
