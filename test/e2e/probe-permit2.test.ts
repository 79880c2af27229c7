/** What the probe says of payments by Permit2, which has no event for the use of a nonce. */
import { x402Facilitator } from '@x402/core/facilitator'
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import {
  permit2WitnessTypes,
  toFacilitatorEvmSigner,
  x402ExactPermit2ProxyABI,
  x402ExactPermit2ProxyAddress,
} from '@x402/evm'
import { ExactEvmScheme as ExactEvmClient } from '@x402/evm/exact/client'
import { registerExactEvmScheme } from '@x402/evm/exact/facilitator'
import {
  type Address,
  createWalletClient,
  encodeFunctionData,
  type Hex,
  http,
  numberToHex,
  type PrivateKeyAccount,
  publicActions,
} from 'viem'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { evmSettlementProbe, type ProbeAnswer, type SettlementQuery } from '../../src/evm/index.ts'
import { type Chain, readArtifact, startChain } from '../bed/chain.ts'
import { untyped } from '../untyped.ts'
import { refusing, startAlteredNode } from './probe-node.ts'
import { type Call, cancellingAuthorization, transferring } from './probe-payments.ts'

const permit2: Address = '0x000000000022D473030F116dDEE9F6B43aC78BA3'
const multicall3: Address = '0xcA11bde05977b3631167028862bE2a173976CA11'
const payTo: Address = '0x000000000000000000000000000000000000bEEF'
const elsewhere: Address = '0x000000000000000000000000000000000000dEaD'
/** A facilitator's contract, which makes the calls that it is given. */
const relayer: Address = '0x00000000000000000000000000000000000e1a4e'
/** A buyer whose account is a contract. */
const wallet: Address = '0x0000000000000000000000000000000000a11e70'
/** Seconds; in tests nothing runs out. */
const deadline = 10_000_000_000n

let chain: Chain
let buyer: PrivateKeyAccount
let facilitator: PrivateKeyAccount
let abis: Record<'permit2' | 'multicall3' | 'wallet', readonly unknown[]>
/** Each test has a word of the bitmap to itself. */
let word = 0n

beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.2 })
  const [permit2Artifact, proxyArtifact, walletArtifact, multicallArtifact] = await Promise.all([
    readArtifact('TestPermit2'),
    readArtifact('TestPermit2Proxy'),
    readArtifact('TestWallet'),
    readArtifact('Multicall3'),
  ])
  abis = { permit2: permit2Artifact.abi, multicall3: multicallArtifact.abi, wallet: walletArtifact.abi }
  const place = (address: Address, bytecode: Hex) => chain.client.setCode({ address, bytecode })
  await place(permit2, permit2Artifact.deployedBytecode)
  await place(x402ExactPermit2ProxyAddress, proxyArtifact.deployedBytecode)
  await place(relayer, walletArtifact.deployedBytecode)
  await place(wallet, walletArtifact.deployedBytecode)
  buyer = await chain.newAccount('10')
  facilitator = await chain.newAccount('10')
  await Promise.all([chain.mint(buyer.address, 1_000_000n), chain.mint(wallet, 1_000_000n)])
  // From here on blocks are made by the tests alone, so that they choose what shares a block.
  await chain.client.setIntervalMining({ interval: 0 })
  const approval = encode(chain.token.abi, 'approve', [permit2, 2n ** 256n - 1n])
  await inOneBlock(
    [buyer, { target: chain.token.address, callData: approval }],
    [facilitator, inContract(wallet, [{ target: chain.token.address, callData: approval }])],
  )
})
afterAll(() => chain.stop())

const signal = new AbortController().signal
const encode = (abi: readonly unknown[], functionName: string, args: readonly unknown[]) =>
  encodeFunctionData({ abi, functionName, args })

