import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import type { PaymentRequirements } from '@x402/core/types'
import { PERMIT2_ADDRESS } from '@x402/evm'
import { ExactEvmScheme } from '@x402/evm/exact/client'
import type { PrivateKeyAccount } from 'viem'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { deployPermit2, type Permit2, permit2Requirements, signedPermit2Payload } from '../bed/permit2.ts'
import { untyped } from '../untyped.ts'

type Fields = Record<string, unknown>
type Presentation = readonly [payload: Fields, requirements: Fields]

const amount = '10000'
const kinds = [
  { x402Version: 2, scheme: 'exact', network: 'eip155:84532' },
  { x402Version: 2, scheme: 'exact', network: 'eip155:56' },
  { x402Version: 2, scheme: 'exact', network: 'xrpl:0' },
  { x402Version: 2, scheme: 'exotic', network: 'eip155:84532' },
  { x402Version: 2, scheme: 'batch-settlement', network: 'eip155:84532' },
  ...['base-sepolia', 'bsc', 'xdc', 'moon'].map(network => ({ x402Version: 1, scheme: 'exact', network })),
]

let chain: Chain
let permit2: Permit2

beforeAll(async () => {
  chain = await startChain()
  permit2 = await deployPermit2(chain)
})
afterAll(() => chain.stop())

