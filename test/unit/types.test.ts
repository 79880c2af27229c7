/** What the compiler says to a seller who mistypes: run by `npm run typecheck`. */
import { describe, expectTypeOf, it } from 'vitest'
import type { AggregatorOptions, FacilitatorOptions } from '../../src/index.ts'
import { type AggregatorEvents, FacilitatorAggregator } from '../../src/index.ts'
import type { known } from '../../src/known/index.ts'
import { FakeFacilitator } from './builders.ts'

const client = new FakeFacilitator()
const url = 'https://facilitator.example'
const take = (_: FacilitatorOptions) => {}
const takeKnown = (..._: Parameters<typeof known>) => {}
const takeAll = (_: Omit<AggregatorOptions, 'facilitators'>) => {}

describe('the options', () => {
  it('are a url, a client or a known name', () => {
    take({ id: 'a', url })
    take({ id: 'a', client })
    takeKnown('payai', { priority: 1 })
    // @ts-expect-error neither
    take({ id: 'a' })
    // @ts-expect-error both
    take({ id: 'a', url, client })
    // @ts-expect-error both
    takeKnown('payai', { url })
    // @ts-expect-error not known
    takeKnown('payee')
    // @ts-expect-error no id
    take({ url })
    // @ts-expect-error a client makes its own headers
    take({ id: 'a', client, createAuthHeaders: () => ({}) })
    // @ts-expect-error mistyped
    take({ id: 'a', url, priorty: 1 })
    // @ts-expect-error no such operation
    take({ id: 'a', url, timeoutMs: { setle: 1 } })
    // @ts-expect-error headers are keyed by operation
    take({ id: 'a', url, createAuthHeaders: () => ({ Authorization: 'Bearer x' }) })
  })

  it('know their values', () => {
    takeAll({ healthCheck: false, strategy: 'latency', whenAllUnhealthy: 'refuse' })
    // @ts-expect-error false or options
    takeAll({ healthCheck: true })
    // @ts-expect-error mistyped
    takeAll({ helthCheck: false })
    // @ts-expect-error no such strategy
    takeAll({ strategy: 'random' })
    // @ts-expect-error mistyped
    takeAll({ settlement: { probe: [] } })
    // @ts-expect-error no such audit
    takeAll({ settlement: { audit: true } })
    expectTypeOf<AggregatorOptions['retries']>().toEqualTypeOf<number | undefined>()
  })
})

describe('the events', () => {
  it('have their data', () => {
    const aggregator = new FacilitatorAggregator({ facilitators: [{ id: 'a', client }] })
    aggregator.on('attempt', event => expectTypeOf(event).toEqualTypeOf<AggregatorEvents['attempt']>())
    aggregator.on('circuit:change', event =>
      expectTypeOf(event.to).toEqualTypeOf<'closed' | 'open' | 'half-open'>(),
    )
    aggregator.on('settlement:resolved', ({ result }) =>
      expectTypeOf(result).toEqualTypeOf<
        'paid' | 'undatable' | 'unattributed' | 'spent-otherwise' | 'expired'
      >(),
    )
    // @ts-expect-error no such event
    aggregator.on('attempts', () => {})
    // @ts-expect-error no such field
    aggregator.on('failover', event => event.form)
    expectTypeOf<keyof AggregatorEvents>().toEqualTypeOf<
      | 'attempt'
      | 'failover'
      | 'health:change'
      | 'circuit:change'
      | 'supported:change'
      | 'settlement:recovered'
      | 'settlement:credited'
      | 'settlement:indeterminate'
      | 'settlement:resolved'
      | 'facilitator:quarantined'
      | 'facilitator:contradicted'
      | 'log'
      | 'stop'
    >()
  })
})
