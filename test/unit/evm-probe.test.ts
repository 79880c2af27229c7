/** What the probe does where nodes and tokens are stricter, or stranger, than those of the local chain. */
import {
  eip3009ABI,
  PERMIT2_ADDRESS,
  x402ExactPermit2ProxyABI,
  x402ExactPermit2ProxyAddress,
  x402UptoPermit2ProxyABI,
  x402UptoPermit2ProxyAddress,
} from '@x402/evm'
import {
  createPublicClient,
  custom,
  encodeFunctionData,
  type Hex,
  MethodNotFoundRpcError,
  numberToHex,
  type PublicClient,
  parseAbi,
} from 'viem'
import { describe, expect, it } from 'vitest'
import { usesByCalldata } from '../../src/evm/authorization-uses.ts'
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

const relayer = `0x${'44'.repeat(20)}`
/** What a facilitator sends to the token itself. */
const transferring = (to: string = payTo, value = 10_000, ofNonce = nonce) => ({
  to: asset,
  input: encodeFunctionData({
    abi: eip3009ABI,
    functionName: 'transferWithAuthorization',
    args: [payer as Hex, to as Hex, BigInt(value), 0n, 0n, ofNonce as Hex, '0x'],
  }),
})
const wrapped = { to: relayer, input: '0x' }

interface Told {
  readonly logs: object[]
  /** Its own call. */
  readonly transaction?: { readonly to: string; readonly input: string }
  /** The calls that it made, where the node has traces. */
  readonly calls?: readonly object[]
}

const head = 1_000n
/** Refuses ranges beyond its head, as most nodes do today (ethereum/execution-apis, pull request 875). */
function strictNode({ logs, transaction = wrapped, calls }: Told): PublicClient {
  const number = numberToHex(head)
  const block = { number, hash, timestamp: numberToHex(Math.floor(Date.now() / 1000)), transactions: [] }
  const answers: Record<string, (params: { toBlock: Hex }[]) => unknown> = {
    eth_getBlockByNumber: () => block,
    eth_call: () => `0x${'1'.padStart(64, '0')}`,
    eth_getLogs: ([range]) => {
      if (BigInt(range?.toBlock ?? 0) > head) throw new Error('block range extends beyond current head block')
      return [{ transactionHash: hash, blockNumber: number }]
    },
    eth_getTransactionReceipt: () => ({
      status: '0x1',
      transactionHash: hash,
      blockNumber: number,
      blockHash: hash,
      logs,
    }),
    eth_getTransactionByHash: () => ({ hash, blockNumber: number, ...transaction }),
    ...(calls && { debug_traceTransaction: () => ({ type: 'CALL', ...wrapped, calls }) }),
  }
  const request = async ({ method, params }: { method: string; params?: unknown }) => {
    const answer = answers[method]
    if (answer === undefined) throw new MethodNotFoundRpcError(new Error(method))
    return answer((params ?? []) as { toBlock: Hex }[])
  }
  return createPublicClient({ transport: custom({ request }), cacheTime: 0 })
}
const ask = (told: Told) =>
  evmSettlementProbe({ [network]: { client: strictNode(told) } }).ask(query, {
    signal: new AbortController().signal,
  })

it('a payment is found by a node that refuses ranges beyond its head', async () => {
  expect(await ask({ logs: [used(), moved()] })).toMatchObject({ state: 'paid', transaction: hash })
})

it.each([
  ['of another token', [used(), { ...moved(), address: himself }]],
  ['by somebody else', [{ ...used(), topics: [used().topics[0], word(himself), nonce] }, moved()]],
])('a transfer %s pays for nothing', async (_, logs) => {
  expect(await ask({ logs })).toMatchObject({ state: 'spent-otherwise' })
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
    'spent-otherwise',
  ],
  ['a transfer too small', [used(otherNonce), moved(), used(), moved(payTo, 9_999)], 'spent-otherwise'],
  ['a transfer with other events between', [used(), { ...moved(), address: himself }, moved()], 'paid'],
  ['a transfer, though it was cancelled', [used(otherNonce), moved()], 'spent-otherwise'],
  ['its own transfer, and another one after it', [used(), moved(), moved(himself)], 'paid'],
  ['a transfer on either side of the use', [moved(), used(), moved()], 'paid'],
  ['a transfer by other means after its own', [used(), moved(himself), moved()], 'cannot-tell'],
  ['a transfer by other means before its own', [moved(), used(), moved(himself)], 'cannot-tell'],
])('among the transfers of one transaction, %s', async (_, logs, state) => {
  expect(await ask({ logs })).toMatchObject({ state })
})

const byOtherMeans = [used(), moved(himself), moved()]

it('a fee beside the transfer changes nothing, as the calldata shows', async () => {
  expect(await ask({ logs: byOtherMeans, transaction: transferring() })).toMatchObject({ state: 'paid' })
})

it.each([
  ['paid', [{ type: 'CALL', ...transferring() }]],
  ['paid', [{ type: 'CALL', ...wrapped, calls: [{ type: 'CALL', ...transferring() }] }]],
  ['spent-otherwise', [{ type: 'CALL', ...transferring(himself) }]],
  ['spent-otherwise', [{ type: 'CALL', ...transferring(payTo, 9_999) }]],
  ['cannot-tell', [{ type: 'CALL', ...transferring(payTo, 10_000, otherNonce) }]],
  ['cannot-tell', [{ type: 'DELEGATECALL', ...transferring() }]],
  ['cannot-tell', [{ type: 'CALL', error: 'execution reverted', ...transferring() }]],
  [
    'cannot-tell',
    [{ type: 'CALL', error: 'out of gas', ...wrapped, calls: [{ type: 'CALL', ...transferring() }] }],
  ],
])('a wrapped authorization is %s as the trace shows it: %#', async (state, calls) => {
  expect(await ask({ logs: byOtherMeans, calls })).toMatchObject({ state })
})