describe('a facilitator that answers what it has settled before with the same success', () => {
  let upstream: TestFacilitator
  let front: Awaited<ReturnType<typeof startIdempotentFront>>
  let aggregator: FacilitatorAggregator
  let buyer: PrivateKeyAccount
  let payTo: PrivateKeyAccount

  beforeEach(async () => {
    upstream = await startFacilitator({ chain, id: 'upstream' })
    buyer = await chain.newAccount('1')
    payTo = await chain.newAccount('1')
    await chain.mint(buyer.address, 1_000_000n)
    front = await startIdempotentFront(upstream, requirements())
    aggregator = new FacilitatorAggregator({
      facilitators: [{ id: 'front', url: front.url }],
      healthCheck: false,
      settlement: {
        audit: 'always',
        probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })],
      },
    })
  })
  afterEach(async () => {
    await aggregator.stop({ inFlight: 'abort' })
    await Promise.all([front.stop(), upstream.stop()])
  })

  const requirements = (overrides: Fields = {}) => ({
    scheme: 'exact',
    network: chain.network,
    asset: chain.token.address,
    amount,
    payTo: payTo.address,
    maxTimeoutSeconds: 600,
    extra: { name: chain.token.name, version: chain.token.version },
    ...overrides,
  })
  const v1 = (network: string) => {
    const { amount: maxAmountRequired, ...rest } = requirements({ network })
    return { ...rest, maxAmountRequired, resource: 'https://shop.example/', description: '', mimeType: '' }
  }
  const present = (content: Fields, terms: Fields = requirements()): Presentation =>
    'amount' in terms
      ? [{ x402Version: 2, accepted: terms, payload: content }, terms]
      : [{ x402Version: 1, scheme: terms.scheme, network: terms.network, payload: content }, terms]

  async function signed(): Promise<{ signature: string; authorization: Fields }> {
    const { payload } = await new ExactEvmScheme(buyer).createPaymentPayload(
      2,
      requirements() as PaymentRequirements,
    )
    return payload as { signature: string; authorization: Fields }
  }

  /** Each presentation three times; how often the goods were delivered, and how many charges there were. */
  async function deliveries(presentations: readonly Presentation[]) {
    const before = await chain.balanceOf(payTo.address)
    let delivered = 0
    for (const [payload, terms] of presentations.flatMap(one => [one, one, one])) {
      const answer = await aggregator.settle(untyped(payload), untyped(terms)).catch(error => {
        expect(error).toMatchObject({ code: 'INVALID_PAYMENT' })
      })
      if (answer?.success) delivered++
    }
    return { delivered, charged: Number((await chain.balanceOf(payTo.address)) - before) / Number(amount) }
  }
  const once = { delivered: 1, charged: 1 }

  it('delivers once for one charge, however the fields and bytes of an EIP-3009 payment are spelled', async () => {
    const { signature, authorization } = await signed()
    const { from, nonce, ...rest } = authorization as { from: string; nonce: string }
    const upper = nonce.toUpperCase().replace('0X', '0x')
    expect(
      await deliveries([
        present({ signature, Authorization: authorization }),
        present({ signature, AUTHORIZATION: authorization }),
        present({ signature, authorization: { ...rest, From: from, nonce } }),
        present({ signature, authorization: { ...rest, from, NONCE: nonce } }),
        present({ ſignature: signature, authorization }),
        present({ signature, authorization }),
        present({ signature, authorization: { ...rest, from, nonce: upper } }),
        present({ signature, authorization: { ...rest, from: from.toLowerCase(), nonce } }),
        present({ signature, authorization }, v1('base-sepolia')),
        present(
          { signature, authorization },
          requirements({ extra: { verifyingContract: PERMIT2_ADDRESS } }),
        ),
        present({ signature, authorization }, requirements({ extra: { assetTransferMethod: 'permit2' } })),
      ]),
    ).toEqual(once)
  })

  it('delivers once for one charge, however the nonce of a Permit2 payment is written', async () => {
    const owner = await permit2.newOwner(BigInt(amount))
    const terms = permit2Requirements(chain, 'exact', payTo.address)
    const { payload } = await signedPermit2Payload(chain, owner, terms, '5')
    const { signature, permit2Authorization } = payload as { signature: string; permit2Authorization: Fields }
    const spellings = ['5', `${2n ** 256n + 5n}`, `${5n - 2n ** 256n}`, 5, '0x5', '005', ' 5 ', '0b101']
    expect(
      await deliveries(
        spellings.map(nonce =>
          present({ signature, permit2Authorization: { ...permit2Authorization, nonce } }, { ...terms }),
        ),
      ),
    ).toEqual(once)
  })

  it.each(['bsc', 'xdc', 'moon'])('delivers once for one charge on the version 1 network %s', async name => {
    const content = await signed()
    const v2 = name === 'bsc' ? [present(content, requirements({ network: 'eip155:56' }))] : []
    expect(await deliveries([present(content, v1(name)), ...v2])).toEqual(once)
  })

  it.each([
    ['of an unknown scheme', (content: Fields) => content, { scheme: 'exotic' }],
    ['of another kind of chain', (content: Fields) => ({ blob: content }), { network: 'xrpl:0' }],
    ['of an unknown payload', (content: Fields) => ({ proof: content }), {}],
    [
      'that opens a channel',
      (content: Fields) => ({ type: 'deposit', deposit: content }),
      { scheme: 'batch-settlement' },
    ],
  ])('delivers once for one charge a payment %s', async (_, wrap, terms) => {
    const content = wrap(await signed())
    const reversed = Object.fromEntries(Object.entries(content).reverse())
    const required = requirements(terms)
    expect(await deliveries([present(content, required), present(reversed, required)])).toEqual(once)
  })

  it('is not quarantined for what it settles by another contract than the token', async () => {
    front.isBatched = true
    const extra = { name: 'GatewayWalletBatched', version: '1', verifyingContract: PERMIT2_ADDRESS }
    const presentation = present(await signed(), requirements({ extra }))
    expect(await deliveries([presentation])).toEqual({ delivered: 1, charged: 0 })
    expect(aggregator.getHealthStatus().facilitators).toMatchObject([{ isQuarantined: false }])
  })

  /** Reads payments as leniently as any facilitator does, and settles each at the real one, once. */
  async function startIdempotentFront(facilitator: TestFacilitator, terms: Fields) {
    const settled = new Map<string, Promise<unknown>>()
    const front = { url: '', isBatched: false, stop: async () => {} }

    async function settle({ signature, authorization, permit2Authorization }: Fields): Promise<unknown> {
      if (front.isBatched) return { success: true, transaction: 'batch-1', network: chain.network }
      const isPermit2 = permit2Authorization !== undefined
      const required = isPermit2 ? permit2Requirements(chain, 'exact', payTo.address) : terms
      const payload = isPermit2 ? { signature, permit2Authorization } : { signature, authorization }
      const response = await fetch(`${facilitator.url}/settle`, {
        method: 'POST',
        body: JSON.stringify({
          paymentPayload: { x402Version: 2, accepted: required, payload },
          paymentRequirements: required,
        }),
      })
      return response.json()
    }

    const server = createServer(async (request, response) => {
      response.setHeader('content-type', 'application/json')
      if (request.url === '/supported') {
        response.end(JSON.stringify({ kinds, extensions: [], signers: {} }))
        return
      }
      let body = ''
      for await (const chunk of request) body += chunk
      const payment = leniently(JSON.parse(body))
      const { from, nonce } = (payment.authorization ?? payment.permit2Authorization) as Fields
      const id = `${from} ${nonce}`.toLowerCase()
      const answer = settled.get(id) ?? settle(payment)
      settled.set(id, answer)
      response.end(JSON.stringify(await answer))
    })
    await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
    front.url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    front.stop = async () => {
      server.closeAllConnections()
      await new Promise(resolve => server.close(resolve))
    }
    return front
  }
})

const names = ['signature', 'authorization', 'permit2Authorization', 'from', 'nonce']

/** The signature and the authorization, wherever they are and whatever the case of their names. */
function leniently(value: unknown): Fields {
  const found: Fields = {}
  JSON.stringify(value, (field, inner) => {
    const name = names.find(one => one.toLowerCase() === field.toUpperCase().toLowerCase())
    if (name === 'authorization' || name === 'permit2Authorization') {
      const { from, nonce } = leniently(inner)
      const number = name === 'permit2Authorization' ? BigInt.asUintN(256, BigInt(nonce as string)) : nonce
      found[name] = { ...inner, from, nonce: typeof number === 'bigint' ? `${number}` : number }
    } else if (name !== undefined) found[name] = inner
    return inner
  })
  return found
}
