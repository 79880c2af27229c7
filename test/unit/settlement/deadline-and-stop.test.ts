/** Invariant 6: nothing begins after the deadline or `stop()`, and nothing is left running. */
import { describe, expect, it, vi } from 'vitest'
import { FacilitatorAggregator } from '../../../src/index.ts'
import {
  after,
  done,
  hanging,
  hash,
  newPayload,
  outcome,
  paid,
  refusal,
  refused,
  requirements,
  settled,
  silent,
} from '../builders.ts'
import { a, aggregator, b, chain, pool } from './harness.ts'

describe('after the deadline', () => {
  it.each([
    ['verify', 'ALL_FACILITATORS_FAILED'],
    ['settle', 'SETTLEMENT_INDETERMINATE'],
  ] as const)('nobody is asked to %s, though the process was frozen meanwhile', async (operation, code) => {
    const freezes = () => {
      vi.advanceTimersByTime(61_000)
      throw refused()
    }
    a.verifyAnswer = freezes
    a.settleAnswer = freezes
    const asking = pool({}, { retries: 0 })[operation](newPayload(), requirements())
    await expect(done<unknown>(asking)).rejects.toMatchObject({ code })
    expect(b.calls[operation]).toBe(0)
  })
})

describe('stop()', () => {
  it('with inFlight: "abort" ends a settlement that waits for the chain to confirm a denial', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refusal('insufficient_funds')
    chain.answer = silent
    const aggregator = pool()
    const settling = outcome(aggregator.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(1_000)
    const stoppedAt = performance.now()
    await done(aggregator.stop({ inFlight: 'abort' }))
    expect(performance.now() - stoppedAt).toBeLessThan(1_000)
    expect(await settling).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('that start() has overtaken does not abort what a later one lets finish', async () => {
    const aggregator = pool({ probes: [] })
    const stops: object[] = []
    aggregator.on('stop', event => stops.push(event))
    a.settleAnswer = async () => {
      await after(1_000)
      return settled
    }
    const first = outcome(aggregator.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(500)
    const stopping = [aggregator.stop()]
    aggregator.start()
    const second = outcome(aggregator.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(10)
    stopping.push(aggregator.stop())
    expect([await done(first), await done(second)]).toEqual(['success', 'success'])
    await Promise.all(stopping)
    expect(stops).toHaveLength(1)
  })
})

describe('an attempt that nobody waits for any more', () => {
  it('sends nothing after its time, even if its headers are ready only then', async () => {
    let isSent = false
    const aggregator = new FacilitatorAggregator({
      facilitators: [
        {
          id: 'a',
          url: 'https://a.example',
          createAuthHeaders: async () => {
            await after(90_000)
            return {}
          },
          fetch: async (_url, init) => {
            init?.signal?.throwIfAborted()
            isSent = true
            return Response.json(settled)
          },
        },
      ],
      healthCheck: false,
    })
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    await vi.advanceTimersByTimeAsync(100_000)
    expect(isSent).toBe(false)
  })

  it('ends with stop(), and leaves no timer', async () => {
    a.settleAnswer = hanging
    chain.answer = paid
    const aggregator = pool()
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe('success')
    await aggregator.stop()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('is not retried once its settlement is decided', async () => {
    a.settleAnswer = async () => {
      await after(6_000)
      throw refused()
    }
    b.settleAnswer = async () => {
      await after(100)
      return settled
    }
    const aggregator = pool()
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe('success')
    await vi.advanceTimersByTimeAsync(60_000)
    expect(a.calls.settle).toBe(1)
  })

  it('is not repeated after stop({ inFlight: "abort" })', async () => {
    a.settleAnswer = refusal('settlement_pending', hash)
    const aggregator = pool({ probes: [] })
    const settling = outcome(aggregator.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(8_000)
    const calls = a.calls.settle
    const stoppedAt = performance.now()
    await done(aggregator.stop({ inFlight: 'abort' }))
    expect(performance.now() - stoppedAt).toBeLessThan(1_000)
    expect(await settling).toBe('SETTLEMENT_INDETERMINATE')
    expect(a.calls.settle).toBe(calls)
  })
})

it('a settlement that stop() has aborted stays aborted, though start() follows at once', async () => {
  a.settleAnswer = hanging
  pool()
  const settling = outcome(aggregator.settle(newPayload(), requirements()))
  await vi.advanceTimersByTimeAsync(100)
  void aggregator.stop({ inFlight: 'abort' })
  aggregator.start()
  await vi.advanceTimersByTimeAsync(10)
  expect(await settling).toBe('SETTLEMENT_INDETERMINATE')
  expect(aggregator.getHealthStatus().facilitators[0]?.consecutiveFailures).toBe(0)
})
