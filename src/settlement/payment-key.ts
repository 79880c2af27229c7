/** The identity of a payment on its chain: what can be spent once only. */
import type { PaymentRequirements } from '@x402/core/types'
import { foldAddress } from '../address.ts'
import { InvalidPaymentError } from '../errors.ts'
import { sha256 } from '../hash.ts'
import type { SettlementSummary } from '../observe/events.ts'
import type { Payment } from '../payment.ts'
import { caip2 } from './networks.ts'
import { fromBase64, messageOfSvm } from './svm-transaction.ts'

/** What a chain must be asked to know whether a payment has been made. */
export interface SettlementQuery {
  /** How the authorization is spent. */
  readonly method: 'eip3009' | 'permit2' | 'svm' | 'payload'
  /** CAIP-2, whatever the protocol version. */
  readonly network: string
  /** The token, as the requirements name it. */
  readonly asset: string
  /** Absent on SVM, where the transaction tells. */
  readonly payer?: string | undefined
  /** What the token or Permit2 accepts once; on SVM the hash of the transaction's message. */
  readonly nonce: string
  readonly payTo: string
  /** Atomic units that must have moved at least. */
  readonly amount: string
  /** Unix time in seconds after which the authorization cannot be used any more; absent where it does not say. */
  readonly validBefore?: number | undefined
}

/** A payment that can be told from every other one. */
export interface KeyedPayment {
  readonly key: string
  /** Equal for equal payload and requirements only: who sends it again means the same purchase. */
  readonly fingerprint: string
  readonly query: SettlementQuery
}

/** What outsiders may know of a payment. */
export function summaryOf({
  key,
  query: { network, payer, payTo, asset, amount },
}: Pick<KeyedPayment, 'key' | 'query'>): SettlementSummary & { readonly key: string } {
  return { key, network, payer, payTo, asset, amount }
}

/** With `upto` a payment may be settled again at another amount: either may be what was charged. */
export function withLesserAmount(one: SettlementQuery, other: SettlementQuery): SettlementQuery {
  return BigInt(other.amount) < BigInt(one.amount) ? { ...one, amount: other.amount } : one
}

/** Payment flows that settle one payload once. In an escrow, two phases share a payload. */
const onePhaseFlows = new Set<unknown>([undefined, null, 'authorization', 'upfront'])

/**
 * The identity of a payment; `undefined` for schemes whose replay protection is not known here. A promise on SVM only,
 * where it is a hash.
 *
 * @throws {InvalidPaymentError} for a payment whose identity is in doubt: what one facilitator reads as another payment
 * than the next could be delivered twice
 */
export function identify(payment: Payment): KeyedPayment | undefined | Promise<KeyedPayment | undefined> {
  const { scheme, requirements } = payment
  const network = caip2(payment.network)
  const content = payment.payload.payload
  if (network === undefined || !onePhaseFlows.has(requirements.extra?.paymentFlow)) return undefined

  rejectTwins(payment.payload, '')
  rejectTwins(content, '.payload')
  if (network.startsWith('solana:'))
    return scheme === 'exact' ? readSvm(content).then(spend => keyed(payment, network, spend)) : undefined
  const spend = scheme === 'exact' || scheme === 'upto' ? readEvm(scheme, content) : undefined
  return spend && keyed(payment, network, spend)
}

function readEvm(scheme: string, content: Record<string, unknown>): Spend | undefined {
  const authorization = content.authorization ?? undefined
  const permit2Authorization = content.permit2Authorization ?? undefined
  if (authorization !== undefined && permit2Authorization !== undefined)
    throw wrong('', 'has both authorization and permit2Authorization, of which facilitators may take either')
  if (permit2Authorization !== undefined) return readPermit2(permit2Authorization)
  return scheme === 'exact' && authorization !== undefined ? readEip3009(authorization) : undefined
}

