/** The shapes of a facilitator's answers: strict where a payment depends on it, lenient elsewhere. */
import { z } from '@x402/core/schemas'
import type { Operation } from '../observe/attempt-report.ts'
import type { Responses } from './outcome.ts'

const optional = <T extends z.ZodTypeAny>(schema: T) =>
  schema.nullish().transform(value => value ?? undefined)
const optionalText = optional(z.string())
const optionalRecord = optional(z.record(z.string(), z.unknown()))
/** How deep what a facilitator advertises may be nested: it is cloned, compared, and passed on to buyers. */
const maxDepth = 16
const shallowRecord = optionalRecord.refine(extra => isPlain(extra, maxDepth))
const textOrEmpty = optionalText.transform(value => value ?? '')

const details = { payer: optionalText, extensions: optionalRecord, extra: optionalRecord }

const verifyResponse = z.object({
  isValid: z.boolean(),
  invalidReason: optionalText,
  invalidMessage: optionalText,
  ...details,
})

/** A refusal may leave out `transaction` and `network` (version 1 facilitators do); a success may not. */
const settleResponse = z.discriminatedUnion('success', [
  z.object({
    success: z.literal(true),
    transaction: z.string(),
    network: z.string(),
    amount: optionalText,
    ...details,
  }),
  z.object({
    success: z.literal(false),
    errorReason: optionalText,
    errorMessage: optionalText,
    transaction: textOrEmpty,
    network: textOrEmpty,
    amount: optionalText,
    ...details,
  }),
])

const supportedResponse = z.object({
  kinds: z.array(
    z.object({ x402Version: z.number(), scheme: z.string(), network: z.string(), extra: shallowRecord }),
  ),
  extensions: z.array(z.string()).default([]),
  signers: z.record(z.string(), z.array(z.string())).default({}),
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

function isPlain(value: unknown, depth: number): boolean {
  if (Object(value) !== value) return typeof value !== 'symbol'
  return (
    typeof value !== 'function' &&
    depth > 0 &&
    Object.values(Object(value)).every(inner => isPlain(inner, depth - 1))
  )
}
