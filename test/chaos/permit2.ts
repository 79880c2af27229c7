/** Payments by Permit2, as the test contract of that name sees them. */
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import { type Address, type Hex, maxUint256, type PrivateKeyAccount } from 'viem'
import { type Chain, readArtifact } from '../bed/chain.ts'
import { price } from '../bed/seller.ts'

/** Permit2's address, the same on every chain (Uniswap). */
const permit2: Address = '0x000000000022D473030F116dDEE9F6B43aC78BA3'
/** Upstream's proxies, which every payload names as the spender. */
const spenders = {
  exact: '0x402085c248EeA27D92E8b30b2C58ed07f9E20001',
  upto: '0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002',
} as const

export interface Permit2Call {
  readonly functionName: 'spend' | 'invalidate'
  readonly args: readonly unknown[]
}

export type Permit2 = Awaited<ReturnType<typeof deployPermit2>>

/** Puts Permit2 onto the chain, and gives a facilitator's key that uses it. */
export async function deployPermit2(chain: Chain) {
  const { abi, deployedBytecode } = await readArtifact('TestPermit2')
  await chain.client.setCode({ address: permit2, bytecode: deployedBytecode })
  const wallet = chain.walletOf(await chain.newAccount('100'))
  const mined = (hash: Hex) => chain.client.waitForTransactionReceipt({ hash })
  let last: Promise<unknown> = Promise.resolve()
  let sent = 0

  /** One batch after the other, each in a block of its own. */
  function inOneBlock(calls: readonly Permit2Call[]): Promise<Hex[]> {
    const batch = last.then(async () => {
      await chain.client.setIntervalMining({ interval: 0 })
      try {
        const hashes: Hex[] = []
        for (const call of calls)
          hashes.push(
            await wallet.writeContract({ address: permit2, abi, ...call, gas: 200_000n, nonce: sent++ }),
          )
        await chain.client.mine({ blocks: 1 })
        await Promise.all(hashes.map(mined))
        return hashes
      } finally {
        await chain.client.setIntervalMining({ interval: 1 })
      }
    })
    last = batch.catch(() => undefined)
    return batch
  }

  return {
    inOneBlock,
    spend: (owner: Address, nonce: bigint, payTo: Address): Permit2Call => ({
      functionName: 'spend',
      args: [owner, nonce, chain.token.address, payTo, price],
    }),
    cancel: (owner: Address, nonce: bigint): Permit2Call => ({
      functionName: 'invalidate',
      args: [owner, nonce],
    }),
    isSpent: async (owner: Address, nonce: bigint) => {
      const word = (await chain.client.readContract({
        address: permit2,
        abi,
        functionName: 'nonceBitmap',
        args: [owner, nonce >> 8n],
      })) as bigint
      return ((word >> (nonce & 255n)) & 1n) === 1n
    },
    /** A buyer with money, who lets Permit2 move it. */
    async newOwner(balance: bigint): Promise<PrivateKeyAccount> {
      const owner = await chain.newAccount('1')
      await chain.mint(owner.address, balance)
      const { address, abi } = chain.token
      const approval = { address, abi, functionName: 'approve', args: [permit2, maxUint256] }
      await mined(await chain.walletOf(owner).writeContract(approval))
      return owner
    },
  }
}

export function permit2Requirements(
  chain: Chain,
  scheme: 'exact' | 'upto',
  payTo: Address,
): PaymentRequirements {
  const { address: asset, name, version } = chain.token
  return {
    scheme,
    network: chain.network,
    asset,
    amount: `${price}`,
    payTo,
    maxTimeoutSeconds: 60,
    extra: { name, version, assetTransferMethod: 'permit2' },
  }
}

/** @param nonce as it is written in the payload */
export function permit2Payload(accepted: PaymentRequirements, from: Address, nonce: string): PaymentPayload {
  const permit2Authorization = {
    from,
    permitted: { token: accepted.asset, amount: accepted.amount },
    spender: accepted.scheme === 'upto' ? spenders.upto : spenders.exact,
    nonce,
    deadline: `${Math.floor(Date.now() / 1000) + 600}`,
    witness: { to: accepted.payTo, validAfter: '0' },
  }
  return { x402Version: 2, accepted, payload: { signature: `0x${'ab'.repeat(65)}`, permit2Authorization } }
}

export function readPermit2({ payload }: PaymentPayload): { from: Address; nonce: bigint } {
  const { from, nonce } = payload.permit2Authorization as { from: Address; nonce: string }
  return { from, nonce: BigInt.asUintN(256, BigInt(nonce)) }
}
