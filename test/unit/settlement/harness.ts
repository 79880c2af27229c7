/** Two facilitators, a chain and an aggregator over them, made anew for each test, in fake time. */
import type { PaymentPayload } from '@x402/core/types'
import { afterEach, beforeEach, vi } from 'vitest'
import type {
  AggregatorEvents,
  AggregatorOptions,
  FacilitatorAggregator,
  ProbeAnswer,
} from '../../../src/index.ts'
import {
  aggregatorOf,
  type ChainScript,
  done,
  FakeFacilitator,
  newPayload,
  nextAnswer,
  outcome,
  paid,
  probeOf,
  requirements,
  type SettlementByReaders,
  type settled,
  unspent,
} from '../builders.ts'

export const used = 'invalid_exact_evm_nonce_already_used'
/** So that a settlement in doubt is left unresolved soon. */
export const briefly = { deadlineMs: { settle: 3_000 } }

export let a: FakeFacilitator
export let b: FakeFacilitator
/** The one that `pool` made last. */
export let aggregator: FacilitatorAggregator
let events: [name: string, event: unknown][]

/** What the chain shows of every payment; unspent, to begin with. */
export const chain = {
  answer: unspent as ChainScript,
  questions: 0,
  ask(): ProbeAnswer {
    chain.questions++
    return nextAnswer(chain.answer)
  },
}
export const probe = probeOf(chain.ask)

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  b = new FakeFacilitator()
  chain.answer = unspent
  chain.questions = 0
  events = []
})
afterEach(() => {
  vi.useRealTimers()
})

/** An aggregator over `a` and `b` that asks the chain. */
export function pool(
  settlement: SettlementByReaders = {},
  options: Partial<AggregatorOptions> = {},
): FacilitatorAggregator {
  aggregator = aggregatorOf({ a, b }, { probes: [probe], ...settlement }, options)
  for (const name of [
    'settlement:recovered',
    'settlement:credited',
    'settlement:indeterminate',
    'settlement:resolved',
    'facilitator:quarantined',
    'failover',
  ] as const)
    aggregator.on(name, (event: AggregatorEvents[typeof name]) => events.push([name, event]))
  return aggregator
}

/** One that asks each facilitator once. */
export function poolWithoutRetries(
  settlement: SettlementByReaders = {},
  options: Partial<AggregatorOptions> = {},
): FacilitatorAggregator {
  return pool(settlement, { retries: 0, ...options })
}

/** How the aggregator that was made last settles a payment: see `outcome`. */
export function settle(payment: PaymentPayload = newPayload(), terms = requirements()): Promise<string> {
  return done(outcome(aggregator.settle(payment, terms)))
}

/** The same by another one. */
export function settleBy(by: FacilitatorAggregator, payment = newPayload()): Promise<string> {
  return done(outcome(by.settle(payment, requirements())))
}

/** A facilitator that charges, and answers this all the same. */
export function charges(answer: object) {
  return (): typeof settled => {
    chain.answer = paid
    if (answer instanceof Error) throw answer
    return answer as typeof settled
  }
}

/** What was emitted under this name, in order. */
export function emitted<N extends keyof AggregatorEvents>(name: N): AggregatorEvents[N][] {
  return events.filter(([one]) => one === name).map(([, event]) => event as AggregatorEvents[N])
}

export function quarantined(): string[] {
  return emitted('facilitator:quarantined').map(({ facilitator }) => facilitator)
}

/** What became of settlements that had been left unresolved. */
export function resolved(): string[] {
  return emitted('settlement:resolved').map(({ result }) => result)
}

/** How often each facilitator was asked to settle. */
export function settleCalls(): number[] {
  return [a.calls.settle, b.calls.settle]
}

/** Now, as blocks count (Unix s). */
export function seconds(): number {
  return Date.now() / 1000
}

/** Unspent, as a node shows it that stands still. */
export function longUnspent(): ProbeAnswer {
  return { state: 'unspent', asOf: seconds() - 120 }
}
