import { text } from 'node:stream/consumers'
import {
  type Address,
  createPublicClient,
  encodeFunctionData,
  type Hex,
  http,
  type PrivateKeyAccount,
  type PublicClient,
} from 'viem'
import { mainnet } from 'viem/chains'
import { afterAll, beforeAll, describe, expect, it, onTestFinished } from 'vitest'
import { type EvmChainOptions, evmSettlementProbe, type SettlementQuery } from '../../src/evm/index.ts'
import { startAnvil } from '../bed/anvil.ts'
import { type Chain, readArtifact, startChain } from '../bed/chain.ts'
import { untyped } from '../untyped.ts'
import { startNode } from './probe-node.ts'
import { type Call, cancellingAuthorization, transferring } from './probe-payments.ts'

const payTo: Address = '0x000000000000000000000000000000000000bEEF'

const elsewhere: Address = '0x000000000000000000000000000000000000dEaD'
const multicall3: Address = '0xcA11bde05977b3631167028862bE2a173976CA11'

let chain: Chain
let owner: PrivateKeyAccount
let multicallAbi: readonly unknown[]
let nonces = 0

beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.2 })
  multicallAbi = (await readArtifact('Multicall3')).abi
  owner = await chain.newAccount('10')
  await chain.mint(owner.address, 1_000_000n)
})
afterAll(() => chain.stop())

const signal = new AbortController().signal
const probe = (options: Partial<EvmChainOptions> = {}) =>
  evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl, ...options } })

function query(method: 'eip3009', nonce: string): SettlementQuery {
  const { network, token } = chain
  return { method, network, asset: token.address, payer: owner.address, nonce, payTo, amount: '1000' }
}

async function send({ target, callData }: Call) {
  const hash = await chain.walletOf(owner).sendTransaction({ to: target, data: callData })
  await chain.client.waitForTransactionReceipt({ hash })
  return hash
}

describe('an EIP-3009 authorization', () => {
  const newNonce = () => `0x${(++nonces).toString(16).padStart(64, '0')}` as Hex
  const transfer = async (nonce: Hex, to: Address, value: bigint) =>
    send(await transferring(chain, owner, { nonce, to, value }))

  it.each([
    ['first', [payTo, elsewhere], 'paid', 'spent-otherwise'],
    ['second', [elsewhere, payTo], 'spent-otherwise', 'paid'],
    ['both', [payTo, payTo], 'paid', 'paid'],
  ] as const)(
    'that shares its transaction is paid by its own transfer alone: %s',
    async (_, payees, ...states) => {
      const twoNonces = [newNonce(), newNonce()] as const
      const calls = await Promise.all(
        twoNonces.map((nonce, index) =>
          transferring(chain, owner, { nonce, to: payees[index] ?? payTo, value: 1_000n }),
        ),
      )
      const callData = encodeFunctionData({
        abi: multicallAbi,
        functionName: 'tryAggregate',
        args: [true, calls],
      })
      await send({ target: multicall3, callData })
      const answers = await Promise.all(
        twoNonces.map(nonce => probe().ask(query('eip3009', nonce), { signal })),
      )
      expect(answers.map(({ state }) => state)).toEqual(states)
    },
  )

  it('that nobody used is unspent, as of the newest block', async () => {
    const answer = await probe().ask(query('eip3009', newNonce()), { signal })
    expect(answer).toEqual({ state: 'unspent', asOf: expect.any(Number) })
  })

  it('that paid is paid, by this transaction', async () => {
    const nonce = newNonce()
    const transaction = await transfer(nonce, payTo, 1_000n)
    expect(await probe().ask(query('eip3009', nonce), { signal })).toEqual({
      state: 'paid',
      transaction,
      payer: owner.address,
      minedAt: expect.any(Number),
      asOf: expect.any(Number),
    })
  })

  it.each([
    ['too little', payTo, 999n],
    ['somebody else', elsewhere, 1_000n],
  ])('that paid %s was spent otherwise', async (_, to, value) => {
    const nonce = newNonce()
    const transaction = await transfer(nonce, to, value)
    expect(await probe().ask(query('eip3009', nonce), { signal })).toEqual({
      state: 'spent-otherwise',
      transaction,
    })
  })

  it('that was cancelled was spent otherwise', async () => {
    const nonce = newNonce()
    await send(await cancellingAuthorization(chain, owner, nonce))
    expect(await probe().ask(query('eip3009', nonce), { signal })).toMatchObject({ state: 'spent-otherwise' })
  })

  it('counts after its confirmations', async () => {
    const nonce = newNonce()
    await transfer(nonce, payTo, 1_000n)
    const patient = probe({ confirmations: 5 })
    expect(await patient.ask(query('eip3009', nonce), { signal })).toMatchObject({ state: 'cannot-tell' })
    await chain.nextBlocks(5)
    expect(await patient.ask(query('eip3009', nonce), { signal })).toMatchObject({ state: 'paid' })
  })

  it('is found some blocks back in several requests, and is not taken for spent otherwise when it is not found', async () => {
    const nonce = newNonce()
    await transfer(nonce, payTo, 1_000n)
    await chain.nextBlocks(6)
    const inSteps = probe({ blocksPerRequest: 2, searchBlocks: 50 })
    expect(await inSteps.ask(query('eip3009', nonce), { signal })).toMatchObject({ state: 'paid' })
    const shortSighted = probe({ searchBlocks: 2 })
    expect(await shortSighted.ask(query('eip3009', nonce), { signal })).toMatchObject({
      state: 'cannot-tell',
    })
  })

  it('is found in time though the first node hangs', async () => {
    const hanging = await startNode(() => {})
    const nonce = newNonce()
    await transfer(nonce, payTo, 1_000n)
    const inTurn = probe({ rpcUrl: [hanging, chain.rpcUrl], timeoutMs: 1_000 })
    const answer = await inTurn.ask(query('eip3009', nonce), { signal: AbortSignal.timeout(4_000) })
    expect(answer).toMatchObject({ state: 'paid' })
  })

  it('is found at a node that was down when it was asked first', async () => {
    let requests = 0
    const recovering = await startNode(async (request, response) => {
      if (++requests <= 2) {
        response.writeHead(503).end()
        return
      }
      const body = await text(request)
      const headers = { 'content-type': 'application/json' }
      response.end(await (await fetch(chain.rpcUrl, { method: 'POST', headers, body })).text())
    })
    const nonce = newNonce()
    await transfer(nonce, payTo, 1_000n)
    const patient = probe({ rpcUrl: recovering })
    expect(await patient.ask(query('eip3009', nonce), { signal })).toMatchObject({ state: 'cannot-tell' })
    expect(await patient.ask(query('eip3009', nonce), { signal })).toMatchObject({ state: 'paid' })
  })

  it('is asked about of no node of another chain, but of the next', async () => {
    const stranger = await startAnvil(chain.chainId + 1, 1)
    onTestFinished(() => stranger.stop())
    const nonce = newNonce()
    await transfer(nonce, payTo, 1_000n)
    const wrong = await probe({ rpcUrl: stranger.rpcUrl }).ask(query('eip3009', nonce), { signal })
    expect(wrong).toEqual({
      state: 'cannot-tell',
      reason: `the node is of the chain eip155:${chain.chainId + 1}`,
    })
    const both = probe({ rpcUrl: [stranger.rpcUrl, chain.rpcUrl] })
    expect(await both.ask(query('eip3009', nonce), { signal })).toMatchObject({ state: 'paid' })
  })
})