/** Sends these calls as a transaction each, and mines them together. */
async function inOneBlock(...sent: [PrivateKeyAccount, Call][]): Promise<Hex[]> {
  const hashes: Hex[] = []
  for (const [account, { target, callData }] of sent)
    hashes.push(
      await chain.walletOf(account).sendTransaction({ to: target, data: callData, gas: 2_000_000n }),
    )
  await chain.client.mine({ blocks: 1 })
  const receipts = await Promise.all(hashes.map(hash => chain.client.getTransactionReceipt({ hash })))
  for (const { status } of receipts) if (status !== 'success') throw new Error('a transaction failed')
  return hashes
}

const inContract = (target: Address, calls: Call[], functionName = 'execute'): Call => ({
  target,
  callData: encode(abis.wallet, functionName, [calls]),
})

interface Purchase {
  readonly owner?: Address
  readonly to?: Address
  readonly value?: bigint
}

/** Settles a purchase as facilitators do, through x402's proxy. */
async function settling(
  nonce: bigint,
  { owner = buyer.address, to = payTo, value = 1_000n }: Purchase = {},
): Promise<Call> {
  const permitted = { token: chain.token.address, amount: value }
  const witness = { to, validAfter: 0n }
  const signature = await buyer.signTypedData({
    domain: { name: 'Permit2', chainId: chain.chainId, verifyingContract: permit2 },
    types: permit2WitnessTypes,
    primaryType: 'PermitWitnessTransferFrom',
    message: { permitted, spender: x402ExactPermit2ProxyAddress, nonce, deadline, witness },
  })
  const callData = encode(x402ExactPermit2ProxyABI, 'settle', [
    { permitted, nonce, deadline },
    owner,
    witness,
    signature,
  ])
  return { target: x402ExactPermit2ProxyAddress, callData }
}

function cancelling(...nonces: bigint[]): Call {
  const mask = nonces.reduce((mask, nonce) => mask | (1n << (nonce & 255n)), 0n)
  return {
    target: permit2,
    callData: encode(abis.permit2, 'invalidateUnorderedNonces', [(nonces[0] ?? 0n) >> 8n, mask]),
  }
}

function newNonces(count: number): bigint[] {
  word++
  return Array.from({ length: count }, (_, index) => (word << 8n) | BigInt(index))
}

interface Asking {
  readonly method?: 'eip3009'
  readonly rpcUrl?: string
  readonly payer?: Address
  readonly amount?: string
  readonly since?: number
}

async function ask(nonce: bigint, { rpcUrl = chain.rpcUrl, payer, amount, since, method }: Asking = {}) {
  const query: SettlementQuery = {
    method: method ?? 'permit2',
    network: chain.network,
    asset: chain.token.address,
    payer: payer ?? buyer.address,
    nonce: method === undefined ? `${nonce}` : numberToHex(nonce, { size: 32 }),
    payTo,
    amount: amount ?? '1000',
  }
  return evmSettlementProbe({ [chain.network]: { rpcUrl } }).ask(query, {
    signal,
    ...(since !== undefined && { since }),
  })
}
const statesOf = async (nonces: bigint[], asking?: Asking) =>
  (await Promise.all(nonces.map(nonce => ask(nonce, asking)))).map(({ state }) => state)

const paid = 'paid' satisfies ProbeAnswer['state']
const otherwise = 'spent-otherwise' satisfies ProbeAnswer['state']
const cannotTell = 'cannot-tell' satisfies ProbeAnswer['state']

/** A node as most public ones are, without call traces. */
const withoutTraces = async () =>
  (await startAlteredNode(chain.rpcUrl, refusing('debug_traceTransaction', 'trace_transaction'))).url

