/** Keeps a payment in doubt from being made again at a server of the Model Context Protocol. */
import { type FacilitatorClient, FacilitatorResponseError } from '@x402/core/server'
import type { FacilitatorAggregator } from '../../aggregator.ts'
import type { AnyPaymentPayload, AnyPaymentRequirements } from '../../payment/payment.ts'
import { isRecord } from '../../runtime/json.ts'
import { type OpenRequest, OpenRequests } from '../open-requests.ts'
import { replyReports } from '../reply-reports.ts'
import { doNotPayAgain, isSettled, paymentKey } from './answers.ts'
import { Doubts } from './doubts.ts'

/** The aggregator, as a guard uses it. */
export type GuardedAggregator = Pick<FacilitatorAggregator, 'verify' | 'settle' | 'getSupported' | 'attend'>

/** Settles through the aggregator for MCP servers, and protects them. */
export interface McpGuard extends FacilitatorClient {
  /**
   * Protects a server's tools, with whatever payment wrapper: a payment that is in doubt, or being settled, is answered
   * by an error of the tool that says not to pay again, never by a request for payment. A result that does not reach the
   * client is delivered for the same payment once more: when the call was cancelled, or the transport cannot send it. One
   * that answers in JSON (`enableJsonResponse`) does not notice that; close the server with its request then, as the
   * SDK's examples do.
   *
   * @param server an `McpServer` or `Server` of `@modelcontextprotocol/sdk`, before its first tool
   * @returns the same server
   * @throws {TypeError} for anything else, and for a server that has tools
   */
  protect<S extends object>(server: S): S
}

/**
 * Guards MCP servers whose tools are paid for. Payment wrappers, upstream's among them, answer whatever a settle throws
 * with a request for payment, so that a client whose payment may have been charged pays again.
 *
 * @param aggregator the one that settles the tools' payments
 *
 * @example
 * ```ts
 * const guard = guardMcp(aggregator)
 * const resourceServer = new x402ResourceServer(guard)
 * const server = guard.protect(new McpServer({ name: 'weather', version: '1.0.0' }))
 * ```
 */
export function guardMcp(aggregator: GuardedAggregator): McpGuard {
  const doubts = new Doubts()
  const requests = new OpenRequests(replyReports(aggregator))
  const noting = async <T>(payload: AnyPaymentPayload, answer: Promise<T>): Promise<T> => {
    try {
      return await answer
    } catch (error) {
      if (error instanceof FacilitatorResponseError) await doubts.note(payload, error)
      throw error
    }
  }
  return {
    verify: (payload: AnyPaymentPayload, requirements: AnyPaymentRequirements) =>
      noting(payload, aggregator.verify(payload, requirements)),
    settle: (payload: AnyPaymentPayload, requirements: AnyPaymentRequirements) =>
      noting(payload, aggregator.settle(payload, requirements)),
    getSupported: () => aggregator.getSupported(),
    protect(server) {
      protectHost(hostOf(server), doubts, requests)
      return server
    },
  }
}

type RequestId = string | number

/** What the SDK hands to the handler of a request, as far as it matters here. */
interface CallContext {
  readonly requestId: RequestId
  /** Aborts when the client cancels the call, or the connection ends. */
  readonly signal: AbortSignal
  /** As it was sent. */
  readonly _meta?: Readonly<Record<string, unknown>>
}

type Handler = (request: { readonly method: string }, context: CallContext) => unknown

interface Transport {
  send(message: { readonly id?: RequestId }, options?: unknown): Promise<void>
}

/** What is replaced of a server; the SDK has no hooks for it. */
interface Host {
  setRequestHandler(schema: unknown, handler: Handler): void
  assertCanSetRequestHandler(method: string): void
  connect(transport: Transport): Promise<void>
}

const toolCall = 'tools/call'

function hostOf(server: object): Host {
  const host = ('server' in server ? server.server : server) as Partial<Host> | undefined
  for (const method of ['setRequestHandler', 'assertCanSetRequestHandler', 'connect'] as const)
    if (typeof host?.[method] !== 'function')
      throw new TypeError('guardMcp: expected an McpServer or a Server of @modelcontextprotocol/sdk')
  return host as Host
}

function protectHost(host: Host, doubts: Doubts, requests: OpenRequests): void {
  try {
    host.assertCanSetRequestHandler(toolCall)
  } catch (cause) {
    throw new TypeError('guardMcp: protect the server before its first tool is registered', { cause })
  }
  const replies = new Replies()

  const setRequestHandler = host.setRequestHandler.bind(host)
  host.setRequestHandler = (schema, handler) =>
    setRequestHandler(schema, (request, context) => {
      const payload = request.method === toolCall ? context._meta?.[paymentKey] : undefined
      const work = () => handler(request, context)
      return isRecord(payload) ? answerPaid(payload, context, work) : work()
    })

  const connect = host.connect.bind(host)
  host.connect = transport => {
    replies.follow(transport)
    return connect(transport)
  }

  async function answerPaid(payload: unknown, context: CallContext, work: () => unknown): Promise<unknown> {
    const { signal } = context
    const open = requests.begin(payload)
    const abandon = () => open?.abandon()
    signal.addEventListener('abort', abandon, { once: true })
    const doubt = await doubts.begin(payload)
    try {
      const result = await work()
      const isError = isRecord(result) && result.isError === true
      const answer = isError && doubt.error ? doNotPayAgain(doubt.error) : result
      if (open && isSettled(answer)) replies.expect(context, open)
      else open?.end()
      return answer
    } catch (error) {
      open?.end()
      if (doubt.error) return doNotPayAgain(doubt.error)
      throw error
    } finally {
      doubt.end()
      signal.removeEventListener('abort', abandon)
    }
  }
}

/** The results of settled calls on their way to the client. */
class Replies {
  readonly #expected = new Map<RequestId, OpenRequest>()

  /** It is lost when its call was cancelled, or is before it is sent: then nothing is. */
  expect({ requestId, signal }: CallContext, open: OpenRequest): void {
    if (signal.aborted) open.lose()
    else {
      this.#expected.set(requestId, open)
      signal.addEventListener('abort', () => this.#take(requestId, open)?.lose(), { once: true })
    }
  }

  /** It is lost when the transport cannot send it. */
  follow(transport: Transport): void {
    const send = transport.send.bind(transport)
    transport.send = async (message, options) => {
      const open = 'result' in message ? this.#take(message.id) : undefined
      try {
        await send(message, options)
        open?.end()
      } catch (error) {
        open?.lose()
        throw error
      }
    }
  }

  #take(id: RequestId | undefined, expected?: OpenRequest): OpenRequest | undefined {
    const open = id === undefined ? undefined : this.#expected.get(id)
    if (id === undefined || (expected && open !== expected)) return undefined
    this.#expected.delete(id)
    return open
  }
}
