/** What the probe does where nodes and tokens are stricter, or stranger, than those of the local chain. */
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { evmSettlementProbe, type SettlementQuery } from '../../src/evm/index.ts'
import { hash, network, payer, requirements } from './builders.ts'

const { asset, payTo } = requirements()
const nonce = `0x${'01'.repeat(32)}`
const otherNonce = `0x${'02'.repeat(32)}`
const query: SettlementQuery = { method: 'eip3009', network, asset, payer, nonce, payTo, amount: '10000' }

const word = (address: string) => `0x${address.slice(2).toLowerCase().padStart(64, '0')}`
const used = (ofNonce = nonce) => ({
  address: asset,
  topics: ['0x98de503528ee59b575ef0c0a2576a82497bfc029a5685b209e9ec333479b10a5', word(payer), ofNonce],
  data: '0x',
})
const moved = (to: string = payTo, value = 10_000) => ({
  address: asset,
  topics: ['0xddf252ad1be2c89b69c2b068fc378daa952ba7f163c4a11628f55a4df523b3ef', word(payer), word(to)],
  data: `0x${value.toString(16).padStart(64, '0')}`,
})
const himself = `0x${'33'.repeat(20)}`

let logs: object[]
const head = 1_000n
/** Refuses ranges beyond its head, as most nodes do today (ethereum/execution-apis, pull request 875). */
const strictNode = {
  getBlock: async () => ({ number: head, timestamp: BigInt(Math.floor(Date.now() / 1000)) }),
  getBlockNumber: async () => head,
  readContract: async () => true,
  getLogs: async ({ toBlock, event }: { toBlock: bigint; event: { name: string } }) => {
    if (toBlock > head) throw new Error('block range extends beyond current head block')
    return event.name === 'AuthorizationUsed' ? [{ transactionHash: hash }] : []
  },
  getTransactionReceipt: async () => ({ status: 'success', blockNumber: head, blockHash: hash, logs }),
}
const ask = () =>
  evmSettlementProbe({ [network]: { client: strictNode as never } }).ask(query, {
    signal: new AbortController().signal,
  })

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

it('a payment is found by a node that refuses ranges beyond its head', async () => {
  logs = [used(), moved()]
  expect(await ask()).toMatchObject({ state: 'paid', transaction: hash })
})

it.each([
  ['of another token', [used(), { ...moved(), address: himself }]],
  ['by somebody else', [{ ...used(), topics: [used().topics[0], word(himself), nonce] }, moved()]],
])('a transfer %s pays for nothing', async (_, told) => {
  logs = told
  expect(await ask()).toMatchObject({ state: 'spent-otherwise' })
})

it('a fee beside the transfer changes nothing', async () => {
  logs = [used(), moved(himself, 5), moved()]
  expect(await ask()).toMatchObject({ state: 'paid' })
})

it.each([
  ['its own transfer, told after the use', [used(otherNonce), moved(himself), used(), moved()], 'paid'],
  ['its own transfer, told before the use', [moved(himself), used(otherNonce), moved(), used()], 'paid'],
  [
    'the transfer of another, told after',
    [used(), moved(himself), used(otherNonce), moved()],
    'spent-otherwise',
  ],
  [
    'the transfer of another, told before',
    [moved(himself), used(), moved(), used(otherNonce)],
    'cannot-tell',
  ],
  ['a transfer too small', [used(otherNonce), moved(), used(), moved(payTo, 9_999)], 'spent-otherwise'],
  ['a transfer with other events between', [used(), { ...moved(), address: himself }, moved()], 'paid'],
  ['a transfer, though it was cancelled', [used(otherNonce), moved()], 'spent-otherwise'],
])('among the authorizations of one transaction, %s', async (_, told, state) => {
  logs = told
  expect(await ask()).toMatchObject({ state })
})