describe('a payment by Permit2', () => {
  it('that an upstream facilitator settled is paid, by its transaction', async () => {
    const account = facilitator
    const client = createWalletClient({
      account,
      chain: chain.viemChain,
      transport: http(chain.rpcUrl),
    }).extend(publicActions)
    const upstream = new x402Facilitator()
    registerExactEvmScheme(upstream, {
      signer: toFacilitatorEvmSigner(
        untyped({
          ...client,
          address: account.address,
          // Nobody else makes blocks here.
          waitForTransactionReceipt: async ({ hash }: { hash: Hex }) => {
            await chain.client.mine({ blocks: 1 })
            return client.waitForTransactionReceipt({ hash })
          },
        }),
      ),
      networks: [chain.network],
    })
    const requirements: PaymentRequirements = {
      scheme: 'exact',
      network: chain.network,
      asset: chain.token.address,
      amount: '1000',
      payTo,
      maxTimeoutSeconds: 300,
      extra: { assetTransferMethod: 'permit2', name: chain.token.name, version: chain.token.version },
    }
    const signed = await new ExactEvmClient(buyer).createPaymentPayload(2, requirements)
    const payload: PaymentPayload = { x402Version: 2, payload: signed.payload, accepted: requirements }
    const settled = await upstream.settle(payload, requirements)
    expect(settled).toMatchObject({ success: true })
    const { nonce } = signed.payload.permit2Authorization as { nonce: string }
    expect(await ask(BigInt(nonce), { rpcUrl: await withoutTraces() })).toEqual({
      state: paid,
      transaction: settled.transaction,
      payer: buyer.address,
      minedAt: expect.any(Number),
      asOf: expect.any(Number),
    })
  })

  it('is unspent, paid, or spent otherwise, nonce by nonce', async () => {
    const [first, second, third] = newNonces(3) as [bigint, bigint, bigint]
    const [transaction] = await inOneBlock([facilitator, await settling(first)])
    const [other] = await inOneBlock([facilitator, await settling(second, { value: 10n })])
    expect(await ask(first)).toMatchObject({ state: paid, transaction })
    expect(await ask(second)).toEqual({ state: otherwise, transaction: other })
    expect(await ask(third)).toMatchObject({ state: 'unspent' })
  })

  it.each([
    ['with call traces', () => chain.rpcUrl],
    ['without call traces', withoutTraces],
  ])('does not pay for the nonces that were cancelled in its block, by a node %s', async (_, urlOf) => {
    const nonces = newNonces(5)
    await inOneBlock([facilitator, await settling(nonces[0] ?? 0n)], [buyer, cancelling(...nonces.slice(1))])
    const states = await statesOf(nonces, { rpcUrl: await urlOf() })
    expect(states).toEqual([paid, otherwise, otherwise, otherwise, otherwise])
  })

  it('does not pay for the nonces that its buyer cancelled in the same transaction, whatever its calldata names', async () => {
    const nonces = newNonces(4)
    const settlements = await Promise.all(nonces.map(nonce => settling(nonce, { owner: wallet })))
    await inOneBlock([
      facilitator,
      inContract(wallet, [cancelling(...nonces.slice(1)), ...settlements], 'attempt'),
    ])
    expect(await statesOf(nonces, { payer: wallet })).toEqual([paid, otherwise, otherwise, otherwise])
    const blind = await statesOf(nonces, { payer: wallet, rpcUrl: await withoutTraces() })
    expect(blind).toEqual([cannotTell, cannotTell, cannotTell, cannotTell])
  })

  it('is distinguished from the others that an allowed failure left in its batch', async () => {
    const nonces = newNonces(3)
    const settlements = await Promise.all(nonces.map(nonce => settling(nonce, { owner: wallet })))
    const calls = [inContract(wallet, [cancelling(...nonces.slice(1))]), ...settlements].map(call => ({
      ...call,
      allowFailure: true,
    }))
    await inOneBlock([
      facilitator,
      { target: multicall3, callData: encode(abis.multicall3, 'aggregate3', [calls]) },
    ])
    expect(await statesOf(nonces, { payer: wallet })).toEqual([paid, otherwise, otherwise])
    const blind = await statesOf(nonces, { payer: wallet, rpcUrl: await withoutTraces() })
    expect(blind).toEqual([cannotTell, cannotTell, cannotTell])
  })

  it.each([
    ['aggregate3', (calls: Call[]) => [calls.map(call => ({ ...call, allowFailure: false }))]],
    ['tryAggregate', (calls: Call[]) => [true, calls]],
  ])('is paid with each of the others in its batch: %s', async (functionName, argsOf) => {
    const nonces = newNonces(3)
    const calls = await Promise.all(nonces.map(nonce => settling(nonce)))
    await inOneBlock([
      facilitator,
      { target: multicall3, callData: encode(abis.multicall3, functionName, argsOf(calls)) },
    ])
    const states = await statesOf(nonces, { rpcUrl: await withoutTraces() })
    expect(states).toEqual([paid, paid, paid])
  })

  it('through a relayer is paid where the node has call traces of either kind, and is never guessed', async () => {
    const [mine, other, cheap] = newNonces(3) as [bigint, bigint, bigint]
    await inOneBlock([
      facilitator,
      inContract(relayer, [
        await settling(mine),
        await settling(other, { to: elsewhere }),
        await settling(cheap, { value: 10n }),
      ]),
    ])
    const nonces = [mine, other, cheap]
    expect(await statesOf(nonces)).toEqual([paid, otherwise, otherwise])
    const parity = await startAlteredNode(chain.rpcUrl, refusing('debug_traceTransaction'))
    expect(await statesOf(nonces, { rpcUrl: parity.url })).toEqual([paid, otherwise, otherwise])
    const blind = await statesOf(nonces, { rpcUrl: await withoutTraces() })
    expect(blind).toEqual([cannotTell, cannotTell, cannotTell])
  })

  it.each([
    ['paid elsewhere', elsewhere, [otherwise, paid], [cannotTell, cannotTell]],
    ['paid as well', payTo, [paid, paid], [paid, cannotTell]],
    ['was cancelled', undefined, [otherwise, paid], [otherwise, cannotTell]],
  ])('does not pay for an authorization of EIP-3009 that %s beside it', async (_, to, traced, blind) => {
    const [authorization, nonce] = newNonces(2) as [bigint, bigint]
    const authorizationNonce = numberToHex(authorization, { size: 32 })
    const used = to
      ? await transferring(chain, buyer, { nonce: authorizationNonce, to, value: 1_000n })
      : await cancellingAuthorization(chain, buyer, authorizationNonce)
    await inOneBlock([facilitator, inContract(relayer, [used, await settling(nonce)])])
    const statesBy = async (rpcUrl: string) => [
      (await ask(authorization, { rpcUrl, method: 'eip3009' })).state,
      (await ask(nonce, { rpcUrl })).state,
    ]
    expect(await statesBy(chain.rpcUrl)).toEqual(traced)
    expect(await statesBy(await withoutTraces())).toEqual(blind)
  })

  it('is distinguished from a hidden use of EIP-3009 in its batch only where the transfers suffice for both', async () => {
    const [lesser, nonce, other] = newNonces(3) as [bigint, bigint, bigint]
    const batchOf = async (authorization: bigint, settled: bigint, to: Address): Promise<Call> => {
      const transfer = await transferring(chain, buyer, {
        nonce: numberToHex(authorization, { size: 32 }),
        to,
        value: 1_000n,
      })
      const calls = [await settling(settled), inContract(relayer, [transfer])]
      return { target: multicall3, callData: encode(abis.multicall3, 'tryAggregate', [true, calls]) }
    }
    await inOneBlock([facilitator, await batchOf(lesser, nonce, elsewhere)])
    await inOneBlock([facilitator, await batchOf(nonce, other, payTo)])
    const states = await statesOf([nonce, other], { rpcUrl: await withoutTraces() })
    expect(states).toEqual([cannotTell, paid])
  })

  it('of the same nonce by another token pays for nothing', async () => {
    const [nonce] = newNonces(1) as [bigint]
    await inOneBlock([facilitator, await settling(nonce)])
    const answer = await evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } }).ask(
      {
        method: 'permit2',
        network: chain.network,
        asset: elsewhere,
        payer: buyer.address,
        nonce: `${nonce}`,
        payTo,
        amount: '1000',
      },
      { signal },
    )
    expect(answer).toMatchObject({ state: otherwise })
  })

  it('is found among the many of one buyer, at few requests', async () => {
    const nonces = newNonces(12)
    for (const nonce of nonces) await inOneBlock([facilitator, await settling(nonce)])
    const node = await startAlteredNode(chain.rpcUrl)
    const asked = nonces[3] ?? 0n
    expect(await ask(asked, { rpcUrl: node.url })).toMatchObject({ state: paid })
    expect(node.methods.length).toBeLessThanOrEqual(12)
  })

  it('costs six requests after the first question, and an unspent one two', async () => {
    const [nonce, unspent] = newNonces(2) as [bigint, bigint]
    await chain.client.mine({ blocks: 600 })
    await inOneBlock([facilitator, await settling(nonce)])
    const node = await startAlteredNode(chain.rpcUrl)
    const probe = evmSettlementProbe({ [chain.network]: { rpcUrl: node.url } })
    const query: SettlementQuery = {
      method: 'permit2',
      network: chain.network,
      asset: chain.token.address,
      payer: buyer.address,
      nonce: `${unspent}`,
      payTo,
      amount: '1000',
    }
    await probe.ask(query, { signal })
    node.methods.length = 0
    expect(await probe.ask(query, { signal })).toMatchObject({ state: 'unspent' })
    expect(node.methods).toEqual(['eth_getBlockByNumber', 'eth_call'])
    node.methods.length = 0
    expect(await probe.ask({ ...query, nonce: `${nonce}` }, { signal })).toMatchObject({ state: paid })
    expect(node.methods.length).toBeLessThanOrEqual(6)
  })
})

