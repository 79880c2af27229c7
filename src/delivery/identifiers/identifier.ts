/** Upstream's extension `payment-identifier`: the name that a buyer gives to a purchase, so that it is made once. */
import { isRecord } from '../../runtime/json.ts'

const extension = 'payment-identifier'
const form = /^[\w-]{16,128}$/

/** The identifier in a payment as it was sent; nothing where there is none, or none of the extension's form. */
export function identifierIn(payload: unknown): string | undefined {
  const id = infoOf(isRecord(payload) ? payload.extensions : undefined)?.id
  return typeof id === 'string' && form.test(id) ? id : undefined
}

function infoOf(extensions: unknown): Record<string, unknown> | undefined {
  const declared = isRecord(extensions) ? extensions[extension] : undefined
  const info = isRecord(declared) ? declared.info : undefined
  return isRecord(info) ? info : undefined
}
