/** What several cases do: make an aggregator for a while, and have it serve a payment. */
import type { Bed, Payment, Place } from '../bed.ts'
import { check, equal } from '../expect.ts'
import {
  type AggregatorOptions,
  type AttemptReport,
  evmSettlementProbe,
  FacilitatorAggregator,
  type SettlementProbe,
} from '../library.js'

export async function withAggregator<T>(
  { facilitators }: Place,
  options: Partial<AggregatorOptions>,
  use: (aggregator: FacilitatorAggregator, attempts: AttemptReport[]) => Promise<T>,
): Promise<T> {
  const quiet = { logger: false, healthCheck: false } as const
  const aggregator = new FacilitatorAggregator({ facilitators, retries: 0, ...quiet, ...options })
  const attempts: AttemptReport[] = []
  aggregator.on('attempt', report => attempts.push(report))
  try {
    return await use(aggregator, attempts)
  } finally {
    await aggregator.stop({ inFlight: 'abort' })
  }
}

export function probes({ network, rpcUrl }: Place): SettlementProbe[] {
  return [evmSettlementProbe({ [network]: { rpcUrl } })]
}

type Client = Pick<FacilitatorAggregator, 'verify' | 'settle'>

export async function expectVerified(client: Client, { payload, requirements }: Payment): Promise<void> {
  const answer = await client.verify(payload, requirements)
  check(answer.isValid, `verify: expected a valid payment, got ${JSON.stringify(answer)}`)
}

/** Settles, and asks the chain whether it is so: the payee has the money, once. */
export async function expectSettled(client: Client, bed: Bed, payment: Payment): Promise<void> {
  await expectPaidOnce(bed, payment, async () => {
    const answer = await client.settle(payment.payload, payment.requirements)
    check(answer.success, `settle: expected a success, got ${JSON.stringify(answer)}`)
    check(/^0x[0-9a-f]{64}$/.test(answer.transaction), `settle: no transaction: ${JSON.stringify(answer)}`)
  })
}

export async function expectPaidOnce(bed: Bed, payment: Payment, work: () => Promise<void>): Promise<void> {
  const before = await bed.balanceOf(payment.payTo)
  await work()
  equal(await bed.isSpent(payment), true, 'the authorization is used on the chain')
  equal((await bed.balanceOf(payment.payTo)) - before, BigInt(payment.amount), 'what the payee received')
}

/** The same payment, sent again, has no second success. */
export async function expectReplayRefused(client: Client, { payload, requirements }: Payment): Promise<void> {
  const verified = await client.verify(payload, requirements)
  equal(verified.isValid, false, 'verify of a replay')
  const { success, errorReason } = await client.settle(payload, requirements)
  equal(
    { success, errorReason },
    { success: false, errorReason: 'duplicate_settlement' },
    'settle of a replay',
  )
}

/** Who was asked what, and how that went: `first verify unknown`. */
export function told(attempts: readonly AttemptReport[]): string[] {
  return attempts.map(({ facilitator, operation, outcome }) => `${facilitator} ${operation} ${outcome}`)
}
