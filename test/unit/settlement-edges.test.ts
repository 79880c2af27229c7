/** Sequences at the edges: clocks that jump, ledgers that hang, answers that cross. */
import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import {
  type AggregatorOptions,
  type ClaimRequest,
  FacilitatorAggregator,
  MemoryLedger,
  type ProbeAnswer,
  type SettlementOptions,
  type SettlementProbe,
} from '../../src/index.ts'
import {
  after,
  aggregatorOf,
  type ChainScript,
  done,
  FakeFacilitator,
  hanging,
  hash,
  httpError,
  kind,
  ledgerWith,
  network,
  newPayload,
  nextAnswer,
  outcome,
  paid,
  paidAt,
  payloadV1,
  permit2Payload,
  probeOf,
  refusal,
  refused,
  requirements,
  requirementsV1,
  settled,
  silent,
  supporting,
  unspent,
} from './builders.ts'

const used = 'invalid_exact_evm_nonce_already_used'

let a: FakeFacilitator
let b: FakeFacilitator
let chain: ChainScript

const chainSays = () => nextAnswer(chain)
const probe = probeOf(chainSays)

function pool(settlement: SettlementOptions = {}, options: Partial<AggregatorOptions> = {}) {
  return aggregatorOf({ a, b }, { probes: [probe], ...settlement }, options)
}

beforeEach(() => {
  vi.useFakeTimers()
  a = new FakeFacilitator()
  b = new FakeFacilitator()
  chain = unspent
})
afterEach(() => {
  vi.useRealTimers()
})

describe('one success', () => {
  it('for a payload with two authorizations is none: nothing is sent', async () => {
    const { payload: both } = permit2Payload()
    const double = () => ({ ...newPayload(), payload: { ...newPayload().payload, ...both } })
    const aggregator = pool()
    for (let i = 0; i < 2; i++)
      expect(await outcome(aggregator.settle(double(), requirements()))).toBe('INVALID_PAYMENT')
    expect(a.calls.settle).toBe(0)
  })

  it('when the clock jumps past a lease while its settlement runs', async () => {
    const ledger = new MemoryLedger()
    const payment = newPayload()
    a.settleAnswer = async () => {
      await after(1_000)
      return settled
    }
    const first = outcome(pool({ ledger }).settle(payment, requirements()))
    await vi.advanceTimersByTimeAsync(10)
    vi.setSystemTime(Date.now() + 91_000)
    chain = paid
    const second = outcome(done(pool({ ledger }).settle(payment, requirements())))
    expect([await second, await done(first)]).toEqual(['success', 'SETTLEMENT_INDETERMINATE'])
  })

  it('when the ledger takes longer than a lease to store it', async () => {
    const ledger = new MemoryLedger()
    const slow = ledgerWith(ledger, {
      update: async (key, claim, state) => {
        await after(95_000)
        return ledger.update(key, claim, state)
      },
    })
    const payment = newPayload()
    const first = await done(outcome(pool({ ledger: slow }).settle(payment, requirements())))
    expect(first).toBe('success')
    expect(await outcome(pool({ ledger }).settle(payment, requirements()))).toBe(
      'refused: duplicate_settlement',
    )
  })

  it('when the ledger could not store it at first, as it is stored later', async () => {
    const ledger = new MemoryLedger()
    let isDown = true
    const failing = ledgerWith(ledger, {
      update: (key, claim, state) =>
        isDown ? Promise.reject(new Error('down')) : ledger.update(key, claim, state),
    })
    const payment = newPayload()
    expect(await outcome(pool({ ledger: failing }).settle(payment, requirements()))).toBe('success')
    isDown = false
    await vi.advanceTimersByTimeAsync(10_000)
    await vi.advanceTimersByTimeAsync(81_000)
    chain = paid
    expect(await outcome(done(pool({ ledger }).settle(payment, requirements())))).toBe(
      'refused: duplicate_settlement',
    )
  })
})

