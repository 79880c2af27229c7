/** One purchase for each payment identifier, in each framework. */
import type { FacilitatorAggregator } from '../../aggregator.ts'
import { type HonoContext, setReply } from '../hono.ts'
import {
  type IdentifiableRequest,
  paidNodeRequest,
  type RecordableResponse,
  recordNodeReply,
  sendReply,
} from './node.ts'
import { IdentifiedReplies } from './replies.ts'
import { MemoryReplyStore, type ReplyStore } from './reply-store.ts'
import { paidWebRequest, recordWebReply, responseOf } from './web.ts'

export interface IdentifyOptions {
  /**
   * Where the replies are kept; replicas share one.
   * @default new MemoryReplyStore()
   */
  store?: ReplyStore
  /**
   * Milliseconds for which a reply is kept.
   * @default 86400000
   */
  keepMs?: number
}

/** The same for each framework; put it in front of `trackDelivery` and of the payments' middleware. */
export interface IdentifiedPayments {
  /** For Express, and others with `(req, res, next)`: `app.use(identified.express)`, behind the body's parser. */
  readonly express: (
    request: IdentifiableRequest,
    response: RecordableResponse,
    next: (error?: unknown) => void,
  ) => Promise<void>
  /** For Hono: `app.use(identified.hono)`. */
  readonly hono: (context: HonoContext, next: () => Promise<unknown>) => Promise<void>
  /** For Next, and whatever answers a `Request` with a `Response`: `export const GET = identified.fetch(handler)`. */
  readonly fetch: <R extends Request, Rest extends unknown[]>(
    handler: (request: R, ...rest: Rest) => Response | Promise<Response>,
  ) => (request: R, ...rest: Rest) => Promise<Response>
}

/**
 * Sells once for each identifier of upstream's extension `payment-identifier`. A request that repeats one gets the reply
 * that was delivered before, without another charge, whether it presents the same payment or one that the same payer has
 * signed anew; a request for something else, or of another payer, is answered 409. Only replies to settled payments are
 * kept, up to 256 KiB each, so that after any other end the purchase goes on where it stands.
 *
 * Whoever knows an identifier and the payment gets the reply again: a buyer must not use identifiers that can be guessed.
 *
 * @param aggregator the one that settles these payments; it verifies those that are signed anew
 * @throws {TypeError} for a `keepMs` that is no number above 0
 *
 * @example
 * ```ts
 * app.use(identifyPayments(aggregator).express)
 * app.use(trackDelivery(aggregator).express)
 * app.use(paymentMiddleware(routes, server))
 * ```
 */
export function identifyPayments(
  aggregator: Pick<FacilitatorAggregator, 'verify'>,
  { store = new MemoryReplyStore(), keepMs = 86_400_000 }: IdentifyOptions = {},
): IdentifiedPayments {
  if (!(keepMs > 0)) throw new TypeError(`identifyPayments: keepMs: expected a number above 0, got ${keepMs}`)
  const replies = new IdentifiedReplies(aggregator, store, keepMs)
  return {
    async express(request, response, next) {
      const course = await replies.courseOf(paidNodeRequest(request))
      if (course?.kind === 'reply') return sendReply(response, course.reply)
      if (course) recordNodeReply(response, course.end)
      next()
    },
    async hono(context, next) {
      const course = await replies.courseOf(await paidWebRequest(context.req.raw))
      const { outgoing } = (context.env ?? {}) as { outgoing?: RecordableResponse }
      if (course?.kind === 'reply') setReply(context, responseOf(course.reply))
      else if (course && !outgoing) {
        const made = async () => {
          await next()
          return context.res
        }
        setReply(context, await recordWebReply(made, course.end))
      } else {
        if (course && outgoing) recordNodeReply(outgoing, course.end)
        await next()
      }
    },
    fetch:
      handler =>
      async (request, ...rest) => {
        const course = await replies.courseOf(await paidWebRequest(request))
        if (course?.kind === 'reply') return responseOf(course.reply)
        const respond = () => handler(request, ...rest)
        return course ? recordWebReply(respond, course.end) : respond()
      },
  }
}
