/** The identity of a payment on its chain: what can be spent once only. */
import type { PaymentRequirements } from '@x402/core/types'
import { InvalidPaymentError } from '../errors.ts'
import { sha256 } from '../runtime/hash.ts'
import { isRecord } from '../runtime/json.ts'
import { foldAddress } from './address.ts'
import { plainName } from './names.ts'
import { caip2 } from './networks.ts'
import type { Payment } from './payment.ts'
import { fromBase64, readSvmTransaction } from './svm-transaction.ts'

/** What a chain must be asked to know whether a payment has been made. */
export interface SettlementQuery {
  /** How the authorization is spent; with `payload` nothing that is known here shows it on chain: no probe is asked. */
  readonly method: 'eip3009' | 'permit2' | 'svm' | 'payload'
  /** CAIP-2, whatever the protocol version; a version 1 name only where it is not known here. */
  readonly network: string
  /** The token, as the requirements name it. */
  readonly asset: string
  /** Absent on SVM, where the transaction tells, and where no authorization is known. */
  readonly payer?: string | undefined
  /** What the token or Permit2 accepts once; on SVM the hash of the transaction's message, otherwise of the payload. */
  readonly nonce: string
  readonly payTo: string
  /** Atomic units that must have moved at least. */
  readonly amount: string
  /** Unix time in seconds after which the authorization cannot be used any more; absent where it does not say. */
  readonly validBefore?: number | undefined
  /**
   * Seconds for which an authorization that names no end can be used at most, as a rule: a chain that stands still may
   * accept it later. Absent where nobody knows.
   */
  readonly lifetimeSeconds?: number | undefined
  /** What is bought, as the payload names it; of a long name its beginning. */
  readonly resource?: string | undefined
}

/** A payment that can be told from every other one. */
export interface KeyedPayment {
  readonly key: string
  /** Equal for equal payload and requirements only: who sends it again means the same purchase. */
  readonly fingerprint: string
  readonly query: SettlementQuery
}

/** With `upto` a payment may be settled again at another amount: either may be what was charged. */
export function withLesserAmount(one: SettlementQuery, other: SettlementQuery): SettlementQuery {
  return one.amount !== other.amount && BigInt(other.amount) < BigInt(one.amount)
    ? { ...one, amount: other.amount }
    : one
}

/** A blockhash is accepted for 150 slots: 60 s, or some minutes where slots are slow. */
const blockhashSeconds = 300

/** Characters of a signature that are kept as they are; a buyer chooses how long his is. */
const longestSignature = 256

/** Characters of a resource's name that are kept. */
const longestResource = 256

const contentPath = 'paymentPayload.payload'

/** Payment flows that settle one payload once. In an escrow, two phases share a payload. */
const onePhaseFlows: readonly unknown[] = [undefined, null, 'authorization', 'upfront']

/** What a seller collects of, or returns from, a payment channel (batch-settlement): as often as need be. */
const channelOperations: readonly unknown[] = ['claim', 'settle', 'refund']

/**
 * The identity of a payment; `undefined` where one payload is settled several times on purpose. A promise where a hash
 * is made: on SVM, of payloads that are not known here, and with long signatures.
 *
 * @throws {InvalidPaymentError} for a payment whose identity is in doubt: what one facilitator reads as another payment
 * than the next could be delivered twice
 */
export function identify(payment: Payment): KeyedPayment | undefined | Promise<KeyedPayment> {
  const { scheme, requirements, payload } = payment
  const network = caip2(payment.network)
  const content = payload.payload
  const isSvm = network.startsWith('solana:')
  // `upto` on Solana is an escrow, whether or not the requirements say so.
  if (!onePhaseFlows.includes(requirements.extra?.paymentFlow) || (isSvm && scheme === 'upto'))
    return undefined

  rejectDuplicateFields(payload, 'paymentPayload')
  if (scheme === 'batch-settlement') {
    rejectDuplicateFields(content, contentPath)
    if (channelOperations.includes(content.type)) return undefined
  }
  const spend =
    isSvm && scheme === 'exact'
      ? readSvm(content)
      : (network.startsWith('eip155:') && readEvm(scheme, content)) || readPayload(network, scheme, content)
  const later = async () => {
    const keyedLater = keyed(payment, network, await spend)
    return { ...keyedLater, fingerprint: await sha256(keyedLater.fingerprint) }
  }
  return spend instanceof Promise || `${content.signature}`.length > longestSignature
    ? later()
    : keyed(payment, network, spend)
}

