/** Payments and facilitators for tests, each with everything right unless a test changes it. */
import type {
  PaymentPayload,
  PaymentRequirements,
  SettleResponse,
  SupportedKind,
  VerifyResponse,
} from '@x402/core/types'
import type { PaymentPayloadV1, PaymentRequirementsV1 } from '@x402/core/types/v1'
import { expect, vi } from 'vitest'
import {
  type AggregatorOptions,
  type CallOptions,
  type ChainReader,
  FacilitatorAggregator,
  type FacilitatorClientLike,
  type MemoryLedger,
  type ProbeAnswer,
  type SettlementLedger,
  type SettlementOptions,
  type SettlementProbe,
  type SupportedAnswer,
} from '../../src/index.ts'
import { type LedgerStore, sharedLedger } from '../../src/ledger/index.ts'
import { settlementProbe } from '../../src/probe/index.ts'

export const network = 'eip155:84532'
export const payer = '0x1111111111111111111111111111111111111111'
export const signature = `0x${'ab'.repeat(65)}`

export function requirements(overrides: Partial<PaymentRequirements> = {}): PaymentRequirements {
  return {
    scheme: 'exact',
    network,
    asset: '0x036CbD53842c5426634e7929541eC2318f3dCF7e',
    amount: '10000',
    payTo: '0x2222222222222222222222222222222222222222',
    maxTimeoutSeconds: 60,
    extra: { name: 'USDC', version: '2' },
    ...overrides,
  }
}

/** The same for every payment of a run, so that equal payments are equal whenever they are made. */
const validBefore = String(Math.floor(Date.now() / 1000) + 600)

export function payload(overrides: Partial<PaymentPayload> = {}): PaymentPayload {
  return {
    x402Version: 2,
    accepted: requirements(),
    payload: {
      signature,
      authorization: {
        from: payer,
        to: requirements().payTo,
        value: '10000',
        validBefore,
        nonce: `0x${'01'.repeat(32)}`,
      },
    },
    ...overrides,
  }
}

let payments = 0

/** A payment that nobody has seen before. */
export function newPayload(overrides: Partial<PaymentPayload> = {}): PaymentPayload {
  const nonce = `0x${(++payments).toString(16).padStart(64, '0')}`
  const fresh = payload(overrides)
  const authorization = { ...(fresh.payload.authorization as object), nonce }
  return { ...fresh, payload: { ...fresh.payload, authorization } }
}

/** A Solana transaction of one signature and one instruction. */
export function svmTransaction(signature: number, blockhash: number): number[] {
  const message = [1, 0, 1, 2, ...Array(64).fill(5), ...Array(32).fill(blockhash), 1, 1, 1, 0, 2, 7, 7]
  return [1, ...Array(64).fill(signature), ...message]
}

let blockhash = 0

/** A payment on Solana that nobody has seen before. */
export function newSvmPayload(transaction = svmTransaction(9, ++blockhash)): PaymentPayload {
  return payload({ payload: { transaction: Buffer.from(transaction).toString('base64') } })
}

export function requirementsV1(overrides: Partial<PaymentRequirementsV1> = {}): PaymentRequirementsV1 {
  return {
    scheme: 'exact',
    network: 'base-sepolia' as PaymentRequirementsV1['network'],
    maxAmountRequired: '10000',
    resource: 'https://shop.example/goods',
    description: 'goods',
    mimeType: 'application/json',
    outputSchema: {},
    payTo: '0x2222222222222222222222222222222222222222',
    maxTimeoutSeconds: 60,
    asset: '0x036CbD53842c5426634e7929541eC2318f3dCF7e',
    extra: { name: 'USDC', version: '2' },
    ...overrides,
  }
}

export function payloadV1(): PaymentPayloadV1 {
  return {
    x402Version: 1,
    scheme: 'exact',
    network: 'base-sepolia' as PaymentPayloadV1['network'],
    payload: payload().payload,
  }
}

export const valid: VerifyResponse = { isValid: true, payer }
export const settled: SettleResponse = { success: true, transaction: `0x${'cd'.repeat(32)}`, network, payer }

/** The transaction that the chain names. */
export const hash = `0x${'ef'.repeat(32)}`
export const paid = {
  state: 'paid',
  transaction: hash,
  payer,
  minedAt: 4_000_000_000,
  asOf: 4_000_000_000,
} as const satisfies ProbeAnswer
/** Paid by a block of this time (Unix s), as is known now. */
export function paidAt(minedAt: number): ProbeAnswer {
  return {
    ...paid,
    minedAt,
    get asOf() {
      return Math.max(minedAt, Date.now() / 1000)
    },
  }
}
/** As of a block that has just been made. */
export const unspent: ProbeAnswer = {
  state: 'unspent',
  get asOf() {
    return Math.ceil(Date.now() / 1000)
  },
}
export const silent: ProbeAnswer = { state: 'cannot-tell', reason: 'node down' }

export function refusal(errorReason: string, transaction = ''): SettleResponse {
  return { success: false, errorReason, transaction, network, payer }
}

export function kind(overrides: Partial<SupportedKind> = {}): SupportedKind {
  return { x402Version: 2, scheme: 'exact', network, ...overrides }
}

export function supporting(...kinds: SupportedKind[]): SupportedAnswer {
  return { kinds: kinds.length > 0 ? kinds : [kind()], extensions: [], signers: {} }
}