describe('where no chain can be asked', () => {
  it.each([
    ['refused', refused()],
    ['limited', new Error('Facilitator settle failed (429): <html>')],
  ])('a pending settlement is the last, though its repeat is %s', async (_, second) => {
    let calls = 0
    a.settleAnswer = () => {
      if (++calls === 1) return refusal('settlement_pending', hash)
      throw second
    }
    const settling = pool({}, { retries: 0 }).settle(newPayload(), requirements({ scheme: 'exotic' }))
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
    expect(b.calls.settle).toBe(0)
  })
})

describe('a payment of version 1 that has no key', () => {
  it('is told with its amount when it is left in doubt', async () => {
    a.settleAnswer = httpError(502)
    const aggregator = pool()
    const amounts: string[] = []
    aggregator.on('settlement:indeterminate', ({ amount }) => amounts.push(amount))
    const settling = aggregator.settle(
      { ...payloadV1(), scheme: 'exotic' },
      requirementsV1({ scheme: 'exotic' }),
    )
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
    expect(amounts).toEqual(['10000'])
  })
})

describe('a ledger that hangs', () => {
  const never = () => new Promise<never>(() => {})

  it('at the claim: nothing is sent', async () => {
    const ledger = ledgerWith(new MemoryLedger(), { claim: never })
    expect(await outcome(done(pool({ ledger }).settle(newPayload(), requirements())))).toBe('LEDGER_FAILED')
    expect(a.calls.settle).toBe(0)
  })

  it('afterwards: the success is reported', async () => {
    const ledger = ledgerWith(new MemoryLedger(), { update: never })
    expect(await outcome(done(pool({ ledger }).settle(newPayload(), requirements())))).toBe('success')
  })

  it('at verify: the facilitators are asked', async () => {
    const ledger = ledgerWith(new MemoryLedger(), { get: never })
    expect(await done(pool({ ledger }).verify(newPayload(), requirements()))).toMatchObject({ isValid: true })
  })
})

