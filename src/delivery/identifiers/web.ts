/** Identified payments where a `Request` is answered with a `Response`. */
import { presentedPayment, saysSettled } from '../headers.ts'
import { Recording } from './recording.ts'
import type { PaidRequest, Reply } from './replies.ts'

/** What a request asks for; nothing where there is no payment. */
export async function paidWebRequest(request: Request): Promise<PaidRequest | undefined> {
  const payment = presentedPayment(name => request.headers.get(name))
  if (payment === undefined) return undefined
  // Replicas and proxies have other names for the same host.
  const { pathname, search } = new URL(request.url)
  const body = request.body === null ? '' : await request.clone().text()
  return { method: request.method, url: pathname + search, body, payment }
}

/** Follows the reply that `respond` makes, and has it kept once its last byte was read. */
export async function recordWebReply(
  respond: () => Response | Promise<Response>,
  end: (reply: Reply | undefined) => Promise<void>,
): Promise<Response> {
  let response: Response
  try {
    response = await respond()
  } catch (error) {
    await end(undefined)
    throw error
  }
  const isSettled = saysSettled(name => response.headers.get(name))
  const recording = new Recording()
  const reply = () => recording.reply(response.status, [...response.headers])
  if (isSettled && response.body !== null) {
    const body = recorded(response.body, recording, isRead => end(isRead ? reply() : undefined))
    return new Response(body, response)
  }
  // What cannot be kept is the store's trouble, not the buyer's, who has the reply.
  await end(isSettled ? reply() : undefined).catch(() => {})
  return response
}

export function responseOf({ status, headers, body }: Reply): Response {
  const bytes = Uint8Array.from(atob(body), letter => letter.charCodeAt(0))
  return new Response(bytes, {
    status,
    headers: headers.map(([name, value]): [string, string] => [name, value]),
  })
}

/** @param end is told whether the body was read to its end */
function recorded(
  body: ReadableStream<Uint8Array>,
  recording: Recording,
  end: (isRead: boolean) => Promise<void>,
): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  const conclude = (isRead: boolean) => end(isRead).catch(() => {})
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read()
        if (!done) {
          recording.add(value)
          return controller.enqueue(value)
        }
        await conclude(true)
        controller.close()
      } catch (error) {
        await conclude(false)
        controller.error(error)
      }
    },
    async cancel(reason) {
      await conclude(false)
      await reader.cancel(reason)
    },
  })
}
