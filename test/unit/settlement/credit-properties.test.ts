/** Whatever happens, and in whatever order: nobody gets more than he was charged for, and nothing of another payer's. */
import type { PaymentPayload, SettleResponse } from '@x402/core/types'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { replyReports } from '../../../src/delivery/index.ts'
import { FacilitatorAggregator, MemoryLedger, type ProbeAnswer } from '../../../src/index.ts'
import { settlementProbe } from '../../../src/probe/index.ts'
import {
  done,
  hanging,
  httpError,
  ledgerWith,
  newPayload,
  refusal,
  requirements,
  silent,
} from '../builders.ts'

/** How the facilitator treats the next settle. */
const treatments = ['settles', 'settles, loses its answer', 'loses the request', 'takes its time'] as const
type Treatment = (typeof treatments)[number]

const payers = [`0x${'aa'.repeat(20)}`, `0x${'bb'.repeat(20)}`]

interface Sent {
  readonly payment: PaymentPayload
  readonly payer: string
}

/** A chain, a facilitator, and replicas of one seller that share a ledger. */
class World {
  /** What the chain has charged: payer and transaction by nonce. */
  readonly charged = new Map<string, { payer: string; at: number; transaction: string }>()
  readonly sent: Sent[] = []
  /** Successes whose replies reached the buyer, and all of them, by payer. */
  readonly received = new Map<string, number>()
  readonly reported = new Map<string, number>()
  treatment: Treatment = 'settles'
  isNodeDown = false
  hasDeliveredToForger = false
  readonly #ledger = new MemoryLedger()
  readonly #replicas: ReturnType<World['open']>[]
  readonly #running: Promise<unknown>[] = []

  constructor(private readonly redeliveries: number) {
    this.#replicas = [this.open(), this.open()]
  }

