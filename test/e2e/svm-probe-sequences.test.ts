/** What the probe for Solana says in the course of anything that may happen to a cluster, held against the cluster. */
import { generateKeyPairSigner } from '@solana/kit'
import fc from 'fast-check'
import { expect, it } from 'vitest'
import { readPayment } from '../../src/payment/payment.ts'
import { identify } from '../../src/payment/payment-key.ts'
import { svmSettlementProbe } from '../../src/svm/index.ts'
import { type Market, network, openMarket, price } from '../bed/solana/market.ts'
import { advanceNonce, putNonce } from '../bed/solana/transactions.ts'

type Step =
  | { readonly kind: 'advance' | 'skip' | 'fork' | 'lag'; readonly slots: number }
  | { readonly kind: 'send' | 'spoil' | 'ask' }

const slots = (kind: 'advance' | 'skip' | 'fork' | 'lag', max: number) =>
  fc.integer({ min: 1, max }).map((count): Step => ({ kind, slots: count }))

const steps = fc.array(
  fc.oneof(
    { weight: 4, arbitrary: fc.constant<Step>({ kind: 'ask' }) },
    { weight: 3, arbitrary: slots('advance', 200) },
    { weight: 2, arbitrary: slots('advance', 4) },
    { weight: 1, arbitrary: slots('skip', 300) },
    // What is finalized is not forked off.
    { weight: 2, arbitrary: slots('fork', 31) },
    { weight: 1, arbitrary: slots('lag', 100) },
    { weight: 2, arbitrary: fc.constant<Step>({ kind: 'send' }) },
    { weight: 1, arbitrary: fc.constant<Step>({ kind: 'spoil' }) },
  ),
  { maxLength: 25 },
)

/** The payment, and something that makes it impossible: another use of its nonce, or of the buyer's money. */
async function sign(market: Market, hasNonce: boolean) {
  const nonce = (await generateKeyPairSigner()).address
  const { address } = market.buyer
  const lifetime = hasNonce
    ? putNonce(market.cluster, nonce, address)
    : market.cluster.head('processed').blockhash
  const advance = hasNonce ? [advanceNonce(nonce, address)] : []
  const payment = await market.sign({ lifetime, instructions: [...advance, market.transfer(price)] })
  const spoil = () => market.sign({ instructions: hasNonce ? advance : [market.transfer(1_000_000n - 1n)] })
  return { payment, spoil }
}

it('in any course of events a payment is called paid only if it is, and expired only if it never can be', async () => {
  let expiries = 0
  let successes = 0
  await fc.assert(
    fc.asyncProperty(steps, fc.boolean(), async (course, hasNonce) => {
      const market = await openMarket()
      const { cluster, node } = market
      try {
        cluster.advance(100)
        const { payment, spoil } = await sign(market, hasNonce)
        const query = (await identify(readPayment(payment.payload, market.requirements())))?.query
        if (!query) throw new Error('the payment has no key')
        const probe = svmSettlementProbe({ [network]: { rpcUrl: node.url } })
        const landed = () =>
          cluster.blocks
            .flatMap(({ transactions }) => transactions)
            .find(({ wire }) => Buffer.from(wire).toString('base64') === payment.complete)
        let isExpired = false
        for (const step of [...course, { kind: 'send' } as Step, { kind: 'ask' } as Step]) {
          if (step.kind === 'advance') cluster.advance(step.slots)
          if (step.kind === 'skip') cluster.skip(step.slots)
          if (step.kind === 'fork') cluster.fork(step.slots)
          if (step.kind === 'lag') node.faults.behind = step.slots
          if (step.kind === 'send') payment.send()
          if (step.kind === 'spoil') cluster.send(Buffer.from((await spoil()).complete, 'base64'))
          if (isExpired) expect(landed()).toBeUndefined()
          if (step.kind !== 'ask') continue
          const answer = await probe.ask(query, { signal: AbortSignal.timeout(10_000) })
          const seen = landed()
          const isSeen = seen !== undefined && seen.slot <= cluster.head('confirmed', node.faults.behind).slot
          if (answer.state === 'paid') {
            successes++
            expect([isSeen, seen?.err]).toEqual([true, null])
          }
          if (answer.state === 'spent-otherwise') expect(seen?.err).not.toBeNull()
          if (answer.state === 'unspent') {
            expect(isSeen).toBe(false)
            isExpired ||= answer.asOf === Number.POSITIVE_INFINITY
            if (isExpired) expiries++
          }
          node.faults.behind = 0
        }
      } finally {
        await market.stop()
      }
    }),
    { numRuns: 60, seed: 1 },
  )
  // Both are among what this seed draws.
  expect(Math.min(expiries, successes)).toBeGreaterThan(0)
})
