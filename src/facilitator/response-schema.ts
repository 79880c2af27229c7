/** The shapes of a facilitator's answers: strict where a payment depends on it, lenient elsewhere. */
import { z } from '@x402/core/schemas'
import type { Operation } from '../observe/attempt-report.ts'
import { plainName } from '../payment/names.ts'
import { isRecord } from '../runtime/json.ts'
import type { Responses } from './outcome.ts'

const optional = <T extends z.ZodTypeAny>(schema: T) =>
  schema.nullish().transform(value => value ?? undefined)
const optionalText = optional(z.string())
const optionalRecord = optional(z.custom<Record<string, unknown>>(isRecord))
const textOrEmpty = optionalText.transform(value => value ?? '')

const details = { payer: optionalText, extensions: optionalRecord, extra: optionalRecord }

const verifyResponse = z
  .object({
    isValid: z.boolean(),
    invalidReason: optionalText,
    invalidMessage: optionalText,
    ...details,
  })
  .passthrough()

/** A refusal may leave out `transaction` and `network` (version 1 facilitators do); a success may not. */
const settleRefusal = z
  .object({
    success: z.literal(false),
    errorReason: optionalText,
    errorMessage: optionalText,
    transaction: textOrEmpty,
    network: textOrEmpty,
    amount: optionalText,
    ...details,
  })
  .passthrough()
const settleResponse = z.discriminatedUnion('success', [
  settleRefusal,
  settleRefusal.extend({ success: z.literal(true), transaction: z.string(), network: z.string() }),
])

/** Kinds, extensions, and signers of each family, that are read of what one facilitator advertises; and families. */
const maxItems = 256
const maxFamilies = 32

/** The rest is not even looked at: each wrong item of a megabyte of them would be an error of its own. */
const first = (list: unknown): unknown => (Array.isArray(list) ? list.slice(0, maxItems) : list)

const names = z
  .preprocess(first, z.array(z.string()))
  .transform(list => list.filter(name => plainName.test(name)))

const supportedResponse = z.object({
  kinds: z.preprocess(
    first,
    z.array(
      z.object({ x402Version: z.number(), scheme: z.string(), network: z.string(), extra: optionalRecord }),
    ),
  ),
  extensions: names.default([]),
  signers: z
    .preprocess(
      value => isRecord(value) && Object.fromEntries(Object.entries(value).slice(0, maxFamilies)),
      z.record(z.string().regex(plainName), names),
    )
    .default({}),
})

const listResponse = z.object({ items: z.array(z.unknown()) }).passthrough()

const schemas = {
  verify: verifyResponse,
  settle: settleResponse,
  supported: supportedResponse,
  list: listResponse,
} satisfies Record<Operation, z.ZodTypeAny>

/** The answer in the protocol's shape, without unset fields; `undefined` when it is something else. */
export function parseResponse<O extends Operation>(operation: O, data: unknown): Responses[O] | undefined {
  const parsed = schemas[operation].safeParse(data)
  if (!parsed.success) return undefined
  const response = parsed.data as Record<string, unknown>
  for (const key of Object.keys(response)) if (response[key] === undefined) delete response[key]
  return response as unknown as Responses[O]
}
