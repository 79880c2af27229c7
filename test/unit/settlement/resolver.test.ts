/** Unresolved settlements are watched until the chain shows what became of each, and it is announced once. */
import { describe, expect, it, vi } from 'vitest'
import {
  type ChainReader,
  type FacilitatorAggregator,
  MemoryLedger,
  type ProbeAnswer,
  SettlementIndeterminateError,
} from '../../../src/index.ts'
import {
  after,
  done,
  hanging,
  hash,
  httpError,
  kind,
  ledgerWith,
  newPayload,
  outcome,
  paid,
  paidAt,
  payer,
  permit2Payload,
  requirements,
  type SettlementByReaders,
  settled,
  silent,
  supporting,
  unspent,
} from '../builders.ts'
import { a, aggregator, b, briefly, chain, emitted, pool, resolved, settle } from './harness.ts'

const spentOtherwise: ProbeAnswer = { state: 'spent-otherwise' }

describe('an unresolved settlement', () => {
  async function unresolved(settlement: SettlementByReaders = {}) {
    a.settleAnswer = httpError(502)
    chain.answer = silent
    const aggregator = pool(settlement, briefly)
    const one = newPayload()
    await expect(done(aggregator.settle(one, requirements()))).rejects.toBeInstanceOf(
      SettlementIndeterminateError,
    )
    return { aggregator, one }
  }

  it('is listed for the seller while it is unresolved, and at stop', async () => {
    const { aggregator } = await unresolved()
    const left = { network: requirements().network, payer, amount: '10000', payTo: requirements().payTo }
    expect(await aggregator.getUnresolvedSettlements()).toEqual([expect.objectContaining(left)])
    expect(vi.getTimerCount()).toBe(1)
    await aggregator.stop()
    expect(vi.getTimerCount()).toBe(0)
    expect(emitted('settlement:indeterminate').at(-1)).toMatchObject({ ...left, isLeftAtStop: true })
    expect(aggregator.getRecentLogs(1)[0]).toMatchObject({ level: 'error', isLeftAtStop: true })
  })

  it.each([
    [paid, 'paid', 1],
    [spentOtherwise, 'spent-otherwise', 0],
    [{ state: 'unspent', asOf: 4_000_000_000 } as const, 'expired', 0],
  ])('is watched in the background until the chain shows %j', async (answer, result, left) => {
    const { aggregator } = await unresolved()
    await vi.advanceTimersByTimeAsync(30_000)
    expect(emitted('settlement:resolved')).toEqual([])
    chain.answer = answer
    await vi.advanceTimersByTimeAsync(11_000)
    expect(emitted('settlement:resolved')).toEqual([expect.objectContaining({ result, payer })])
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(left)
    expect(vi.getTimerCount()).toBe(0)
  })
})

