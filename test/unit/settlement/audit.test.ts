/** Invariant 3 with `audit`: a claim of success waits for the chain, and a false one is found out. */
import { describe, expect, it, onTestFinished, vi } from 'vitest'
import type { ChainReader } from '../../../src/index.ts'
import {
  after,
  done,
  hash,
  newPayload,
  outcome,
  paid,
  paidAt,
  refusal,
  requirements,
  settled,
  silent,
  unspent,
} from '../builders.ts'
import {
  a,
  aggregator,
  b,
  chain,
  charges,
  emitted,
  longUnspent,
  pool,
  poolWithoutRetries,
  probe,
  quarantined,
  seconds,
  settle,
  settleCalls,
} from './harness.ts'

describe('an audit', () => {
  it('quarantines a facilitator whose success the chain does not know, and goes on', async () => {
    a.settleAnswer = settled
    const aggregator = pool({ audit: 'always' })
    b.settleAnswer = () => {
      chain.answer = paid
      return { ...settled, transaction: hash }
    }
    expect(await done(aggregator.settle(newPayload(), requirements()))).toMatchObject({ transaction: hash })
    expect(emitted('facilitator:quarantined')).toEqual([
      { facilitator: 'a', network: requirements().network, transaction: settled.transaction },
    ])
    await done(aggregator.settle(newPayload(), requirements()))
    expect(settleCalls()).toEqual([1, 2])
    aggregator.setFacilitatorEnabled('a', true)
    await done(aggregator.settle(newPayload(), requirements()))
    expect(settleCalls()).toEqual([2, 2])
  })

  it('believes the chain, and gives it time to see the transaction', async () => {
    chain.answer = [unspent, unspent, paid]
    expect(await done(pool({ audit: 'always' }).settle(newPayload(), requirements()))).toEqual({
      ...settled,
      transaction: hash,
    })
    expect(emitted('facilitator:quarantined')).toEqual([])
  })

  it('does not call a claim false that a reorganization took back', async () => {
    chain.answer = [{ state: 'cannot-tell', reason: '1 of 3 confirmations', isMined: true }, unspent]
    b.settleAnswer = () => {
      chain.answer = paid
      return settled
    }
    expect(await done(pool({ audit: 'always' }).settle(newPayload(), requirements()))).toMatchObject({
      success: true,
    })
    expect(settleCalls()).toEqual([1, 1])
    expect(emitted('facilitator:quarantined')).toEqual([])
  })

  it.each([
    [0.0999, 1],
    [0.1, 0],
  ])('checks a success with sample when the random number is %d: %d questions', async (random, questions) => {
    const drawn = vi.spyOn(Math, 'random').mockReturnValue(random)
    onTestFinished(() => drawn.mockRestore())
    chain.answer = paid
    pool({ audit: 'sample' })
    expect(await settle()).toBe('success')
    expect(chain.questions).toBe(questions)
  })

  it('checks about a tenth of the successes with sample', async () => {
    chain.answer = paid
    const aggregator = pool({ audit: 'sample' })
    for (let i = 0; i < 500; i++) await done(aggregator.settle(newPayload(), requirements()))
    expect(chain.questions).toBeGreaterThan(15)
    expect(chain.questions).toBeLessThan(120)
  })

  const claimed = `0x${'66'.repeat(32)}`
  const claim = { ...settled, transaction: claimed }

  const audited = (by: ChainReader = probe) => poolWithoutRetries({ audit: 'always', probes: [by] })

  it('believes the success of a purchase of nothing, which moves nothing', async () => {
    a.settleAnswer = { ...settled, transaction: '' }
    audited()
    const terms = requirements({ amount: '0' })
    expect(await done(outcome(aggregator.settle(newPayload(), terms)))).toBe('success')
    expect(quarantined()).toEqual([])
  })

  it('does not believe the success of a purchase of something that names no transaction', async () => {
    a.settleAnswer = { ...settled, transaction: '' }
    b.settleAnswer = charges(settled)
    audited()
    expect(await settle()).toBe('success')
    expect(quarantined()).toEqual(['a'])
  })

  it('finds a false claim of an overtaken facilitator after the verdict of the next', async () => {
    a.settleAnswer = async () => {
      await after(7_000)
      return claim
    }
    b.settleAnswer = refusal('insufficient_funds')
    audited()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(quarantined()).toEqual(['a'])
  })

  it('finds both of two false claims', async () => {
    a.settleAnswer = async () => {
      await after(6_000)
      return claim
    }
    b.settleAnswer = async () => {
      await after(1_500)
      return claim
    }
    audited()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(quarantined().sort()).toEqual(['a', 'b'])
  })

  it('finds a false claim though another facilitator has paid meanwhile', async () => {
    a.settleAnswer = async () => {
      await after(5_400)
      return claim
    }
    b.settleAnswer = async () => {
      await after(600)
      chain.answer = paid
      return { ...settled, transaction: hash }
    }
    audited()
    expect(await settle()).toBe('success')
    expect(quarantined()).toEqual(['a'])
  })

  it.each([
    ['cancelled', { state: 'spent-otherwise', transaction: hash } as const, 'refused: nonce_already_used'],
    ['run out', { state: 'unspent', asOf: 5_000_000_000 } as const, 'refused: payment_expired'],
  ])('finds a false claim about a payment that was %s', async (_, answer, expected) => {
    a.settleAnswer = claim
    audited({ supports: () => true, ask: async () => answer })
    expect(await settle()).toBe(expected)
    expect(quarantined()).toEqual(['a'])
  })

  it('quarantines nobody who names the transaction of an earlier purchase', async () => {
    a.settleAnswer = { ...settled, transaction: hash }
    const before = Date.now() / 1000 - 600
    audited({ supports: () => true, ask: async () => paidAt(before) })
    expect(await settle()).toBe('refused: nonce_already_used')
    expect(quarantined()).toEqual([])
  })

  it('warns once of a network that no probe covers', async () => {
    audited({ supports: () => false, ask: async () => silent })
    for (let i = 0; i < 3; i++) expect(await settle()).toBe('success')
    const warnings = aggregator.getRecentLogs().filter(({ level }) => level === 'warn')
    expect(warnings.map(({ message }) => message)).toEqual([
      expect.stringMatching(/eip155:84532.*no probe covers/),
    ])
  })
})