type Spend = Pick<SettlementQuery, 'method' | 'payer' | 'nonce' | 'validBefore' | 'lifetimeSeconds'>

function readEvm(scheme: string, content: Record<string, unknown>): Spend | undefined {
  if (scheme !== 'exact' && scheme !== 'upto') return undefined
  rejectDuplicateFields(content, contentPath)
  const { authorization, permit2Authorization } = content
  if (authorization && permit2Authorization)
    throw new InvalidPaymentError(contentPath, 'has both authorization and permit2Authorization')
  if (permit2Authorization) return readAuthorization('permit2Authorization', permit2Authorization)
  return authorization && scheme === 'exact' ? readAuthorization('authorization', authorization) : undefined
}

function keyed({ scheme, requirements, payload }: Payment, network: string, spend: Spend): KeyedPayment {
  const { asset, payTo, extra } = requirements
  const { signature, transaction } = payload.payload
  const amount = amountOf(requirements)
  const url: unknown = payload.resource?.url
  const resource = typeof url === 'string' ? url.slice(0, longestResource) : undefined
  const token = foldAddress(asset)
  const { method: spentBy, payer, nonce, validBefore } = spend
  // A probe looks at the token, or at Permit2. An authorization for another contract, such as Circle's Gateway, is
  // unspent there for ever. The key does not depend on it, or one authorization would have two.
  const contract = foldAddress(`${extra?.verifyingContract ?? asset}`)
  const isVisible = (extra?.assetTransferMethod ?? spentBy) === spentBy && contract === token
  const method = isVisible ? spentBy : 'payload'
  // Some ledgers count in decimal fractions; what is compared with a chain, or with another amount, is whole.
  if (method !== 'payload' || scheme === 'upto' || !plainName.test(amount))
    uint256(amount, 'paymentRequirements.amount')
  return {
    key: `${spentBy}|${network}|${spentBy === 'eip3009' ? token : ''}|${foldAddress(payer ?? '')}|${nonce}`,
    // With `upto` a payment is verified at its maximum and settled at what was used: one purchase.
    fingerprint: `${signature ?? transaction}|${contract}|${foldAddress(payTo)}|${scheme === 'upto' ? '' : amount}`,
    query: { method, payer, nonce, validBefore, network, asset, payTo, amount, resource },
  }
}

/** Equal for the payments of one payer to one payee in one token; absent where nobody knows the payer. */
export function relationOf({ payer, network, payTo, asset }: SettlementQuery): string | undefined {
  // Only of EVM chains is the payer known, whose addresses have no case.
  return payer && `${payer} ${payTo} ${asset} ${network}`.toLowerCase()
}

/** The same for whoever buys the same thing again. */
export function purchaseOf(query: SettlementQuery): string | undefined {
  const relation = relationOf(query)
  return relation && `${relation} ${query.amount} ${query.resource}`
}

/** Payments of the schemes that are known here have a dozen at most. */
const maxFields = 64

/** Those of the schemes that are not known here, some hundred. */
const maxValues = 2_000

/** The fields of such payments, of which no other spelling may be there. */
const knownFields = new Set(
  'x402Version,accepted,resource,payload,signature,transaction,authorization,permit2Authorization,from,to,value,validAfter,validBefore,nonce,deadline'.split(
    ',',
  ),
)

/** As Go compares the names of fields: whatever their case, and with letters such as the long s for their plain ones. */
function foldName(name: string): string {
  return name.toUpperCase().toLowerCase()
}

/** A field that some facilitators read and others do not makes two payments of one. */
function rejectDuplicateFields(record: object, field: string, known = knownFields): void {
  // Of a text each letter would be a field.
  const names = isRecord(record) ? Object.keys(record) : []
  if (known.size && names.length > maxFields)
    throw new InvalidPaymentError(field, `has more than ${maxFields} fields`)
  let seen: Set<string> | undefined
  for (const name of names) {
    if (known.has(name)) continue
    seen ??= new Set([...known].map(foldName))
    if (seen.size === seen.add(foldName(name)).size)
      throw new InvalidPaymentError(
        field,
        `duplicate fields: ${JSON.stringify(name.slice(0, maxFields))} differs only in case from another`,
      )
  }
}

