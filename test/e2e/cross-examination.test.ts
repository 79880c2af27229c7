/** What happens when a facilitator is wrong about a payment, on a real chain that knows better. */

import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import { PERMIT2_ADDRESS, permit2WitnessTypes, x402ExactPermit2ProxyAddress } from '@x402/evm'
import {
  type Address,
  encodeFunctionData,
  type Hex,
  maxUint256,
  numberToHex,
  type PrivateKeyAccount,
} from 'viem'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { optionsFromEnv } from '../../src/env/index.ts'
import { type DryRun, evmSettlementProbe } from '../../src/evm/index.ts'
import { type AggregatorEvents, FacilitatorAggregator } from '../../src/index.ts'
import { identify } from '../../src/payment/payment-key.ts'
import { type Buyer, createBuyer } from '../bed/buyer.ts'
import { type Chain, readArtifact, startChain } from '../bed/chain.ts'
import { type Fault, startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { price, type Seller, startSeller } from '../bed/seller.ts'
import { startAlteredNode } from './probe-node.ts'

let chain: Chain
let buyer: Buyer
let payer: PrivateKeyAccount
let poor: PrivateKeyAccount
/** An account that is a contract, whose every signature is its own. */
const wallet: Address = '0x0000000000000000000000000000000000a11e70'
const payTo: Address = '0x000000000000000000000000000000000000bEEF'

beforeAll(async () => {
  chain = await startChain()
  buyer = await createBuyer(chain)
  payer = await chain.newAccount('1')
  poor = await chain.newAccount()
  const [permit2, proxy, contract] = await Promise.all(
    ['TestPermit2', 'TestPermit2Proxy', 'TestWallet'].map(readArtifact),
  )
  const place = (address: Address, artifact = permit2) =>
    chain.client.setCode({ address, bytecode: artifact?.deployedBytecode ?? '0x' })
  await place(PERMIT2_ADDRESS)
  await place(x402ExactPermit2ProxyAddress, proxy)
  await place(wallet, contract)
  await Promise.all([payer.address, wallet].map(address => chain.mint(address, 1_000_000n)))
  await approve(payer)
  // What every node has by now is older than half a minute.
  await chain.client.mine({ blocks: 64, interval: 1 })
})
afterAll(() => chain.stop())

async function approve(owner: PrivateKeyAccount): Promise<void> {
  const { address, abi } = chain.token
  const args = [PERMIT2_ADDRESS, maxUint256]
  const hash = await chain.walletOf(owner).writeContract({ address, abi, functionName: 'approve', args })
  await chain.client.waitForTransactionReceipt({ hash })
}

function required(overrides: Partial<PaymentRequirements> = {}): PaymentRequirements {
  const { address: asset, name, version } = chain.token
  return {
    scheme: 'exact',
    network: chain.network,
    asset,
    amount: `${price}`,
    payTo,
    maxTimeoutSeconds: 300,
    extra: { name, version },
    ...overrides,
  }
}

let nonces = 0

interface Signing {
  readonly from?: Address
  readonly value?: bigint
  /** Seconds from now. */
  readonly validFor?: number
  /** What the chain knows the token as, unless the buyer was told otherwise. */
  readonly name?: string
}

/** A payment by EIP-3009. */
async function signed(account = payer, signing: Signing = {}): Promise<PaymentPayload> {
  const { from = account.address, value = price, validFor = 300, name = chain.token.name } = signing
  const { version, address: verifyingContract } = chain.token
  const nonce: Hex = `0x${(++nonces).toString(16).padStart(64, '0')}`
  const validBefore = BigInt(Math.floor(Date.now() / 1000) + validFor)
  const message = { from, to: payTo, value, validAfter: 0n, validBefore, nonce }
  const signature = await account.signTypedData({
    domain: { name, version, chainId: chain.chainId, verifyingContract },
    types: {
      TransferWithAuthorization: [
        { name: 'from', type: 'address' },
        { name: 'to', type: 'address' },
        { name: 'value', type: 'uint256' },
        { name: 'validAfter', type: 'uint256' },
        { name: 'validBefore', type: 'uint256' },
        { name: 'nonce', type: 'bytes32' },
      ],
    },
    primaryType: 'TransferWithAuthorization',
    message,
  })
  const text = Object.entries(message).map(([field, value]) => [field, `${value}`])
  return {
    x402Version: 2,
    accepted: required(),
    payload: { signature, authorization: Object.fromEntries(text) },
  }
}

/** A payment by Permit2. */
async function permitted(account = payer, from = account.address): Promise<PaymentPayload> {
  const token = chain.token.address
  const nonce = BigInt(++nonces)
  const deadline = BigInt(Math.floor(Date.now() / 1000) + 300)
  const spender = x402ExactPermit2ProxyAddress
  const signature = await account.signTypedData({
    domain: { name: 'Permit2', chainId: chain.chainId, verifyingContract: PERMIT2_ADDRESS },
    types: permit2WitnessTypes,
    primaryType: 'PermitWitnessTransferFrom',
    message: {
      permitted: { token, amount: price },
      spender,
      nonce,
      deadline,
      witness: { to: payTo, validAfter: 0n },
    },
  })
  const permit2Authorization = {
    from,
    permitted: { token, amount: `${price}` },
    spender,
    nonce: `${nonce}`,
    deadline: `${deadline}`,
    witness: { to: payTo, validAfter: '0' },
  }
  return { x402Version: 2, accepted: required(), payload: { signature, permit2Authorization } }
}

describe('a seller whose first facilitator is wrong', () => {
  let pool: [TestFacilitator, TestFacilitator]
  let aggregator: FacilitatorAggregator
  let seller: Seller
  let contradicted: AggregatorEvents['facilitator:contradicted'][]

  beforeEach(async () => {
    pool = await Promise.all([
      startFacilitator({ chain, id: 'first' }),
      startFacilitator({ chain, id: 'second' }),
    ])
    aggregator = new FacilitatorAggregator({
      facilitators: pool.map(({ id, url }) => ({ id, url })),
      healthCheck: false,
      settlement: { probes: [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })] },
    })
    contradicted = []
    aggregator.on('facilitator:contradicted', event => contradicted.push(event))
    await aggregator.getSupported()
    seller = await startSeller(chain, aggregator)
  })
  afterEach(async () => {
    await aggregator.stop({ inFlight: 'abort' })
    await seller.stop()
    await Promise.all(pool.map(facilitator => facilitator.stop()))
  })

  const answering = (body: Record<string, unknown>, status = 200): Fault => ({
    kind: 'answer',
    status,
    body: { network: chain.network, transaction: '', ...body },
  })
  const invalid = (invalidReason: string) => answering({ isValid: false, invalidReason })
  const failed = (errorReason: string, status?: number) => answering({ success: false, errorReason }, status)

  it.each<[string, 'verify' | 'settle', () => Fault]>([
    ['calls every payload of outsiders invalid', 'verify', () => invalid('invalid_payload')],
    ['says that funds are missing, as its node lags', 'verify', () => invalid('insufficient_funds')],
    ['says that a signature is not the buyer’s', 'verify', () => invalid('invalid_exact_evm_signature')],
    [
      'says that a new authorization was used',
      'verify',
      () => invalid('invalid_exact_evm_nonce_already_used'),
    ],
    ['says that funds are missing, which are its own gas', 'settle', () => failed('insufficient_funds')],
    ['answers 400 invalid_payload to what it has verified', 'settle', () => failed('invalid_payload', 400)],
  ])('sells through the next when it %s', async (_what, operation, fault) => {
    pool[0].fault({ [operation]: fault() })
    const before = await chain.balanceOf(seller.address)
    expect(await buyer.buy(seller.url)).toMatchObject({ status: 200, settlement: { success: true } })
    expect((await chain.balanceOf(seller.address)) - before).toBe(price)
    expect(contradicted).toMatchObject([{ facilitator: 'first', operation, network: chain.network }])
    expect(pool[0].broadcasts + pool[1].broadcasts).toBe(1)
    expect(pool[1].calls[operation]).toBe(1)
  })

  it('sells through the next when its gas is estimated wrongly, without accusing anybody', async () => {
    const message = 'settle failed: unable to estimate gas'
    const body = { success: false, errorReason: 'invalid_payload', errorMessage: message }
    pool[0].fault({ settle: answering(body, 400) })
    expect(await buyer.buy(seller.url)).toMatchObject({ status: 200 })
    expect(contradicted).toEqual([])
  })

  it('sells to a buyer whose money has just arrived, without accusing a facilitator whose node lags', async () => {
    const newcomer = await createBuyer(chain, price)
    pool[0].fault({ verify: invalid('insufficient_funds') })
    expect(await newcomer.buy(seller.url)).toMatchObject({ status: 200 })
    expect(contradicted).toEqual([])
  })

  it.each<[string, () => Promise<PaymentPayload>]>([
    ['is signed by somebody else', () => signed(poor, { from: payer.address })],
    ['has no money behind it', () => signed(poor)],
    ['has expired', () => signed(payer, { validFor: -10 })],
    ['is for less than the price', () => signed(payer, { value: price - 1n })],
    ['is signed for another token', () => signed(payer, { name: 'Another Coin' })],
  ])('gives its answer unchanged, and asks nobody else, about a payment that %s', async (_what, pay) => {
    const payment = await pay()
    const own = await pool[0].inProcess.verify(payment, required())
    expect(own.isValid).toBe(false)
    expect(await aggregator.verify(payment, required())).toEqual(own)
    const refusal = await pool[0].inProcess.settle(payment, required())
    expect(await aggregator.settle(payment, required())).toEqual(refusal)
    expect(pool.map(({ calls }) => [calls.verify, calls.settle])).toEqual([
      [1, 1],
      [0, 0],
    ])
    expect(contradicted).toEqual([])
  })

  it('answers 402 to a buyer without money', async () => {
    const broke = await createBuyer(chain, 0n)
    expect(await broke.buy(seller.url)).toMatchObject({ status: 402 })
    expect(pool.map(({ calls }) => calls.verify)).toEqual([1, 0])
  })
})