describe('a probe', () => {
  it('knows which payments it can look at', () => {
    const methods = ['eip3009', 'permit2', 'svm', 'payload', ''] as SettlementQuery['method'][]
    const supported = methods.filter(method => probe().supports(chain.network, method))
    expect(supported).toEqual(['eip3009', 'permit2'])
    expect(probe().supports('eip155:1', 'permit2')).toBe(false)
  })

  it('cannot tell when its node is dead, or when there is no time', async () => {
    const dead = probe({ rpcUrl: 'http://127.0.0.1:9' })
    expect(await dead.ask(query('eip3009', '0x01'), { signal })).toMatchObject({ state: 'cannot-tell' })
    const none = await probe().ask(query('eip3009', '0x01'), { signal: AbortSignal.abort() })
    expect(none).toMatchObject({ state: 'cannot-tell' })
  })

  it('takes no client of another chain', () => {
    const client = createPublicClient({ chain: mainnet, transport: http(chain.rpcUrl) })
    expect(() => evmSettlementProbe({ [chain.network]: { client: client as PublicClient } })).toThrow(
      'client is of the chain eip155:1',
    )
  })

  it.each([
    [{}, /expected a chain, such as/],
    [untyped<object>(undefined), /expected a chain, such as/],
    [{ base: { rpcUrl: 'https://x.example' } }, /CAIP-2/],
    [{ 'eip155:1': {} }, /either rpcUrl or client/],
    [
      untyped<object>({ 'eip155:1': { rpcURL: 'https://x.example' } }),
      /rpcURL is not an option; there are rpcUrl, client/,
    ],
    [{ 'eip155:1': { rpcUrl: [] } }, /empty list/],
    [{ 'eip155:1': { rpcUrl: 'ws://x' } }, /https/],
    [
      { 'eip155:1': { rpcUrl: 'https://x.example', confirmations: 0 } },
      /confirmations: expected a whole number from 1, got 0/,
    ],
    [
      { 'eip155:1': { rpcUrl: 'https://x.example', confirmation: 3 } },
      /confirmation is not an option; there are rpcUrl, client, confirmations,/,
    ],
  ])('that is set up wrongly says what is wrong: %j', (chains, message) => {
    expect(() => evmSettlementProbe(chains)).toThrow(message)
  })
})
