/** The identifiers that buyers give to their purchases: one is charged for by one payment. */
import { identifierIn } from '../delivery/identifiers/identifier.ts'
import { setBounded } from '../runtime/bounded-map.ts'
import { now } from '../runtime/clock.ts'
import { sha256 } from '../runtime/hash.ts'
import { toJson } from '../runtime/json.ts'
import { type Answer, type PaymentBody, problem } from './answers.ts'

/** Charges that are remembered; the oldest one goes first. */
const most = 10_000

interface Charge {
  readonly payment: string
  readonly expiresAt: number
}

/**
 * Refuses a second payment for a purchase that was charged. The same payment is not answered from here: the ledger says
 * whether it was delivered, and an answer made of what the buyer sent would be had twice by sending it twice at once.
 */
export class PaymentIdentifiers {
  readonly #charged = new Map<string, Charge>()
  readonly #settling = new Map<string, Promise<unknown>>()

  /** @param keepMs milliseconds for which a charge is remembered */
  constructor(private readonly keepMs: number) {}

  async verify(client: string, body: PaymentBody, work: () => Promise<Answer>): Promise<Answer> {
    const named = await read(client, body)
    return named !== undefined && this.#isConflict(named) ? conflict : work()
  }

  /** One after the other for each identifier. */
  async settle(client: string, body: PaymentBody, work: () => Promise<Answer>): Promise<Answer> {
    const named = await read(client, body)
    if (named === undefined) return work()
    const { name, payment } = named
    const before = this.#settling.get(name)
    const settling = (async () => {
      await before
      if (this.#isConflict(named)) return conflict
      const answer = await work()
      if ((answer.body as { success?: boolean }).success === true)
        setBounded(this.#charged, name, { payment, expiresAt: now() + this.keepMs }, most)
      return answer
    })()
    this.#settling.set(name, settling)
    try {
      return await settling
    } finally {
      if (this.#settling.get(name) === settling) this.#settling.delete(name)
    }
  }

  #isConflict({ name, payment }: NamedPayment): boolean {
    const charge = this.#charged.get(name)
    return charge !== undefined && charge.expiresAt > now() && charge.payment !== payment
  }
}

const conflict = problem(
  409,
  'PAYMENT_IDENTIFIER_REUSED',
  'another payment with this payment identifier was charged; this one was not',
)

interface NamedPayment {
  /** A buyer may have used one identifier at two sellers. */
  readonly name: string
  readonly payment: string
}

/** Nothing for a payment without an identifier. */
async function read(client: string, body: PaymentBody): Promise<NamedPayment | undefined> {
  const { paymentPayload, paymentRequirements } = body
  const id = identifierIn(paymentPayload)
  if (id === undefined) return undefined
  try {
    return {
      name: `${client} ${paymentRequirements?.payTo} ${id}`,
      payment: await sha256(toJson(paymentPayload)),
    }
  } catch {
    // It is nested too deeply to be a payment, which the aggregator says.
    return undefined
  }
}