async function rpc(method: string, params: readonly unknown[]): Promise<object> {
  const body = JSON.stringify({ jsonrpc: '2.0', id: 1, method, params })
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(chain.rpcUrl, { method: 'POST', headers, body })
  return ((await answer.json()) as { result: object }).result
}

const blockAt = (block: string) => rpc('eth_getBlockByNumber', [block, false])

/** Asks a node whether the chain takes a payment. */
async function ask(
  payment: PaymentPayload,
  {
    rpcUrl = chain.rpcUrl,
    requirements = required(),
    probe = evmSettlementProbe({ [chain.network]: { rpcUrl } }),
  } = {},
) {
  const { x402Version } = payment
  const { scheme, network } = requirements
  const keyed = await identify({ x402Version, scheme, network, kindKey: '', payload: payment, requirements })
  if (keyed === undefined) throw new Error('nothing identifies the payment')
  const signal = AbortSignal.timeout(10_000)
  return probe.wouldAccept?.({ query: keyed.query, payload: payment, requirements }, { signal })
}

/** A node whose newest block is this one. */
async function nodeAt(block: bigint): Promise<string> {
  const number = numberToHex(block)
  const { url } = await startAlteredNode(chain.rpcUrl, async ({ method, params }) => {
    if (method !== 'eth_getBlockByNumber' || params[0] !== 'latest') return undefined
    return { result: await blockAt(number) }
  })
  return url
}