describe('the watch', () => {
  const leaveUnresolved = async (aggregator: FacilitatorAggregator, payment = newPayload()) => {
    a.settleAnswer = httpError(502)
    chain.answer = silent
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('SETTLEMENT_INDETERMINATE')
  }

  it('goes on after stop() and start()', async () => {
    const aggregator = pool({}, briefly)
    await leaveUnresolved(aggregator)
    await aggregator.stop()
    aggregator.start()
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(30_000)
    expect(resolved()).toEqual(['paid'])
  })

  it('is not switched off by a stop() that start() has overtaken', async () => {
    let release = () => {}
    a.settleAnswer = () =>
      new Promise(resolve => {
        release = () => resolve(settled)
      })
    const aggregator = pool({}, briefly)
    const first = outcome(aggregator.settle(newPayload(), requirements()))
    await vi.advanceTimersByTimeAsync(100)
    const stopping = aggregator.stop()
    aggregator.start()
    release()
    expect(await first).toBe('success')
    await stopping
    await leaveUnresolved(aggregator)
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(30_000)
    expect(resolved()).toEqual(['paid'])
  })

  it('finds what another process has left in a shared ledger', async () => {
    const inner = new MemoryLedger()
    const ledger = ledgerWith(inner, {})
    a.settleAnswer = hanging
    chain.answer = silent
    pool({ ledger })
      .settle(newPayload(), requirements())
      .catch(() => {})
    await vi.advanceTimersByTimeAsync(100)
    vi.clearAllTimers()
    const next = pool({ ledger })
    next.start()
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(200_000)
    expect(resolved()).toEqual(['paid'])
    await next.stop()
    expect(vi.getTimerCount()).toBe(0)
  })

  it('does not announce what has been delivered while it asked', async () => {
    let isSlow = false
    const once: ChainReader = {
      supports: () => true,
      ask: async () => {
        const wasSlow = isSlow
        isSlow = false
        if (wasSlow) await after(2_000)
        return chain.ask()
      },
    }
    const aggregator = pool({ probes: [once] }, briefly)
    const payment = newPayload()
    await leaveUnresolved(aggregator, payment)
    chain.answer = paid
    isSlow = true
    while (isSlow) await vi.advanceTimersByTimeAsync(100)
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe('success')
    await vi.advanceTimersByTimeAsync(20_000)
    expect(resolved()).toEqual([])
  })

  it('sees what was added while it asked, after stop() and start() too', async () => {
    let isSlow = false
    const slowOnce: ChainReader = {
      supports: () => true,
      ask: async () => {
        const answer = chain.ask()
        const wasSlow = isSlow
        isSlow = false
        if (wasSlow) await after(5_000)
        return answer
      },
    }
    const aggregator = pool({ probes: [slowOnce], credit: false }, briefly)
    await leaveUnresolved(aggregator)
    chain.answer = paid
    isSlow = true
    while (isSlow) await vi.advanceTimersByTimeAsync(100)
    await leaveUnresolved(aggregator)
    await vi.advanceTimersByTimeAsync(4_000)
    await done(aggregator.stop())
    aggregator.start()
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(60_000)
    expect(resolved()).toEqual(['paid', 'paid'])
    await done(aggregator.stop())
  })

  it('announces once what was paid at a time that proves nothing, and asks no more', async () => {
    let questions = 0
    const counting: ChainReader = {
      supports: () => true,
      ask: async () => {
        questions++
        return chain.ask()
      },
    }
    const aggregator = pool({ probes: [counting] }, briefly)
    a.settleAnswer = httpError(502)
    chain.answer = paidAt(Math.floor(Date.now() / 1000) - 10)
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    await vi.advanceTimersByTimeAsync(11_000)
    expect(emitted('settlement:resolved')).toEqual([
      expect.objectContaining({ result: 'undatable', transaction: paid.transaction }),
    ])
    expect(aggregator.getRecentLogs(1)[0]?.message).toMatch(
      /may have been paid by .*: look whether that was delivered/,
    )
    questions = 0
    await vi.advanceTimersByTimeAsync(3_600_000)
    expect([questions, resolved().length]).toEqual([0, 1])
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
  })

  it('announces each settlement once, though the question about another one fails', async () => {
    const inner = new MemoryLedger()
    let failing = ''
    const ledger = ledgerWith(inner, {
      get: key => (key === failing ? Promise.reject(new Error('down')) : inner.get(key)),
    })
    const aggregator = pool({ ledger }, briefly)
    await leaveUnresolved(aggregator)
    await leaveUnresolved(aggregator)
    failing = (await aggregator.getUnresolvedSettlements())[1]?.key ?? ''
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(70_000)
    expect(resolved()).toEqual(['paid'])
    await aggregator.stop()
  })

  it('does not send again for ever what the ledger has stored after all', async () => {
    const inner = new MemoryLedger()
    let updates = 0
    const late = ledgerWith(inner, {
      update: async update => {
        updates++
        const isStored = await inner.update(update)
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

  it('logs once why the chain cannot answer, without the key in its URL', async () => {
    const aggregator = pool({}, briefly)
    a.settleAnswer = httpError(502)
    chain.answer = {
      state: 'cannot-tell',
      reason: 'no answer from https://node.example/v2/hunter2 or wss://node.example/hunter2',
    }
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    const logged = aggregator.getRecentLogs().filter(({ event }) => event === 'probe')
    expect(logged).toHaveLength(1)
    expect(logged[0]?.message).toContain(
      'gives no answer: no answer from https://node.example or wss://node.example',
    )
    expect(JSON.stringify(aggregator.getRecentLogs())).not.toContain('hunter2')
  })

  it('announces the key by which the seller closes what was refunded, and then a retry is refused', async () => {
    const aggregator = pool({}, briefly)
    const payment = newPayload()
    await leaveUnresolved(aggregator, payment)
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(30_000)
    expect(await aggregator.closeSettlement(emitted('settlement:resolved')[0]?.key ?? '')).toBe(true)
    expect(await aggregator.getUnresolvedSettlements()).toEqual([])
    expect(await outcome(done(aggregator.settle(payment, requirements())))).toBe(
      'refused: duplicate_settlement',
    )
    expect(await aggregator.closeSettlement('nothing')).toBe(false)
  })

  it('does not close what was charged at a lesser amount while it asked', async () => {
    a.supportedAnswer = supporting(kind({ scheme: 'upto' }))
    b.supportedAnswer = a.supportedAnswer
    let moved = 0
    let node: 'up' | 'slow' | 'down' = 'down'
    const metered: ChainReader = {
      supports: () => true,
      ask: async ({ amount }) => {
        if (node === 'down') return silent
        if (node === 'slow') await after(8_000)
        if (moved === 0) return unspent
        return moved >= Number(amount) ? paid : { state: 'spent-otherwise', transaction: hash }
      },
    }
    pool({ probes: [metered] }, { retries: 0, ...briefly })
    const payment = permit2Payload()
    const settleAt = (amount: string) => settle(payment, requirements({ scheme: 'upto', amount }))
    a.settleAnswer = httpError(502)
    expect(await settleAt('5000')).toBe('SETTLEMENT_INDETERMINATE')
    node = 'slow'
    await vi.advanceTimersByTimeAsync(10_000)
    node = 'up'
    a.settleAnswer = () => {
      node = 'down'
      moved = 4_000
      throw httpError(502)
    }
    expect(await settleAt('4000')).toBe('SETTLEMENT_INDETERMINATE')
    await vi.advanceTimersByTimeAsync(9_000)
    node = 'up'
    expect(await settleAt('4000')).toBe('success')
    expect(resolved()).toEqual([])
  })

  it('announces an entry anew that was not unresolved any more, and is again', async () => {
    const inner = new MemoryLedger()
    let isRetried = false
    const ledger = ledgerWith(inner, {
      list: async filter => (isRetried ? { entries: [] } : inner.list(filter)),
    })
    pool({ ledger }, briefly)
    a.settleAnswer = httpError(502)
    chain.answer = silent
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(130_000)
    expect(resolved()).toEqual(['paid'])
    isRetried = true
    await vi.advanceTimersByTimeAsync(70_000)
    isRetried = false
    await vi.advanceTimersByTimeAsync(130_000)
    expect(resolved()).toEqual(['paid', 'paid'])
  })

  it('announces others though one cannot be stored, and never that one, which was delivered', async () => {
    const inner = new MemoryLedger()
    let poisoned: string | undefined
    const ledger = ledgerWith(inner, {
      update: async update => {
        poisoned ??= update.key
        if (update.key === poisoned) throw new Error('value too large')
        return inner.update(update)
      },
    })
    pool({ ledger }, briefly)
    const announced = () => emitted('settlement:resolved').map(({ key }) => key)
    expect(await settle()).toBe('success')
    a.settleAnswer = httpError(502)
    chain.answer = silent
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(600_000)
    const left = await aggregator.getUnresolvedSettlements()
    expect(announced()).toEqual(left.map(({ key }) => key))
    expect(left).toEqual([expect.objectContaining({ result: 'paid', transaction: paid.transaction })])
    expect(announced()).not.toContain(poisoned)
  })

  it('keeps a settlement whose retry was rejected, though it asked in between', async () => {
    const ledger = new MemoryLedger()
    let delayMs = 0
    ledger.update = async (...update) => {
      await after(delayMs)
      return MemoryLedger.prototype.update.apply(ledger, update)
    }
    a.settleAnswer = httpError(502)
    chain.answer = silent
    pool({ ledger, onRetry: 'reject', watchIntervalMs: 1_000 }, briefly)
    const payment = newPayload()
    expect(await settle(payment)).toBe('SETTLEMENT_INDETERMINATE')
    delayMs = 5_000
    expect(await settle(payment)).toBe('refused: duplicate_settlement')
    chain.answer = paid
    await vi.advanceTimersByTimeAsync(3_000)
    expect(resolved()).toEqual(['paid'])
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
    chain.answer = silent
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    expect(works.length).toBe(before + 1)
    await works.at(-1)
  })

  it('an unresolved settlement is resolved beside later requests, without timers', async () => {
    const works: Promise<unknown>[] = []
    const aggregator = lazily(work => works.push(work))
    a.settleAnswer = httpError(502)
    chain.answer = silent
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    expect(vi.getTimerCount()).toBe(0)
    chain.answer = paid
    await aggregator.verify(newPayload(), requirements())
    expect(resolved()).toEqual([])
    await vi.advanceTimersByTimeAsync(10_000)
    await aggregator.verify(newPayload(), requirements())
    await Promise.all(works)
    expect(resolved()).toEqual(['paid'])
    expect(vi.getTimerCount()).toBe(0)
  })

  it('a question that ended with its request is not the last', async () => {
    let isDead = false
    pool(
      { probes: [{ supports: () => true, ask: () => (isDead ? hanging() : Promise.resolve(chain.ask())) }] },
      {
        facilitators: [{ id: 'a', client: a }],
        healthCheck: { mode: 'lazy', intervalMs: 3_600_000 },
        ...briefly,
      },
    )
    a.settleAnswer = httpError(502)
    chain.answer = silent
    expect(await outcome(done(aggregator.settle(newPayload(), requirements())))).toBe(
      'SETTLEMENT_INDETERMINATE',
    )
    await vi.advanceTimersByTimeAsync(10_000)
    isDead = true
    await aggregator.verify(newPayload(), requirements())
    vi.clearAllTimers()
    isDead = false
    chain.answer = paid
    for (let i = 0; i < 3; i++) {
      await vi.advanceTimersByTimeAsync(60_000)
      await aggregator.verify(newPayload(), requirements())
    }
    await vi.advanceTimersByTimeAsync(10)
    expect(resolved()).toEqual(['paid'])
  })

  it('a waitUntil that throws changes nothing', async () => {
    const aggregator = lazily(() => {
      throw new Error('outside of a request')
    })
    expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('success')
    expect(aggregator.getRecentLogs().map(({ event }) => event)).toContain('background')
  })
})
