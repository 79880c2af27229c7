/** Notices replies that do not reach their buyers, so that what was paid for can be delivered again. */
import { type HonoContext, setReply } from './hono.ts'
import { followNodeReply, type NodeRequest, type NodeResponse } from './node-reply.ts'
import { OpenRequests } from './open-requests.ts'
import { type Attended, replyReports } from './reply-reports.ts'
import { followWebReply } from './web-reply.ts'

export type { HonoContext } from './hono.ts'
export {
  type IdentifiedPayments,
  type IdentifyOptions,
  identifyPayments,
} from './identifiers/identify.ts'
export type { IdentifiableRequest, RecordableResponse } from './identifiers/node.ts'
export { MemoryReplyStore, type ReplyStore } from './identifiers/reply-store.ts'
export { type GuardedAggregator, guardMcp, type McpGuard } from './mcp/guard.ts'
export type { NodeRequest, NodeResponse } from './node-reply.ts'
export { type Attended, type ReplyReports, replyReports } from './reply-reports.ts'

/** The same for each framework; put it in front of the payments' middleware. */
export interface DeliveryTracking {
  /** For Express, and others with `(req, res, next)`: `app.use(delivery.express)`. */
  readonly express: (request: NodeRequest, response: NodeResponse, next: () => void) => void
  /** For Fastify: `fastify.addHook('onRequest', delivery.fastify)`. */
  readonly fastify: (
    request: { readonly raw: NodeRequest },
    reply: { readonly raw: NodeResponse },
  ) => Promise<void>
  /** For Hono: `app.use(delivery.hono)`. */
  readonly hono: (context: HonoContext, next: () => Promise<unknown>) => Promise<void>
  /** For Next, and whatever answers a `Request` with a `Response`: `export const GET = delivery.fetch(handler)`. */
  readonly fetch: <R extends Request, Rest extends unknown[]>(
    handler: (request: R, ...rest: Rest) => Response | Promise<Response>,
  ) => (request: R, ...rest: Rest) => Promise<Response>
}

/**
 * Follows the replies to requests with a payment. Of one that does not reach its buyer the payment may be presented
 * again, and is delivered without another charge, at most `settlement.redeliveries` times.
 *
 * A reply counts as lost when its connection ends before its last byte was handed to the system: what is lost behind
 * that, nobody sees. Payments of version 1 do not name their requirements, and are not followed.
 *
 * @param aggregator the one that settles these payments
 *
 * @example
 * ```ts
 * const delivery = trackDelivery(aggregator)
 * app.use(delivery.express)
 * app.use(paymentMiddleware(routes, server))
 * ```
 */
export function trackDelivery(aggregator: Attended): DeliveryTracking {
  const requests = new OpenRequests(replyReports(aggregator))
  return {
    express(request, response, next) {
      followNodeReply(requests, request, response)
      next()
    },
    async fastify(request, reply) {
      followNodeReply(requests, request.raw, reply.raw)
    },
    async hono(context, next) {
      const node = context.env as { incoming?: NodeRequest; outgoing?: NodeResponse } | undefined
      if (node?.incoming !== undefined && node.outgoing !== undefined) {
        followNodeReply(requests, node.incoming, node.outgoing)
        await next()
        return
      }
      let made: Response | undefined
      const followed = await followWebReply(requests, context.req.raw, async () => {
        await next()
        made = context.res
        return made
      })
      if (followed === made) return
      setReply(context, followed)
    },
    fetch:
      handler =>
      (request, ...rest) =>
        followWebReply(requests, request, () => handler(request, ...rest)),
  }
}