const accepts = 'accepts' satisfies DryRun
const acceptsNow = 'accepts-now' satisfies DryRun
const refuses = 'refuses' satisfies DryRun
const cannotTell = 'cannot-tell' satisfies DryRun

describe('the chain accepts', () => {
  it('a payment by EIP-3009', async () => {
    expect(await ask(await signed())).toBe(accepts)
  })

  it('a payment, by the word of the probe that RPC_URL_<chain id> gives', async () => {
    const { settlement } = optionsFromEnv({ [`RPC_URL_${chain.chainId}`]: chain.rpcUrl })
    const [probe] = settlement?.probes ?? []
    expect(await ask(await signed(), { probe })).toBe(accepts)
  })

  it('a payment by Permit2', async () => {
    expect(await ask(await permitted())).toBe(accepts)
  })

  it('a payment by Permit2 of an account that is a contract', async () => {
    const { address } = chain.token
    const args = [PERMIT2_ADDRESS, maxUint256]
    const data = encodeFunctionData({ abi: chain.token.abi, functionName: 'approve', args })
    await chain.client.impersonateAccount({ address: wallet })
    await chain.client.setBalance({ address: wallet, value: 10n ** 18n })
    await rpc('eth_sendTransaction', [{ from: wallet, to: address, data }])
    // However long it has done so: a facilitator that knows the signatures of keys alone is no broken one.
    await chain.client.mine({ blocks: 64, interval: 1 })
    expect(await ask(await permitted(payer, wallet))).toBe(acceptsNow)
  })
})

