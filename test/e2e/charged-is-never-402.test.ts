import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import {
  type AggregatorEvents,
  FacilitatorAggregator,
  SettlementIndeterminateError,
} from '../../src/index.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { price } from '../bed/seller.ts'
import { gatewayWalletExtra } from '../chaos/scenarios/gateway-wallet.ts'
import { standIn } from '../chaos/stand-ins.ts'
import { itKeepsThePromise } from './matrix-cells.ts'

/** As many as there are statuses with which a facilitator refuses. */
const statuses = 11

describe('a buyer who was charged is never asked to pay again', () => {
  describe('by a facilitator that settles and denies it', () => itKeepsThePromise('denials', statuses))
  describe('while one facilitator hangs and the next has a passing fault', () =>
    itKeepsThePromise('patience'))
  describe('when the ledger loses what it was given, or hangs', () => itKeepsThePromise('ledgers'))
  describe("from a balance that the token's contract does not show", () =>
    itKeepsThePromise('gateway wallet'))
})

describe('an unresolved settlement', () => {
  let chain: Chain
  beforeAll(async () => {
    chain = await startChain({ blockTimeSeconds: 0.2 })
  })
  afterAll(() => chain.stop())

  it("is not called uncharged for what the token's contract does not show of a gateway's wallet", async () => {
    const kind = { x402Version: 2, scheme: 'exact', network: chain.network }
    const client = standIn(kind, async () => {
      throw new Error('the connection was closed')
    })
    const aggregator = new FacilitatorAggregator({
      facilitators: [{ id: 'first', client }],
      deadlineMs: { settle: 1_000 },
      settlement: {
        probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })],
        watchIntervalMs: 100,
      },
    })
    const payTo = `0x${'22'.repeat(20)}`
    const from = `0x${'11'.repeat(20)}`
    const validBefore = `${Math.floor(Date.now() / 1000) + 60}`
    const settle = (nonce: string, extra: Record<string, unknown>) => {
      const accepted = {
        scheme: 'exact',
        network: chain.network,
        asset: chain.token.address,
        amount: `${price}`,
        payTo,
        maxTimeoutSeconds: 60,
        extra,
      }
      const authorization = { from, to: payTo, value: `${price}`, validAfter: '0', validBefore, nonce }
      const payload = { signature: `0x${'ab'.repeat(65)}`, authorization }
      return aggregator.settle({ x402Version: 2, accepted, payload }, accepted)
    }
    const { name, version } = chain.token
    const [ofWallet, ofToken] = ['01', '02'].map(byte => `0x${byte.repeat(32)}`) as [string, string]
    const results = await Promise.allSettled([
      settle(ofWallet, gatewayWalletExtra),
      settle(ofToken, { name, version }),
    ])
    for (const result of results)
      expect(result).toMatchObject({ reason: expect.any(SettlementIndeterminateError) })

    const resolved = new Promise<AggregatorEvents['settlement:resolved']>(resolve =>
      aggregator.on('settlement:resolved', event => event.key?.includes(ofToken) && resolve(event)),
    )
    await chain.client.increaseTime({ seconds: 3_600 })
    expect(await resolved).toMatchObject({ result: 'expired' })
    await chain.nextBlocks(3)
    expect(await aggregator.getUnresolvedSettlements()).toHaveLength(1)
    await aggregator.stop()
  })
})