function readAuthorization(name: 'authorization' | 'permit2Authorization', record: object): Spend {
  const path = `${contentPath}.${name}`
  rejectDuplicateFields(record, path)
  const { from, nonce, value, validAfter, validBefore, deadline } = record as Record<string, unknown>
  // What is no number fails at each facilitator, which would open the circuits of all.
  seconds(value, `${path}.value`)
  seconds(validAfter, `${path}.validAfter`)
  const payer = hex(from, 20, `${path}.from`)
  const noncePath = `${path}.nonce`
  return name === 'authorization'
    ? {
        method: 'eip3009',
        payer,
        nonce: hex(nonce, 32, noncePath).toLowerCase(),
        validBefore: seconds(validBefore, `${path}.validBefore`),
      }
    : {
        method: 'permit2',
        payer,
        nonce: `${BigInt(uint256(nonce, noncePath))}`,
        validBefore: seconds(deadline, `${path}.deadline`),
      }
}

/**
 * A Solana transaction is its message and the signatures over it; the message alone is what may land once. Its bytes
 * are read to the last: what one facilitator reads over and the next does not would give one payment two keys.
 */
async function readSvm(content: Record<string, unknown>): Promise<Spend> {
  rejectDuplicateFields(content, contentPath)
  const { transaction } = content
  const bytes = typeof transaction === 'string' ? fromBase64(transaction) : undefined
  const read = bytes && readSvmTransaction(bytes)
  if (!read)
    throw new InvalidPaymentError(`${contentPath}.transaction`, 'expected a Solana transaction in base64')
  return {
    method: 'svm',
    nonce: await sha256(read.message),
    lifetimeSeconds: read.usesDurableNonce ? undefined : blockhashSeconds,
  }
}

/** What may be spent once is not known: one payload is delivered once, however its fields are ordered. */
async function readPayload(network: string, scheme: string, content: object): Promise<Spend> {
  // Of a signed transaction the rest of the payload is no part.
  const { transaction } = content as Record<string, unknown>
  const identity = typeof transaction === 'string' ? transaction : content
  let values = 0
  const text = JSON.stringify([network, scheme, identity], (_field, value) => {
    values += isRecord(value) ? Object.keys(value).length : 1
    if (values > maxValues) throw new InvalidPaymentError(contentPath, `has more than ${maxValues} fields`)
    if (!isRecord(value)) return value
    rejectDuplicateFields(value, contentPath, new Set())
    const fields = Object.entries(value).map(([name, inner]) => [foldName(name), inner] as const)
    return Object.fromEntries(fields.sort(([one], [other]) => (one < other ? -1 : 1)))
  })
  return { method: 'payload', nonce: await sha256(text) }
}

/** In atomic units. Version 1 has another name for it. */
export function amountOf(requirements: PaymentRequirements): string {
  return 'amount' in requirements
    ? requirements.amount
    : (requirements as { maxAmountRequired: string }).maxAmountRequired
}

/** Absent where the authorization does not say. */
function seconds(value: unknown, field: string): number | undefined {
  return value === undefined || value === null ? undefined : Number(uint256(value, field))
}

const digits = /^(?:\d{1,78}|0x[\da-f]{1,64})$/i

/** Decimal, as clients write it, or whatever else all facilitators read as the same number. */
function uint256(value: unknown, field: string): string {
  const text = typeof value === 'string' || Number.isSafeInteger(value) ? `${value}` : ''
  if (digits.test(text) && (text.length < 78 || BigInt(text) >> 256n === 0n)) return text
  throw new InvalidPaymentError(field, 'expected a whole number below 2^256')
}

const hexadecimal = /^(?:0x)?[\da-fA-F]*$/

/** The same bytes begin with `0x` here, whatever the payload's spelling. */
function hex(value: unknown, bytes: number, field: string): string {
  if (typeof value === 'string' && hexadecimal.test(value)) {
    const prefixed = value[1] === 'x' ? value : `0x${value}`
    if (prefixed.length === bytes * 2 + 2) return prefixed
  }
  throw new InvalidPaymentError(field, `expected ${bytes} bytes in hexadecimal`)
}