describe('the chain refuses', () => {
  it.each<[string, () => Promise<PaymentPayload>]>([
    ['is signed by somebody else', () => signed(poor, { from: payer.address })],
    ['has no money behind it', () => signed(poor)],
    ['is signed for another token', () => signed(payer, { name: 'Another Coin' })],
    ['pays less than is required', () => signed(payer, { value: price - 1n })],
    ['is by Permit2 without an allowance', () => permitted(poor)],
    ['is by Permit2 and signed by somebody else', () => permitted(poor, payer.address)],
  ])('a payment that %s', async (_what, pay) => {
    expect(await ask(await pay())).toBe(refuses)
  })

  it('a payment of which the requirements name the token wrongly, which facilitators check', async () => {
    const requirements = required({ extra: { name: 'Another Coin', version: '2' } })
    expect(await ask(await signed(), { requirements })).toBe(refuses)
  })

  it('a payment in a token that is not there, though a call of nothing succeeds', async () => {
    const asset = '0x000000000000000000000000000000000000c0de'
    const payment = await permitted()
    const authorization = payment.payload.permit2Authorization as { permitted: { token: string } }
    authorization.permitted.token = asset
    expect(await ask(payment, { requirements: required({ asset }) })).toBe(refuses)
  })

  it('a payment that has been settled', async () => {
    const payment = await signed()
    const facilitator = await startFacilitator({ chain, id: 'one' })
    await facilitator.inProcess.settle(payment, required())
    await facilitator.stop()
    expect(await ask(payment)).toBe(refuses)
  })

  it('a junk signature at the price of a single question to the node', async () => {
    const { url, methods } = await startAlteredNode(chain.rpcUrl)
    expect(await ask(await signed(poor, { from: payer.address }), { rpcUrl: url })).toBe(refuses)
    expect(methods).toEqual(['eth_chainId', 'eth_getCode'])
  })
})

describe('the chain cannot tell', () => {
  it('of a payment that is about to expire, which facilitators may refuse', async () => {
    expect(await ask(await signed(payer, { validFor: 10 }))).toBe(cannotTell)
  })

  it('of a signature that a contract does not accept, or whose contract is not deployed', async () => {
    const byContract = await signed(payer, { from: wallet })
    expect(await ask(byContract)).toBe(cannotTell)
    const undeployed = await signed(poor)
    const signature = `${undeployed.payload.signature}${'6492'.repeat(16)}`
    expect(await ask({ ...undeployed, payload: { ...undeployed.payload, signature } })).toBe(cannotTell)
  })

  /** A buyer can spell a payment so that an honest facilitator does not read it, and another one does. */
  it.each<[string, (field: Record<string, string>) => object]>([
    ['a number for text', () => ({ value: Number(price) })],
    ['a zero before a number', () => ({ value: `0${price}` })],
    ['a nonce without 0x', ({ nonce = '' }) => ({ nonce: nonce.slice(2) })],
    ['a payer without 0x', ({ from = '' }) => ({ from: from.slice(2) })],
    ['an address whose checksum is wrong', ({ from = '' }) => ({ from: `0x${from.slice(2).toUpperCase()}` })],
    ['a field too many', () => ({ memo: 'x' })],
  ])('of a payment that is not written as every facilitator reads it: %s', async (_what, spell) => {
    const { payload, ...rest } = await signed()
    const authorization = payload.authorization as Record<string, string>
    const spelled = { ...authorization, ...spell(authorization) }
    expect(await ask({ ...rest, payload: { ...payload, authorization: spelled } })).toBe(cannotTell)
  })

  it.each<[string, (field: Record<string, unknown>) => object]>([
    ['a field too many', () => ({ memo: 'x' })],
    ['a payer without 0x', ({ from }) => ({ from: `${from}`.slice(2) })],
    [
      'a field too many in the witness',
      ({ witness }) => ({ witness: { ...(witness as object), memo: 'x' } }),
    ],
  ])(
    'of a payment by Permit2 that is not written as every facilitator reads it: %s',
    async (_what, spell) => {
      const { payload, ...rest } = await permitted()
      const authorization = payload.permit2Authorization as Record<string, unknown>
      const permit2Authorization = { ...authorization, ...spell(authorization) }
      expect(await ask({ ...rest, payload: { ...payload, permit2Authorization } })).toBe(cannotTell)
    },
  )

  it('by a node that is down, or that is far behind', async () => {
    expect(await ask(await signed(), { rpcUrl: 'http://127.0.0.1:9' })).toBe(cannotTell)
    // The chain runs a minute ahead of the clock.
    const old = (await chain.client.getBlockNumber()) - 8n
    const { url } = await startAlteredNode(chain.rpcUrl, async ({ method, params }) => {
      if (method !== 'eth_getBlockByNumber' || params[0] !== 'latest') return undefined
      const block = await blockAt(numberToHex(old))
      const timestamp = `0x${(Math.floor(Date.now() / 1000) - 40).toString(16)}`
      return { result: { ...block, timestamp } }
    })
    expect(await ask(await signed(), { rpcUrl: url })).toBe(cannotTell)
  })
})