describe('a cancelled nonce of Permit2', () => {
  it('is spent otherwise at the first question, at few requests', async () => {
    const [nonce, other] = newNonces(2) as [bigint, bigint]
    const { timestamp } = await chain.client.getBlock()
    await inOneBlock([facilitator, await settling(other)])
    await inOneBlock([buyer, cancelling(nonce)])
    await chain.client.mine({ blocks: 30 })
    const node = await startAlteredNode(chain.rpcUrl)
    const answer = await ask(nonce, { rpcUrl: node.url, since: Number(timestamp) })
    expect(answer).toEqual({ state: otherwise })
    expect(node.methods.length).toBeLessThanOrEqual(22)
  })

  it('costs no more requests among transfers of nothing, which anyone can make', async () => {
    const [nonce] = newNonces(1) as [bigint]
    const nothing = {
      target: chain.token.address,
      callData: encode(chain.token.abi, 'transferFrom', [buyer.address, payTo, 0n]),
    }
    await inOneBlock(
      [buyer, cancelling(nonce)],
      ...Array.from({ length: 10 }, (): [PrivateKeyAccount, Call] => [facilitator, nothing]),
    )
    await chain.client.mine({ blocks: 3 })
    const node = await startAlteredNode(chain.rpcUrl)
    expect(await ask(nonce, { rpcUrl: node.url })).toEqual({ state: otherwise })
    expect(node.methods.length).toBeLessThanOrEqual(20)
  })

  it('that was cancelled before the payment began is spent otherwise, without a search back to it', async () => {
    const [nonce] = newNonces(1) as [bigint]
    await inOneBlock([buyer, cancelling(nonce)])
    await chain.client.mine({ blocks: 100, interval: 1 })
    const { timestamp } = await chain.client.getBlock()
    await chain.client.mine({ blocks: 5, interval: 1 })
    const node = await startAlteredNode(chain.rpcUrl)
    const since = Number(timestamp) + 1
    expect(await ask(nonce, { rpcUrl: node.url, since })).toEqual({ state: otherwise })
    expect(node.methods.length).toBeLessThanOrEqual(12)
  })

  it('is left open when the node does not keep the state that would show it', async () => {
    const [nonce] = newNonces(1) as [bigint]
    await inOneBlock([buyer, cancelling(nonce)])
    await chain.client.mine({ blocks: 5 })
    const head = await chain.client.getBlockNumber()
    const pruned = await startAlteredNode(chain.rpcUrl, ({ method, params }) =>
      method === 'eth_call' && BigInt(params[1] as Hex) < head
        ? { error: { code: -32000, message: 'missing trie node' } }
        : undefined,
    )
    expect(await ask(nonce, { rpcUrl: pruned.url })).toMatchObject({ state: cannotTell })
  })
})