describe('money that moved is never answered with a refusal', () => {
  it.each([used, 'insufficient_funds'])(
    'when both facilitators answer while the chain is being asked: %s',
    async bSays => {
      const slowProbe: SettlementProbe = {
        supports: () => true,
        ask: async () => {
          await after(300)
          return chainSays()
        },
      }
      const block = 5_900
      setTimeout(() => {
        chain = paid
      }, block)
      const beganAt = performance.now()
      a.settleAnswer = async () => {
        await after(block + 150)
        return refusal(used)
      }
      b.settleAnswer = async () => {
        await after(Math.max(0, beganAt + block + 50 - performance.now()))
        return refusal(bSays)
      }
      const settling = pool({ probes: [slowProbe] }).settle(newPayload(), requirements())
      // Each says that another one used it: what the chain shows may be another seller's process.
      expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
    },
  )

  it('when the clock is fast', async () => {
    a.settleAnswer = httpError(502)
    chain = paidAt(Math.floor((Date.now() - 10_000) / 1000) + 2)
    expect(await outcome(done(pool().settle(newPayload(), requirements())))).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('when the connection broke while the answer was read', async () => {
    const cause = Object.assign(new Error('read'), { code: 'EHOSTUNREACH', syscall: 'read' })
    a.settleAnswer = new TypeError('fetch failed', { cause })
    b.settleAnswer = refusal(used)
    chain = paid
    expect(await outcome(done(pool({}, { retries: 0 }).settle(newPayload(), requirements())))).toBe('success')
  })

  it.each([
    ...[400, 402, 403, 404, 429].map(
      status => [status, 'a whole success', { ...settled, transaction: hash }] as const,
    ),
    [402, 'a success without its network', { success: true, transaction: hash }] as const,
  ])('when HTTP %d comes with %s', async (status, _, body) => {
    chain = paid
    b.settleAnswer = refusal(used)
    const aggregator = new FacilitatorAggregator({
      facilitators: [
        { id: 'a', url: 'https://a.example', fetch: async () => Response.json(body, { status }) },
        { id: 'b', client: b },
      ],
      healthCheck: false,
      retries: 0,
      settlement: { probes: [probe] },
    })
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe('success')
  })

  it('when the chain does not answer at once whether a facilitator in trouble has kept its word', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refusal('insufficient_funds')
    chain = [silent, paid]
    expect(await outcome(done(pool().settle(newPayload(), requirements())))).toBe('success')
  })

  it('when a probe throws what says nothing', async () => {
    a.settleAnswer = httpError(502)
    const odd: SettlementProbe = {
      supports: () => true,
      ask: () => Promise.reject(Object.assign(new Error(), { message: undefined })),
    }
    const settling = pool({ probes: [odd] }, { deadlineMs: 3_000 }).settle(newPayload(), requirements())
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('when a probe does not say when it was paid', async () => {
    a.settleAnswer = httpError(502)
    chain = { state: 'paid', transaction: hash } as ProbeAnswer
    const settling = pool({}, { deadlineMs: 3_000 }).settle(newPayload(), requirements())
    expect(await outcome(done(settling))).toBe('SETTLEMENT_INDETERMINATE')
  })

  it('when the node that knows the time knows a block more than the one that knows the state', async () => {
    const end = 2_000_000_000
    const client = {
      getBlock: async () => ({ number: 101n, timestamp: BigInt(end + 100) }),
      readContract: async ({ blockNumber }: { blockNumber?: bigint }) => {
        if (blockNumber !== undefined && blockNumber > 100n) throw new Error('header not found')
        return false
      },
    }
    const payment = newPayload()
    Object.assign(payment.payload.authorization as object, { validBefore: `${end}` })
    a.settleAnswer = httpError(502)
    b.settleAnswer = hanging
    const behind = evmSettlementProbe({ [network]: { client: client as never } })
    expect(await outcome(done(pool({ probes: [behind] }).settle(payment, requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
  })

  it('when an authorization has run out only just', async () => {
    const end = 2_000_000_000
    a.settleAnswer = httpError(502)
    b.settleAnswer = hanging
    chain = { state: 'unspent', asOf: end + 59 }
    expect(await outcome(done(pool().settle(permit2Payload('1', `${end}`), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    chain = { state: 'unspent', asOf: end + 60 }
    expect(await outcome(done(pool().settle(permit2Payload('2', `${end}`), requirements())))).toBe(
      'refused: payment_expired',
    )
  })
})

describe('a verdict', () => {
  it('is not shopped while an overtaken facilitator is still silent', async () => {
    const c = new FakeFacilitator()
    a.settleAnswer = hanging
    b.settleAnswer = refusal('insufficient_funds')
    const aggregator = pool(
      {},
      { facilitators: [a, b, c].map((client, i) => ({ id: 'abc'[i] ?? '', client })), deadlineMs: 30_000 },
    )
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).not.toBe('success')
    expect([a, b, c].map(({ calls }) => calls.settle)).toEqual([1, 1, 0])
  })
})

describe('after its deadline', () => {
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

describe('with upto, settled at less than was verified', () => {
  const terms = (amount: string) => requirements({ scheme: 'upto', amount })

  it("the buyer's retry is the same purchase, and its first settlement counts", async () => {
    a.supportedAnswer = supporting(kind({ scheme: 'upto' }))
    b.supportedAnswer = a.supportedAnswer
    const payment = permit2Payload()
    const asked: string[] = []
    const watching: SettlementProbe = {
      supports: () => true,
      ask: async ({ amount }) => {
        asked.push(amount)
        return chainSays()
      },
    }
    a.settleAnswer = httpError(502)
    chain = silent
    const aggregator = pool({ probes: [watching] }, { deadlineMs: { settle: 3_000 } })
    expect((await aggregator.verify(payment, terms('10000'))).isValid).toBe(true)
    expect(await outcome(done(aggregator.settle(payment, terms('4000'))))).toBe('SETTLEMENT_INDETERMINATE')
    expect((await aggregator.verify(payment, terms('10000'))).isValid).toBe(true)
    chain = paid
    expect(await outcome(done(aggregator.settle(payment, terms('5000'))))).toBe('success')
    expect(new Set(asked)).toEqual(new Set(['4000']))
  })
})

describe('with upto, settled at less the second time', () => {
  it.each([
    ['nothing was sent', refused()],
    ['it was left unresolved', httpError(502)],
  ])('what has moved counts, after %s', async (_, first) => {
    a.supportedAnswer = supporting(kind({ scheme: 'upto' }))
    b.supportedAnswer = a.supportedAnswer
    let moved = 0
    const counting: SettlementProbe = {
      supports: () => true,
      ask: async ({ amount }) => {
        if (moved === 0) return unspent
        return moved >= Number(amount) ? paid : { state: 'spent-otherwise', transaction: hash }
      },
    }
    const payment = permit2Payload()
    const aggregator = pool({ probes: [counting] }, { retries: 0, deadlineMs: { settle: 3_000 } })
    const settleAt = (amount: string) =>
      outcome(done(aggregator.settle(payment, requirements({ scheme: 'upto', amount }))))
    a.settleAnswer = first
    b.settleAnswer = first
    await settleAt('5000')
    const losesItsAnswer = () => {
      moved = 4_000
      throw httpError(502)
    }
    a.settleAnswer = losesItsAnswer
    b.settleAnswer = losesItsAnswer
    expect(await settleAt('4000')).toBe('success')
  })
})

describe('a payload whose other authorization is null', () => {
  it.each([
    ['EIP-3009', () => ({ ...newPayload().payload, permit2Authorization: null })],
    ['Permit2', () => ({ ...permit2Payload('901').payload, authorization: null })],
  ])('has one: %s', async (_, content) => {
    const payment = { ...newPayload(), payload: content() }
    expect(await outcome(done(pool().settle(payment, requirements())))).toBe('success')
  })
})

describe('a ledger over an unsteady network', () => {
  it.each([
    ['at once', [probe], 2_000],
    ['later, without a probe', [], 100_000],
  ])('that grants a claim too late lets the payment be settled %s', async (_, probes, waitMs) => {
    const inner = new MemoryLedger()
    let claims = 0
    const ledger = ledgerWith(inner, {
      claim: async request => {
        if (++claims === 1) await after(6_000)
        return inner.claim(request)
      },
    })
    const aggregator = pool({ ledger, probes })
    const payment = newPayload()
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('LEDGER_FAILED')
    await vi.advanceTimersByTimeAsync(waitMs)
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('success')
  })

  it('that is sent an update twice has stored it', async () => {
    const inner = new MemoryLedger()
    const ledger = ledgerWith(inner, {
      update: async (key, claim, state) => {
        await inner.update(key, claim, state)
        return inner.update(key, claim, state)
      },
    })
    expect(await outcome(done(pool({ ledger }).settle(newPayload(), requirements())))).toBe('success')
  })

  it.each(['with a slow watch', 'stopped', 'without timers'])(
    'that fails once stores a success before another process may deliver it: %s',
    async how => {
      const inner = new MemoryLedger()
      let updates = 0
      const ledger = ledgerWith(inner, {
        update: async (key, claim, state) => {
          if (++updates === 1) throw new Error('down')
          return inner.update(key, claim, state)
        },
      })
      const payment = newPayload()
      const first = pool(
        { ledger, watchIntervalMs: 120_000 },
        how === 'without timers' ? { healthCheck: { mode: 'lazy' } } : {},
      )
      expect(await outcome(done(first.settle(payment, requirements())))).toBe('success')
      if (how === 'stopped') await done(first.stop())
      await vi.advanceTimersByTimeAsync(91_000)
      chain = paid
      expect(await outcome(done(pool({ ledger }).settle(payment, requirements())))).toBe(
        'refused: duplicate_settlement',
      )
    },
  )

  it('that is down at stop() is tried once more', async () => {
    const inner = new MemoryLedger()
    let isDown = true
    const ledger = ledgerWith(inner, {
      update: (key, claim, state) =>
        isDown ? Promise.reject(new Error('down')) : inner.update(key, claim, state),
    })
    const payment = newPayload()
    const first = pool({ ledger })
    expect(await outcome(done(first.settle(payment, requirements())))).toBe('success')
    isDown = false
    await done(first.stop())
    await vi.advanceTimersByTimeAsync(91_000)
    chain = paid
    expect(await outcome(done(pool({ ledger }).settle(payment, requirements())))).toBe(
      'refused: duplicate_settlement',
    )
  })

  it('that is down does not let a settlement be closed', async () => {
    const inner = new MemoryLedger()
    let isDown = false
    const ledger = ledgerWith(inner, {
      update: (key, claim, state) =>
        isDown ? Promise.reject(new Error('down')) : inner.update(key, claim, state),
    })
    const aggregator = pool({ ledger }, { deadlineMs: { settle: 3_000 } })
    a.settleAnswer = httpError(502)
    chain = silent
    await outcome(done(aggregator.settle(newPayload(), requirements())))
    const [left] = await aggregator.getUnresolvedSettlements()
    isDown = true
    await expect(aggregator.closeSettlement(left?.key ?? '')).rejects.toThrow('down')
  })

  it('may answer at once', async () => {
    const ledger = {
      claim: ({ since, query }: ClaimRequest) => ({ kind: 'claimed', before: undefined, since, query }),
      update: () => true,
      get: () => undefined,
      unresolved: () => [],
    }
    expect(await outcome(done(pool({ ledger: ledger as never }).settle(newPayload(), requirements())))).toBe(
      'success',
    )
  })
})

describe('stop()', () => {
  it('with inFlight: "abort" ends a settlement that waits for the chain to check a word', async () => {
    a.settleAnswer = refusal('failed_to_execute_transfer')
    b.settleAnswer = refusal('insufficient_funds')
    chain = silent
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
    chain = paid
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

describe('the watch', () => {
  let resolved: { key: string }[]
  const watched = (aggregator: FacilitatorAggregator) => {
    resolved = []
    aggregator.on('settlement:resolved', event => resolved.push(event))
    return aggregator
  }
  const briefly = { deadlineMs: { settle: 3_000 } }
  const leaveUnresolved = async (aggregator: FacilitatorAggregator, payment = newPayload()) => {
    a.settleAnswer = httpError(502)
    chain = silent
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('SETTLEMENT_INDETERMINATE')
  }

  it('goes on after stop() and start()', async () => {
    const aggregator = watched(pool({}, briefly))
    await leaveUnresolved(aggregator)
    await aggregator.stop()
    aggregator.start()
    chain = paid
    await vi.advanceTimersByTimeAsync(30_000)
    expect(resolved).toHaveLength(1)
  })

  it('is not switched off by a stop() that start() has overtaken', async () => {
    let release = () => {}
    a.settleAnswer = () =>
      new Promise(resolve => {
        release = () => resolve(settled)
      })
    const aggregator = watched(pool({}, briefly))
    const first = outcome(aggregator.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(100)
    const stopping = aggregator.stop()
    aggregator.start()
    release()
    expect(await first).toBe('success')
    await stopping
    await leaveUnresolved(aggregator)
    chain = paid
    await vi.advanceTimersByTimeAsync(30_000)
    expect(resolved).toHaveLength(1)
  })

  it('finds what another process has left in a shared ledger', async () => {
    const inner = new MemoryLedger()
    const ledger = ledgerWith(inner, {})
    a.settleAnswer = hanging
    chain = silent
    pool({ ledger })
      .settle(newPayload(), requirements())
      .catch(() => {})
    await vi.advanceTimersByTimeAsync(100)
    vi.clearAllTimers()
    const next = watched(pool({ ledger }))
    next.start()
    chain = paid
    await vi.advanceTimersByTimeAsync(200_000)
    expect(resolved).toHaveLength(1)
    await next.stop()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('does not tell of what has been delivered while it asked', async () => {
    let isSlow = false
    const once: SettlementProbe = {
      supports: () => true,
      ask: async () => {
        const wasSlow = isSlow
        isSlow = false
        if (wasSlow) await after(2_000)
        return chainSays()
      },
    }
    const aggregator = watched(pool({ probes: [once] }, briefly))
    const payment = newPayload()
    await leaveUnresolved(aggregator, payment)
    chain = paid
    isSlow = true
    while (isSlow) await vi.advanceTimersByTimeAsync(100)
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('success')
    await vi.advanceTimersByTimeAsync(20_000)
    expect(resolved).toEqual([])
  })

  it('sees what was added while it looked, after stop() and start() too', async () => {
    let isSlow = false
    const slowOnce: SettlementProbe = {
      supports: () => true,
      ask: async () => {
        const answer = chainSays()
        const wasSlow = isSlow
        isSlow = false
        if (wasSlow) await after(5_000)
        return answer
      },
    }
    const aggregator = watched(pool({ probes: [slowOnce] }, briefly))
    await leaveUnresolved(aggregator)
    chain = paid
    isSlow = true
    while (isSlow) await vi.advanceTimersByTimeAsync(100)
    await leaveUnresolved(aggregator)
    await vi.advanceTimersByTimeAsync(4_000)
    await done(aggregator.stop())
    aggregator.start()
    chain = paid
    await vi.advanceTimersByTimeAsync(60_000)
    expect(resolved).toHaveLength(2)
    await done(aggregator.stop())
  })

  it('tells once of what was paid at a time that tells nothing, and asks no more', async () => {
    let questions = 0
    const counting: SettlementProbe = {
      supports: () => true,
      ask: async () => {
        questions++
        return chainSays()
      },
    }
    const aggregator = watched(pool({ probes: [counting] }, briefly))
    a.settleAnswer = httpError(502)
    chain = paidAt(Math.floor(Date.now() / 1000) - 10)
    await outcome(done(aggregator.settle(newPayload(), requirements())))
    await vi.advanceTimersByTimeAsync(11_000)
    expect(resolved).toEqual([
      expect.objectContaining({ result: 'undatable', transaction: paid.transaction }),
    ])
    expect(aggregator.getRecentLogs(1)[0]?.message).toMatch(
      /may have been paid by .*: look whether that was delivered/,
    )
    questions = 0
    await vi.advanceTimersByTimeAsync(3_600_000)
    expect([questions, resolved.length]).toEqual([0, 1])
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })

  it('tells of each once, though the look at another one fails', async () => {
    const inner = new MemoryLedger()
    let failing = ''
    const ledger = ledgerWith(inner, {
      get: key => (key === failing ? Promise.reject(new Error('down')) : inner.get(key)),
    })
    const aggregator = watched(pool({ ledger }, briefly))
    await leaveUnresolved(aggregator)
    await leaveUnresolved(aggregator)
    failing = (await aggregator.getUnresolvedSettlements())[1]?.key ?? ''
    chain = paid
    await vi.advanceTimersByTimeAsync(70_000)
    expect(resolved).toHaveLength(1)
    await aggregator.stop()
  })

  it('does not send again for ever what the ledger has stored after all', async () => {
    const inner = new MemoryLedger()
    let updates = 0
    const late = ledgerWith(inner, {
      update: async (key, claim, state) => {
        updates++
        const isStored = await inner.update(key, claim, state)
        if (updates === 1) await after(6_000)
        return isStored
      },
    })
    const aggregator = pool({ ledger: late })
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe('success')
    await vi.advanceTimersByTimeAsync(600_000)
    expect(updates).toBe(2)
    await aggregator.stop()
  })

  it('says once what keeps the chain from telling, without the key in its URL', async () => {
    const aggregator = pool({}, briefly)
    a.settleAnswer = httpError(502)
    chain = {
      state: 'cannot-tell',
      reason: 'no answer from https://node.example/v2/hunter2 or wss://node.example/hunter2',
    }
    await outcome(done(aggregator.settle(newPayload(), requirements())))
    const told = aggregator.getRecentLogs().filter(({ event }) => event === 'probe')
    expect(told).toHaveLength(1)
    expect(told[0]?.message).toContain(
      'does not show a payment: no answer from https://node.example or wss://node.example',
    )
    expect(JSON.stringify(aggregator.getRecentLogs())).not.toContain('hunter2')
  })

  it('tells the key by which the seller closes what was refunded, and then a retry is refused', async () => {
    const aggregator = watched(pool({}, briefly))
    const payment = newPayload()
    await leaveUnresolved(aggregator, payment)
    chain = paid
    await vi.advanceTimersByTimeAsync(30_000)
    expect(await aggregator.closeSettlement(resolved[0]?.key ?? '')).toBe(true)
    expect(await aggregator.getUnresolvedSettlements()).toEqual([])
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe(
      'refused: duplicate_settlement',
    )
    expect(await aggregator.closeSettlement('nothing')).toBe(false)
  })
})

describe('a full ledger', () => {
  it('drops the oldest unresolved settlements once their authorizations are over', async () => {
    const aggregator = pool({ probes: [], ledger: new MemoryLedger({ maxEntries: 2 }) })
    a.settleAnswer = httpError(502)
    for (let i = 0; i < 2; i++) await outcome(done(aggregator.settle(newPayload(), requirements())))
    a.settleAnswer = settled
    expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('LEDGER_FULL')
    vi.setSystemTime(Date.now() + 3_600_000)
    expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('success')
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })
})

describe('where a request takes its work with it when its caller leaves', () => {
  const lazily = (waitUntil: (work: Promise<unknown>) => void) =>
    pool(
      {},
      { healthCheck: { mode: 'lazy', intervalMs: 3_600_000 }, deadlineMs: { settle: 3_000 }, waitUntil },
    )

  it('a settle is handed to waitUntil, and a verify is not', async () => {
    const works: Promise<unknown>[] = []
    const aggregator = lazily(work => works.push(work))
    await aggregator.verify(newPayload(), requirements())
    const before = works.length
    await aggregator.verify(newPayload(), requirements())
    expect(works.length).toBe(before)
    a.settleAnswer = httpError(502)
    chain = silent
    await outcome(done(aggregator.settle(newPayload(), requirements())))
    expect(works.length).toBe(before + 1)
    await works.at(-1)
  })

  it('what is unresolved is looked at beside later requests, without timers', async () => {
    const works: Promise<unknown>[] = []
    const aggregator = lazily(work => works.push(work))
    const resolved: string[] = []
    aggregator.on('settlement:resolved', ({ result }) => resolved.push(result))
    a.settleAnswer = httpError(502)
    chain = silent
    await outcome(done(aggregator.settle(newPayload(), requirements())))
    expect(vi.getTimerCount()).toBe(0)
    chain = paid
    await aggregator.verify(newPayload(), requirements())
    expect(resolved).toEqual([])
    await vi.advanceTimersByTimeAsync(10_000)
    await aggregator.verify(newPayload(), requirements())
    await Promise.all(works)
    expect(resolved).toEqual(['paid'])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('a look that ended with its request is not the last', async () => {
    let isDead = false
    const aggregator = new FacilitatorAggregator({
      facilitators: [{ id: 'a', client: a }],
      healthCheck: { mode: 'lazy', intervalMs: 3_600_000 },
      deadlineMs: { settle: 3_000 },
      settlement: {
        probes: [{ supports: () => true, ask: () => (isDead ? hanging() : Promise.resolve(chainSays())) }],
      },
    })
    const resolved: string[] = []
    aggregator.on('settlement:resolved', ({ result }) => resolved.push(result))
    a.settleAnswer = httpError(502)
    chain = silent
    await outcome(done(aggregator.settle(newPayload(), requirements())))
    await vi.advanceTimersByTimeAsync(10_000)
    isDead = true
    await aggregator.verify(newPayload(), requirements())
    vi.clearAllTimers()
    isDead = false
    chain = paid
    for (let i = 0; i < 3; i++) {
      await vi.advanceTimersByTimeAsync(60_000)
      await aggregator.verify(newPayload(), requirements())
    }
    await vi.advanceTimersByTimeAsync(10)
    expect(resolved).toEqual(['paid'])
  })

  it('a waitUntil that throws changes nothing', async () => {
    const aggregator = lazily(() => {
      throw new Error('outside of a request')
    })
    expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('success')
    expect(aggregator.getRecentLogs().map(({ event }) => event)).toContain('background')
  })
})
