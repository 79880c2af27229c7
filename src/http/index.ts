/**
 * Web-standard handlers, `Request` in and `Response` out: a gateway that looks like one facilitator, and the status
 * of an aggregator. Need hono.
 */
export type { AnswerStore } from '../ledgers/answer-store.ts'
export type { GatewayToken, Role } from './access.ts'
export type { ConnectionAddress } from './client-address.ts'
export { createGateway, type Gateway, type GatewayOptions, type RequestContext } from './gateway.ts'
export type { RateLimitOptions } from './rate-limit.ts'
export { createStatusHandler, type Status, type StatusHandlerOptions } from './status.ts'