  open() {
    const process = { isDead: false }
    const orHang = <T>(work: () => Promise<T>) => (process.isDead ? hanging() : work())
    const ledger = ledgerWith(this.#ledger, {
      claim: request => orHang(() => this.#ledger.claim(request)),
      update: update => orHang(() => this.#ledger.update(update)),
      get: key => orHang(() => this.#ledger.get(key)),
      undelivered: query => orHang(() => this.#ledger.undelivered(query)),
    })
    const aggregator = new FacilitatorAggregator({
      facilitators: [{ id: 'only', client: this }],
      healthCheck: false,
      retries: 0,
      deadlineMs: { settle: 4_000 },
      settlement: {
        ledger,
        redeliveries: this.redeliveries,
        failoverAfterMs: 1_000,
        probeAfterMs: 500,
        probes: [settlementProbe({ supports: () => true, ask: async ({ nonce }) => this.ask(nonce) })],
      },
    })
    return { process, aggregator, replies: replyReports(aggregator) }
  }

  ask(nonce: string): ProbeAnswer {
    const charge = this.charged.get(nonce)
    const asOf = Math.ceil(Date.now() / 1000)
    if (this.isNodeDown) return silent
    if (charge === undefined) return { state: 'unspent', asOf }
    return { state: 'paid', transaction: charge.transaction, payer: charge.payer, minedAt: charge.at, asOf }
  }

  async getSupported() {
    return { kinds: [], extensions: [], signers: {} }
  }

  async verify(payment: PaymentPayload) {
    const { nonce, from } = authorizationOf(payment)
    return { isValid: payment.payload.signature !== 'forged' && !this.charged.has(nonce), payer: from }
  }

  async settle(payment: PaymentPayload): Promise<SettleResponse> {
    const { nonce, from } = authorizationOf(payment)
    const treatment = this.treatment
    if (payment.payload.signature === 'forged') return refusal('invalid_exact_evm_signature')
    if (treatment === 'loses the request') throw httpError(502)
    if (treatment === 'takes its time') await new Promise(resolve => setTimeout(resolve, 2_000))
    if (this.charged.has(nonce)) return refusal('invalid_exact_evm_nonce_already_used')
    const transaction = `0x${nonce.slice(2).padEnd(64, '0')}`
    this.charged.set(nonce, { payer: from, at: Math.floor(Date.now() / 1000), transaction })
    if (treatment === 'settles, loses its answer') throw httpError(502)
    return { success: true, transaction, network: requirements().network, payer: from }
  }

  present({ payment, payer }: Sent, replica: number, fate: 'arrives' | 'is lost' | 'is abandoned'): void {
    const { aggregator, process, replies } = this.#replicas[replica] as ReturnType<World['open']>
    const present = async () => {
      // Who forges a payment does not ask whether it is valid.
      const isForged = payment.payload.signature === 'forged'
      if (!isForged && !(await aggregator.verify(payment, requirements())).isValid) return
      const settling = aggregator.settle(payment, requirements())
      if (fate === 'is abandoned') setTimeout(() => replies.abandoned(payment), 100)
      const { success } = await settling
      if (!success || process.isDead) return
      if (isForged) this.hasDeliveredToForger = true
      add(this.reported, payer)
      if (fate === 'arrives') add(this.received, payer)
      else await replies.lost(payment)
    }
    this.#running.push(present().catch(() => {}))
  }

  /** The process ends as it is: what it has begun to record is not recorded. */
  crash(replica: number): void {
    const dying = this.#replicas[replica]
    if (dying === undefined) return
    dying.process.isDead = true
    void dying.aggregator.stop({ inFlight: 'abort' })
    this.#replicas[replica] = this.open()
  }

  async end(): Promise<void> {
    await done(Promise.all(this.#running))
    for (const { aggregator } of this.#replicas) void aggregator.stop({ inFlight: 'abort' })
  }

  charges(payer: string): number {
    return [...this.charged.values()].filter(charge => charge.payer === payer).length
  }
}

function authorizationOf(payment: PaymentPayload) {
  return payment.payload.authorization as { nonce: string; from: string }
}

function add(counts: Map<string, number>, payer: string): void {
  counts.set(payer, (counts.get(payer) ?? 0) + 1)
}

function sign(payer: string, isForged: boolean): PaymentPayload {
  const payment = newPayload()
  const authorization = { ...authorizationOf(payment), from: payer }
  const signature = isForged ? 'forged' : payment.payload.signature
  return { ...payment, payload: { signature, authorization } }
}

type Step = (world: World) => unknown

const replica = fc.integer({ min: 0, max: 1 })
const fate = fc.constantFrom('arrives' as const, 'is lost' as const, 'is abandoned' as const)

/** Each step is one thing that a buyer, an observer, a process or the network does. */
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc
      .tuple(fc.constantFrom(...payers), replica, fate, fc.constantFrom(...treatments))
      .map(([payer, at, how, treatment]) => (world: World) => {
        world.treatment = treatment
        const sent = { payer, payment: sign(payer, false) }
        world.sent.push(sent)
        world.present(sent, at, how)
      }),
  },
  {
    weight: 4,
    arbitrary: fc.tuple(fc.nat(), replica, fate).map(([which, at, how]) => (world: World) => {
      const again = world.sent[which % Math.max(1, world.sent.length)]
      if (again !== undefined) world.present(again, at, how)
    }),
  },
  {
    weight: 1,
    arbitrary: fc.tuple(fc.constantFrom(...payers), replica).map(
      ([payer, at]) =>
        (world: World) =>
          world.present({ payer, payment: sign(payer, true) }, at, 'arrives'),
    ),
  },
  {
    weight: 2,
    arbitrary: fc.boolean().map(isDown => (world: World) => {
      world.isNodeDown = isDown
    }),
  },
  {
    weight: 6,
    arbitrary: fc
      .constantFrom(0, 50, 200, 1_000, 3_000, 6_000)
      .map(ms => () => vi.advanceTimersByTimeAsync(ms)),
  },
  { weight: 1, arbitrary: fc.constant(() => vi.advanceTimersByTimeAsync(40_000)) },
  // The processes sleep: leases lapse, and no timer fires.
  { weight: 1, arbitrary: fc.constant(() => vi.setSystemTime(Date.now() + 40_000)) },
  { weight: 1, arbitrary: replica.map(at => (world: World) => world.crash(at)) },
)

describe('buyers who retry, sign anew and hang up, doubt, and processes that die', () => {
  beforeEach(() => {
    vi.useFakeTimers()
  })
  afterEach(() => {
    vi.useRealTimers()
  })

  it('never get more than they were charged for, and the redeliveries of replies that were lost', async () => {
    const scenario = fc.tuple(fc.integer({ min: 0, max: 2 }), fc.array(step, { minLength: 4, maxLength: 24 }))
    await fc.assert(
      fc.asyncProperty(scenario, async ([redeliveries, steps]) => {
        const world = new World(redeliveries)
        for (const take of steps) {
          await take(world)
          await vi.advanceTimersByTimeAsync(1)
        }
        await world.end()
        expect(world.hasDeliveredToForger).toBe(false)
        for (const payer of payers) {
          const charges = world.charges(payer)
          expect(world.received.get(payer) ?? 0).toBeLessThanOrEqual(charges)
          expect(world.reported.get(payer) ?? 0).toBeLessThanOrEqual(charges * (1 + redeliveries))
        }
      }),
      { numRuns: Number(process.env.RUNS ?? 150) },
    )
  }, 60_000)
})