function keyed({ scheme, requirements, payload }: Payment, network: string, spend: Spend): KeyedPayment {
  const { asset, payTo } = requirements
  const { signature, transaction } = payload.payload
  const amount = amountOf(requirements)
  const { method, payer, nonce, validBefore } = spend
  const scope = method === 'eip3009' ? foldAddress(asset) : ''
  return {
    key: `${method}|${network}|${scope}|${foldAddress(payer ?? '')}|${nonce}`,
    // With `upto` a payment is verified at its maximum and settled at what was used: one purchase.
    fingerprint: `${signature ?? transaction}|${foldAddress(asset)}|${foldAddress(payTo)}|${scheme === 'upto' ? '' : amount}`,
    query: { method, payer, nonce, validBefore, network, asset, payTo, amount },
  }
}

/** Payments of any scheme have a dozen at most; each is compared with each. */
const maxFields = 64

/** Go reads a field whatever the case of its name, and letters such as the long s for their plain ones. */
function rejectTwins(record: object, field: string): void {
  const names = Object.keys(record)
  if (names.length > maxFields)
    throw new InvalidPaymentError(`paymentPayload${field}`, `has more than ${maxFields} fields`)
  for (let i = 1; i < names.length; i++)
    for (let j = 0; j < i; j++)
      if (areTwins(names[i] ?? '', names[j] ?? ''))
        throw new InvalidPaymentError(
          `paymentPayload${field}`,
          `has "${names[i]}" twice, in different case, of which facilitators may take either`,
        )
}

function areTwins(one: string, other: string): boolean {
  if (one.length !== other.length) return false
  const [a, b] = [one.charCodeAt(0), other.charCodeAt(0)]
  // Plain letters that differ in more than their case: most names end here.
  if (a < 128 && b < 128 && (a | 32) !== (b | 32)) return false
  return one.toUpperCase().toLowerCase() === other.toUpperCase().toLowerCase()
}

type Spend = Pick<SettlementQuery, 'method' | 'payer' | 'nonce' | 'validBefore'>

function readEip3009(authorization: object): Spend {
  rejectTwins(authorization, '.payload.authorization')
  const { from, nonce, validBefore } = authorization as Record<string, unknown>
  return {
    method: 'eip3009',
    payer: hex(from, 20, '.authorization.from'),
    nonce: hex(nonce, 32, '.authorization.nonce').toLowerCase(),
    validBefore: seconds(validBefore),
  }
}

function readPermit2(authorization: object): Spend {
  rejectTwins(authorization, '.payload.permit2Authorization')
  const { from, nonce, deadline } = authorization as Record<string, unknown>
  let number: bigint
  try {
    number = BigInt(nonce as string)
  } catch {
    throw wrong('.permit2Authorization.nonce', 'expected a whole number')
  }
  return {
    method: 'permit2',
    payer: hex(from, 20, '.permit2Authorization.from'),
    nonce: number.toString(),
    validBefore: seconds(deadline),
  }
}

/**
 * A Solana transaction is its message and the signatures over it; the message alone is what may land once. Its bytes
 * are read to the last: what one facilitator reads over and the next does not would give one payment two keys.
 */
async function readSvm({ transaction }: Record<string, unknown>): Promise<Spend> {
  const bytes = typeof transaction === 'string' ? fromBase64(transaction) : undefined
  const message = bytes && messageOfSvm(bytes)
  if (message === undefined) throw wrong('.transaction', 'expected a Solana transaction in base64')
  return { method: 'svm', nonce: await sha256(message) }
}

/** In atomic units. Version 1 has another name for it. */
export function amountOf(requirements: PaymentRequirements): string {
  return 'amount' in requirements
    ? requirements.amount
    : (requirements as { maxAmountRequired: string }).maxAmountRequired
}

function seconds(value: unknown): number | undefined {
  const number = Number(value)
  return value !== undefined && Number.isFinite(number) ? number : undefined
}

/** The same bytes begin with `0x` here, whatever the payload's spelling. */
function hex(value: unknown, bytes: number, field: string): string {
  if (typeof value === 'string' && hexadecimal.test(value)) {
    const hasPrefix = value[1] === 'x'
    if (value.length === bytes * 2 + (hasPrefix ? 2 : 0)) return hasPrefix ? value : `0x${value}`
  }
  throw wrong(field, `expected ${bytes} bytes in hexadecimal`)
}

function wrong(field: string, problem: string): InvalidPaymentError {
  return new InvalidPaymentError(`paymentPayload.payload${field}`, problem)
}

const hexadecimal = /^(?:0x)?[0-9a-fA-F]*$/
