/** A payment as the aggregator sees it: what both protocol versions have in common. */
import {
  PaymentPayloadSchema,
  PaymentRequirementsV1Schema,
  PaymentRequirementsV2Schema,
  type z,
} from '@x402/core/schemas'
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import type { PaymentPayloadV1, PaymentRequirementsV1 } from '@x402/core/types/v1'
import { InvalidPaymentError } from '../errors.ts'
import { isRecord } from '../runtime/json.ts'
import { longName, networkName, plainName } from './names.ts'

/** A payment payload of protocol version 1 or 2. */
export type AnyPaymentPayload = PaymentPayload | PaymentPayloadV1

/** Payment requirements of protocol version 1 or 2. */
export type AnyPaymentRequirements = PaymentRequirements | PaymentRequirementsV1

/** A kind of payment, or a payment of that kind. */
export interface Kind {
  readonly x402Version: number
  readonly scheme: string
  /** As the requirements name it: CAIP-2 in version 2 (`eip155:8453`), a name in version 1 (`base`). */
  readonly network: string
}

export function kindKey({ x402Version, scheme, network }: Kind): string {
  return `${x402Version}|${scheme}|${network}`
}

/** A payload with its requirements, whose shape has been checked. */
export interface Payment extends Kind {
  /** Made once, as each facilitator is asked for it. */
  readonly kindKey: string
  /** Typed as version 2 for upstream's clients, which hand version 1 through. */
  readonly payload: PaymentPayload
  readonly requirements: PaymentRequirements
}

const names = [
  ['network', networkName],
  ['scheme', plainName],
  ['asset', longName],
  ['payTo', longName],
] as const

/**
 * @throws {InvalidPaymentError} naming the first field that is not the protocol's
 */
export function readPayment(payload: AnyPaymentPayload, requirements: AnyPaymentRequirements): Payment {
  if (!looksRight(payload, requirements)) {
    demand('paymentPayload', PaymentPayloadSchema, payload)
    const isV1 = payload.x402Version === 1
    const schema = isV1 ? PaymentRequirementsV1Schema : PaymentRequirementsV2Schema
    demand('paymentRequirements', schema, requirements)
  }
  const { x402Version } = payload
  const { scheme, network } = requirements
  for (const [field, name] of names)
    if (!name.test(requirements[field]))
      throw new InvalidPaymentError(`paymentRequirements.${field}`, 'expected a plain name')
  return {
    x402Version,
    scheme,
    network,
    kindKey: kindKey({ x402Version, scheme, network }),
    payload: payload as PaymentPayload,
    requirements: requirements as PaymentRequirements,
  }
}

/** The schemas' demands without their cost: a healthy payment pays for no copy of itself. */
function looksRight(payload: AnyPaymentPayload, requirements: AnyPaymentRequirements): boolean {
  if (!isRecord(payload) || !isRecord(requirements) || !isRecord(payload.payload)) return false
  if (!isText(requirements.scheme) || !isText(requirements.network)) return false
  if (!isText(requirements.asset) || !isText(requirements.payTo)) return false
  if (!isRecord(requirements.extra ?? {})) return false
  const { maxTimeoutSeconds } = requirements
  if (!(typeof maxTimeoutSeconds === 'number' && maxTimeoutSeconds > 0)) return false
  switch (payload.x402Version) {
    case 1:
      return 'maxAmountRequired' in requirements && isText(requirements.maxAmountRequired)
    case 2:
      return (
        'accepted' in payload &&
        isRecord(payload.accepted) &&
        isRecord(payload.extensions ?? {}) &&
        'amount' in requirements &&
        isText(requirements.amount) &&
        requirements.network.includes(':')
      )
    default:
      return false
  }
}

function demand(name: string, schema: z.ZodTypeAny, value: unknown): void {
  const issue = schema.safeParse(value).error?.issues[0]
  if (issue) throw new InvalidPaymentError([name, ...issue.path].join('.'), issue.message)
}

function isText(value: unknown): value is string {
  return typeof value === 'string' && value !== ''
}