/**
 * A facilitator that reports what its own node shows is honest, whatever its height. The buyer's money arrives, or
 * leaves, in a block that one of the two nodes has and the other has not.
 */
describe('an honest facilitator', () => {
  it.each([
    ['arrives', 'behind'],
    ['arrives', 'at the height of'],
    ['leaves', 'ahead of'],
    ['leaves', 'at the height of'],
    ['leaves', 'behind'],
    ['arrives', 'ahead of'],
  ] as const)('is not accused when money %s and its node is %s ours', async (event, position) => {
    const account = await chain.newAccount('1')
    if (event === 'leaves') {
      await chain.mint(account.address, price)
      await chain.client.mine({ blocks: 64, interval: 1 })
    }
    const payment = await signed(account)
    if (event === 'arrives') await chain.mint(account.address, price)
    else {
      const { address, abi } = chain.token
      const args = [payTo, price]
      const hash = await chain
        .walletOf(account)
        .writeContract({ address, abi, functionName: 'transfer', args })
      await chain.client.waitForTransactionReceipt({ hash })
    }
    const after = await blockOfChange(account.address, event === 'arrives' ? price : 0n)
    const [theirs, ours] = {
      behind: [after - 1n, after],
      'at the height of': [after, after],
      'ahead of': [after, after - 1n],
    }[position]
    const isRejected = (await balanceAt(account.address, theirs as bigint)) < price
    const answer = await ask(payment, { rpcUrl: await nodeAt(ours as bigint) })
    if (isRejected) expect(answer).not.toBe(accepts)
    // A payment that our node takes is passed on, be it ahead or behind.
    const isTaken = (await balanceAt(account.address, ours as bigint)) >= price
    expect(answer).toBe(isTaken ? acceptsNow : refuses)
  })

  it('is right where a block that is made after its answer shows what it has seen before our node', async () => {
    const account = await chain.newAccount('1')
    await chain.mint(account.address, price)
    await chain.client.mine({ blocks: 64, interval: 1 })
    const payment = await signed(account)
    // It has seen the block that is being made.
    let isAsked = false
    const { url } = await startAlteredNode(chain.rpcUrl, async ({ method }) => {
      if (method !== 'eth_getBlockByNumber' || isAsked) return undefined
      isAsked = true
      const newest = await blockAt('latest')
      const { address, abi } = chain.token
      const args = [payTo, price]
      const hash = await chain
        .walletOf(account)
        .writeContract({ address, abi, functionName: 'transfer', args })
      await chain.client.waitForTransactionReceipt({ hash })
      return { result: newest }
    })
    expect(await ask(payment, { rpcUrl: url })).toBe(refuses)
  })
})

async function balanceAt(owner: Address, blockNumber: bigint): Promise<bigint> {
  const { address, abi } = chain.token
  const balance = await chain.client.readContract({
    address,
    abi,
    functionName: 'balanceOf',
    args: [owner],
    blockNumber,
  })
  return balance as bigint
}

/** The first block of the newest ones since which this is the balance. */
async function blockOfChange(owner: Address, balance: bigint): Promise<bigint> {
  let block = await chain.client.getBlockNumber()
  while ((await balanceAt(owner, block - 1n)) === balance) block--
  return block
}
