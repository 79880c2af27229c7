/** A reply of the web's standard: a `Response`, whose body somebody reads. */
import { presentedPayment, saysSettled } from './headers.ts'
import type { OpenRequest, OpenRequests } from './open-requests.ts'

/**
 * Follows the reply that `respond` makes. It is lost when the body is cancelled, or fails, before its last byte was
 * read, or the request was aborted before that.
 */
export async function followWebReply(
  requests: OpenRequests,
  request: Request,
  respond: () => Response | Promise<Response>,
): Promise<Response> {
  const open = requests.begin(presentedPayment(name => request.headers.get(name)))
  if (open === undefined) return respond()
  const abandon = () => open.abandon()
  const { signal } = request
  signal.addEventListener('abort', abandon, { once: true })
  let response: Response
  try {
    response = await respond()
  } catch (error) {
    open.end()
    throw error
  } finally {
    signal.removeEventListener('abort', abandon)
  }
  if (!saysSettled(name => response.headers.get(name))) open.end()
  else if (signal.aborted) open.lose()
  else if (response.body === null) open.end()
  else return new Response(followed(response.body, open, signal), response)
  return response
}

function followed(
  body: ReadableStream<Uint8Array>,
  open: OpenRequest,
  signal: AbortSignal,
): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  return new ReadableStream({
    async pull(controller) {
      try {
        const { done, value } = await reader.read()
        if (!done) return controller.enqueue(value)
        // Who sends it may read ahead of what the connection takes.
        if (signal.aborted) open.lose()
        else open.end()
        controller.close()
      } catch (error) {
        open.lose()
        controller.error(error)
      }
    },
    cancel(reason) {
      open.lose()
      return reader.cancel(reason)
    },
  })
}