it('one transfer pays for one of two authorizations at most', async () => {
  const calls = [
    { type: 'CALL', ...transferring() },
    { type: 'CALL', ...transferring(payTo, 10_000, otherNonce) },
  ]
  const logs = [used(), moved(himself), used(otherNonce), moved(himself), moved()]
  expect(await ask({ logs, calls })).toMatchObject({ state: 'cannot-tell' })
})

describe('the calldata of a payment by Permit2', () => {
  const permit = { permitted: { token: asset, amount: 20_000n }, nonce: 77n, deadline: 9n }
  const permit2612 = { value: 20_000n, deadline: 9n, r: hash, s: hash, v: 27 }
  const exact = { to: payTo, validAfter: 0n }
  const upto = { to: payTo, facilitator: himself, validAfter: 0n }
  const permit2Abi = parseAbi([
    'struct TokenPermissions { address token; uint256 amount; }',
    'struct Permit { TokenPermissions permitted; uint256 nonce; uint256 deadline; }',
    'struct Details { address to; uint256 requestedAmount; }',
    'function permitTransferFrom(Permit, Details, address owner, bytes)',
    'function permitWitnessTransferFrom(Permit, Details, address owner, bytes32, string, bytes)',
    'function invalidateUnorderedNonces(uint256 word, uint256 mask)',
  ])
  const permit2 = PERMIT2_ADDRESS
  const details = { to: payTo, requestedAmount: 10_000n }
  const encode = (abi: readonly unknown[], functionName: string, args: readonly unknown[]) =>
    encodeFunctionData({ abi, functionName, args })
  const read = (call: { to: string | null; input: string }, ...emitters: string[]) =>
    usesByCalldata(call, asset.toLowerCase(), new Set(emitters.map(emitter => emitter.toLowerCase())))
  const use = (amount: bigint) => ({
    method: 'permit2',
    token: asset.toLowerCase(),
    owner: payer.toLowerCase(),
    to: payTo.toLowerCase(),
    amount,
    nonce: 77n,
  })

  it.each([
    [x402ExactPermit2ProxyAddress, x402ExactPermit2ProxyABI, 'settle', [permit, payer, exact, '0x'], 20_000n],
    [
      x402ExactPermit2ProxyAddress,
      x402ExactPermit2ProxyABI,
      'settleWithPermit',
      [permit2612, permit, payer, exact, '0x'],
      20_000n,
    ],
    [
      x402UptoPermit2ProxyAddress,
      x402UptoPermit2ProxyABI,
      'settle',
      [permit, 10_000n, payer, upto, '0x'],
      10_000n,
    ],
    [
      x402UptoPermit2ProxyAddress,
      x402UptoPermit2ProxyABI,
      'settleWithPermit',
      [permit2612, permit, 10_000n, payer, upto, '0x'],
      10_000n,
    ],
    [permit2, permit2Abi, 'permitTransferFrom', [permit, details, payer, '0x'], 10_000n],
    [permit2, permit2Abi, 'permitWitnessTransferFrom', [permit, details, payer, hash, '', '0x'], 10_000n],
  ] as const)('names its nonce where upstream puts it: %s, %#', (to, abi, functionName, args, amount) => {
    const input = encode(abi, functionName, args)
    expect(read({ to, input }, to)).toEqual({ uses: [use(amount)], areAll: true })
    expect(read({ to, input: input.toUpperCase().replace('X', 'x') }, to).uses).toEqual([use(amount)])
    // Anyone can deploy a contract that takes the same calldata, and does something else.
    expect(read({ to: himself, input }, to, himself)).toEqual({ uses: [], areAll: false })
  })

  it('at an address where no proxy is deployed proves nothing', () => {
    const input = encode(x402ExactPermit2ProxyABI, 'settle', [permit, payer, exact, '0x'])
    const to = x402ExactPermit2ProxyAddress
    expect(read({ to, input }, permit2, asset)).toEqual({ uses: [], areAll: false })
  })

  it('of a cancellation, or of a transfer by the token, uses no nonce', () => {
    const input = encode(permit2Abi, 'invalidateUnorderedNonces', [0n, 2n ** 256n - 1n])
    expect(read({ to: permit2, input })).toEqual({ uses: [], areAll: true })
    expect(read({ to: asset, input: '0xa9059cbb' })).toEqual({ uses: [], areAll: true })
  })

  const ofOtherToken = encode(permit2Abi, 'permitTransferFrom', [
    { ...permit, permitted: { token: himself, amount: 1n } },
    details,
    payer,
    '0x',
  ])

  it.each([
    ['of a token that may call anyone while it is transferred', permit2, ofOtherToken],
    ['of a function that is not known', permit2, '0xedd9444b'],
    ['of the token that hands the control to the payee', asset, '0x4000aea0'],
    ['of a transaction that makes a contract', null, '0x6080'],
  ])('%s does not exclude what else was used', (_, to, input) => {
    expect(read({ to, input }).areAll).toBe(false)
  })
})