type Answer<T> = T | Error | ((options: CallOptions | undefined) => T | Promise<T>)

/** A facilitator in the test's hand: what it answers may be changed at any time, and its calls are counted. */
export class FakeFacilitator implements FacilitatorClientLike {
  verifyAnswer: Answer<VerifyResponse> = valid
  settleAnswer: Answer<SettleResponse> = settled
  supportedAnswer: Answer<SupportedAnswer> = supporting()
  readonly calls = { verify: 0, settle: 0, supported: 0 }

  constructor(
    answers: Partial<Pick<FakeFacilitator, 'verifyAnswer' | 'settleAnswer' | 'supportedAnswer'>> = {},
  ) {
    Object.assign(this, answers)
  }

  async verify(_payload: unknown, _requirements: unknown, options?: CallOptions): Promise<VerifyResponse> {
    this.calls.verify++
    return give(this.verifyAnswer, options)
  }

  async settle(_payload: unknown, _requirements: unknown, options?: CallOptions): Promise<SettleResponse> {
    this.calls.settle++
    return give(this.settleAnswer, options)
  }

  async getSupported(options?: CallOptions): Promise<SupportedAnswer> {
    this.calls.supported++
    return give(this.supportedAnswer, options)
  }
}

/** What `fetch` throws when nobody listens. */
export function refused(): Error {
  return new TypeError('fetch failed', {
    cause: Object.assign(new Error('connect'), { code: 'ECONNREFUSED' }),
  })
}

/** What upstream's client throws for an answer without a protocol body. */
export function httpError(status: number): Error {
  return new Error(`Facilitator verify failed (${status}): <html>`)
}

/** An answer that never comes. */
export function hanging(): Promise<never> {
  return new Promise(() => {})
}

async function give<T>(answer: Answer<T>, options: CallOptions | undefined): Promise<T> {
  if (answer instanceof Error) throw answer
  return typeof answer === 'function'
    ? (answer as (options: CallOptions | undefined) => T | Promise<T>)(options)
    : answer
}

const realSetTimeout = setTimeout

/** Lets fake time pass until `work` is done, and now and then real time too: a digest is made by another thread. */
export async function done<T>(work: Promise<T>): Promise<T> {
  let isDone = false
  const end = () => {
    isDone = true
  }
  work.then(end, end)
  for (let i = 1; i <= 2_000 && !isDone; i++) {
    await vi.advanceTimersByTimeAsync(50)
    if (i % 50 === 0) await new Promise(resolve => realSetTimeout(resolve, 1))
  }
  expect(isDone).toBe(true)
  return work
}

/** Waits `ms` (ms). */
export const after = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** `success`, `refused: <reason>`, or the code of what was thrown. */
export const outcome = (settling: Promise<{ success: boolean; errorReason?: string }>) =>
  settling.then(
    answer => (answer.success ? 'success' : `refused: ${answer.errorReason}`),
    (error: { code?: string }) => error.code ?? `threw ${error}`,
  )

/** A ledger that does some things its own way. */
export function ledgerWith(inner: MemoryLedger, overrides: Partial<LedgerStore>): SettlementLedger {
  return sharedLedger({
    claim: request => inner.claim(request),
    update: update => inner.update(update),
    get: key => inner.get(key),
    list: filter => inner.list(filter),
    undelivered: query => inner.undelivered(query),
    ...overrides,
  })
}

export function permit2Payload(nonce = '77', deadline = '4000000000'): PaymentPayload {
  const signed = newPayload()
  const { payTo, asset } = requirements()
  const permit2Authorization = {
    permitted: { token: asset, amount: '10000' },
    from: payer,
    nonce,
    deadline,
    spender: payTo,
    witness: {},
  }
  return { ...signed, payload: { signature: signed.payload.signature, permit2Authorization } }
}

/** What a chain answers: one thing, or one for each question in turn, the last one for good. */
export type ChainScript = ProbeAnswer | ProbeAnswer[]

export function nextAnswer(script: ChainScript): ProbeAnswer {
  if (!Array.isArray(script)) return script
  return (script.length > 1 ? script.shift() : script[0]) ?? silent
}

export function probeOf(answer: () => ProbeAnswer): SettlementProbe {
  return settlementProbe({ supports: () => true, ask: async () => answer() })
}

/** As the options have them, but that a reader does for a probe. */
export interface SettlementByReaders extends Omit<SettlementOptions, 'probes'> {
  readonly probes?: readonly (ChainReader | SettlementProbe)[]
}

function withProbes({ probes, ...settlement }: SettlementByReaders): SettlementOptions {
  if (probes === undefined) return settlement
  return { ...settlement, probes: probes.map(one => ('connect' in one ? one : settlementProbe(one))) }
}

/** An aggregator over these, in their order, that nobody else asks anything. */
export function aggregatorOf(
  clients: Readonly<Record<string, FakeFacilitator>>,
  settlement: SettlementByReaders = {},
  options: Partial<AggregatorOptions> = {},
): FacilitatorAggregator {
  return new FacilitatorAggregator({
    facilitators: Object.entries(clients).map(([id, client]) => ({ id, client })),
    healthCheck: false,
    logger: false,
    settlement: withProbes(settlement),
    ...options,
  })
}