describe('an audit by a node that is behind', () => {
  it('quarantines nobody', async () => {
    pool({ audit: 'always' })
    chain.answer = longUnspent()
    expect(await settle()).toBe('SETTLEMENT_INDETERMINATE')
    expect(quarantined()).toEqual([])
  })

  it('waits for one that is behind by seconds only', async () => {
    let paidAtSecond = Number.POSITIVE_INFINITY
    a.settleAnswer = () => {
      paidAtSecond = seconds()
      return settled
    }
    const lagging: ChainReader = {
      supports: () => true,
      ask: async () => {
        const asOf = seconds() - 8
        return asOf >= paidAtSecond ? paidAt(paidAtSecond) : { state: 'unspent', asOf }
      },
    }
    pool({ audit: 'always', probes: [lagging] })
    expect(await settle()).toBe('success')
    expect(quarantined()).toEqual([])
  })
})

describe('an audit by a clock that is wrong', () => {
  it('quarantines nobody when it is slow by some seconds', async () => {
    const start = seconds()
    const ahead: ChainReader = {
      supports: () => true,
      ask: async () => {
        const asOf = seconds() + 2
        return seconds() - start < 0.8 ? { state: 'unspent', asOf } : { ...paid, minedAt: asOf, asOf }
      },
    }
    pool({ audit: 'always', probes: [ahead], failoverAfterMs: 0 })
    expect(await settle()).toBe('success')
    expect(aggregator.getHealthStatus().facilitators[0]?.isQuarantined).toBe(false)
  })
})
