import type { PaymentPayload, PaymentRequirements, SettleResponse, VerifyResponse } from '@x402/core/types'

/** Which part of the discovery list to fetch (`GET /discovery/resources`). */
export interface DiscoveryQuery {
  /** Only resources of this type, such as `http`. */
  readonly type?: string
  /** At most this many items. */
  readonly limit?: number
  /** Skip this many items. */
  readonly offset?: number
}

/** What `GET /discovery/resources` answers. */
export interface DiscoveryResponse {
  x402Version: number
  items: unknown[]
  pagination?: { limit: number; offset: number; total: number }
  [field: string]: unknown
}

/** The last argument of every call that the aggregator makes; clients that know no signal ignore it. */
export interface CallOptions {
  /** Aborts when the attempt's timeout has passed or the aggregator is stopped. */
  readonly signal: AbortSignal
}

/** Kinds, extensions, and signers of each family, that are read of what one facilitator advertises; and families. */
export const maxKinds = 256
export const maxFamilies = 32

/** What a facilitator says it supports, as loosely typed as an in-process `x402Facilitator` returns it. */
export interface SupportedAnswer {
  kinds: { x402Version: number; scheme: string; network: string; extra?: Record<string, unknown> }[]
  extensions: string[]
  signers: Record<string, string[]>
}

/**
 * Anything that can be a member of the pool: upstream's `HTTPFacilitatorClient`, Coinbase CDP's client, an
 * in-process `x402Facilitator`, or your own. Methods as in upstream's `FacilitatorClient`; answers may come
 * at once or as promises.
 */
export interface FacilitatorClientLike {
  verify(
    payload: PaymentPayload,
    requirements: PaymentRequirements,
    options?: CallOptions,
  ): Promise<VerifyResponse>
  settle(
    payload: PaymentPayload,
    requirements: PaymentRequirements,
    options?: CallOptions,
  ): Promise<SettleResponse>
  getSupported(options?: CallOptions): SupportedAnswer | Promise<SupportedAnswer>
  list?(query?: DiscoveryQuery, options?: CallOptions): Promise<DiscoveryResponse>
}
