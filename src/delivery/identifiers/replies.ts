/** The same identifier with the same content gets the same reply; with another content it is a conflict. */
import type { FacilitatorAggregator } from '../../aggregator.ts'
import { identify } from '../../payment/payment-key.ts'
import { within } from '../../runtime/clock.ts'
import { sha256 } from '../../runtime/hash.ts'
import { toJson } from '../../runtime/json.ts'
import { paymentIn } from '../open-requests.ts'
import { identifierIn } from './identifier.ts'
import type { ReplyStore } from './reply-store.ts'

/** A request with a payment. */
export interface PaidRequest {
  readonly method: string
  readonly url: string
  /** What is asked for beside the address. */
  readonly body: string
  /** As it was sent. */
  readonly payment: unknown
}

export interface Reply {
  readonly status: number
  readonly headers: readonly (readonly [name: string, value: string])[]
  /** In base64. */
  readonly body: string
}

/** What becomes of an identified request. */
export type Course =
  | { readonly kind: 'reply'; readonly reply: Reply }
  /** It is answered by the application, whose reply is kept if it is settled and delivered. */
  | { readonly kind: 'go on'; end(reply: Reply | undefined): Promise<void> }

interface Kept {
  /** Of what is bought, and by whom. */
  readonly content: string
  /** Of the payment, with its signature. */
  readonly payment: string
  readonly reply: Reply
}

/** Milliseconds that a repeated request waits for the end of the one before it: a settle ends in that time. */
const longestWaitMs = 60_000

/** Bytes of a reply that are kept. */
export const mostBytes = 262_144

export class IdentifiedReplies {
  /** Requests whose replies have not ended, by identifier: who repeats one waits for its end. */
  readonly #running = new Map<string, Promise<void>>()

  constructor(
    private readonly aggregator: Pick<FacilitatorAggregator, 'verify'>,
    private readonly store: ReplyStore,
    private readonly keepMs: number,
  ) {}

  /** @returns nothing for a request whose payment has no identifier */
  async courseOf(request: PaidRequest | undefined): Promise<Course | undefined> {
    const id = identifierIn(request?.payment)
    const payment = paymentIn(request?.payment)
    if (request === undefined || id === undefined || payment === undefined) return undefined
    const { payload, requirements } = payment
    const payer = await payerOf(payment)
    const content = await sha256(toJson([request.method, request.url, request.body, requirements, payer]))
    const signed = await sha256(toJson(payload))

    let end = () => {}
    try {
      end = await within(longestWaitMs, () => this.#begin(id))
      const text = await this.store.get(id)
      const kept = text === undefined ? undefined : (JSON.parse(text) as Kept)
      if (kept === undefined)
        return {
          kind: 'go on',
          end: async reply => {
            try {
              if (reply) await this.store.set(id, toJson({ content, payment: signed, reply }), this.keepMs)
            } finally {
              end()
            }
          },
        }
      const isSame =
        kept.content === content &&
        // Who signs anew has to show that he is the payer.
        (kept.payment === signed ||
          (payer !== undefined && (await this.aggregator.verify(payload, requirements)).isValid))
      end()
      return { kind: 'reply', reply: isSame ? kept.reply : conflict }
    } catch {
      end()
      return { kind: 'reply', reply: unavailable }
    }
  }

  /** Waits until no other request with this identifier runs; what it returns ends this one. */
  async #begin(id: string): Promise<() => void> {
    for (let before = this.#running.get(id); before; before = this.#running.get(id)) await before
    let resolve = () => {}
    const running = new Promise<void>(settle => {
      resolve = settle
    })
    this.#running.set(id, running)
    return () => {
      if (this.#running.get(id) === running) this.#running.delete(id)
      resolve()
    }
  }
}

async function payerOf(payment: Parameters<typeof identify>[0]): Promise<string | undefined> {
  try {
    return (await identify(payment))?.query.payer
  } catch {
    // The middleware behind this one says what is wrong with it.
    return undefined
  }
}

/** Stands for a reply that was delivered, and is longer than what is kept. */
export const tooLong = problem(409, 'this purchase was delivered before, and its reply is too long to repeat')

const conflict = problem(409, 'this payment identifier was used for another purchase')
const unavailable = problem(503, 'it is not known yet how the purchase with this payment identifier ended', [
  ['retry-after', '1'],
])

function problem(status: number, error: string, headers: Reply['headers'] = []): Reply {
  const body = btoa(JSON.stringify({ error }))
  return { status, headers: [['content-type', 'application/json'], ...headers], body }
}
