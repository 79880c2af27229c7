/** What is known here of Hono. */

/** What Hono hands to its middleware. */
export interface HonoContext {
  /** On Node it holds the request and the response below. */
  readonly env: unknown
  readonly req: { readonly raw: Request }
  get res(): Response
  set res(response: Response | undefined)
}

/** Hands a reply to Hono, which otherwise adds the headers of the one before. */
export function setReply(context: HonoContext, reply: Response): void {
  context.res = undefined
  context.res = reply
}
