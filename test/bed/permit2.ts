/** Permit2 and x402's proxy on a test chain, and payments by them. */
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import {
  PERMIT2_ADDRESS,
  permit2WitnessTypes,
  x402ExactPermit2ProxyABI,
  x402ExactPermit2ProxyAddress,
  x402UptoPermit2ProxyAddress,
} from '@x402/evm'
import { type Address, encodeFunctionData, type Hex, maxUint256, type PrivateKeyAccount } from 'viem'
import { type Chain, readArtifact } from './chain.ts'
import { price } from './seller.ts'

/** What one account sends. */
export interface Permit2Call {
  readonly sender: PrivateKeyAccount
  readonly to: Address
  readonly data: Hex
}

export type Permit2 = Awaited<ReturnType<typeof deployPermit2>>

/** Puts Permit2 and x402's proxy onto the chain, and gives a facilitator's key that uses them. */
export async function deployPermit2(chain: Chain) {
  const [{ abi, deployedBytecode }, proxy] = await Promise.all([
    readArtifact('TestPermit2'),
    readArtifact('TestPermit2Proxy'),
  ])
  await chain.client.setCode({ address: PERMIT2_ADDRESS, bytecode: deployedBytecode })
  await chain.client.setCode({ address: x402ExactPermit2ProxyAddress, bytecode: proxy.deployedBytecode })
  const facilitator = await chain.newAccount('100')
  const mined = (hash: Hex) => chain.client.waitForTransactionReceipt({ hash })
  let last: Promise<unknown> = Promise.resolve()

  /** One batch after the other, each in a block of its own. */
  function inOneBlock(calls: readonly Permit2Call[]): Promise<Hex[]> {
    const batch = last.then(async () => {
      await chain.client.setIntervalMining({ interval: 0 })
      try {
        const hashes: Hex[] = []
        for (const { sender, ...call } of calls)
          hashes.push(await chain.walletOf(sender).sendTransaction({ ...call, gas: 300_000n }))
        await chain.client.mine({ blocks: 1 })
        const receipts = await Promise.all(hashes.map(mined))
        for (const { status } of receipts) if (status !== 'success') throw new Error('a transaction failed')
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
    /** Settles a payment as upstream's facilitator does. */
    settle(payload: PaymentPayload): Permit2Call {
      const { owner, permit, witness } = readPermit2(payload)
      const args = [permit, owner, witness, payload.payload.signature as Hex] as const
      const data = encodeFunctionData({ abi: x402ExactPermit2ProxyABI, functionName: 'settle', args })
      return { sender: facilitator, to: x402ExactPermit2ProxyAddress, data }
    },
    cancel(owner: PrivateKeyAccount, nonce: bigint): Permit2Call {
      const args = [nonce >> 8n, 1n << (nonce & 255n)]
      const data = encodeFunctionData({ abi, functionName: 'invalidateUnorderedNonces', args })
      return { sender: owner, to: PERMIT2_ADDRESS, data }
    },
    isSpent: async (owner: Address, nonce: bigint) => {
      const word = (await chain.client.readContract({
        address: PERMIT2_ADDRESS,
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
      const approval = { address, abi, functionName: 'approve', args: [PERMIT2_ADDRESS, maxUint256] }
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

/** A payment that is not signed, so that no chain accepts it. */
export function permit2Payload(accepted: PaymentRequirements, from: Address, nonce: string): PaymentPayload {
  const permit2Authorization = {
    from,
    permitted: { token: accepted.asset, amount: accepted.amount },
    spender: accepted.scheme === 'upto' ? x402UptoPermit2ProxyAddress : x402ExactPermit2ProxyAddress,
    nonce,
    deadline: `${Math.floor(Date.now() / 1000) + 600}`,
    witness: { to: accepted.payTo, validAfter: '0' },
  }
  return { x402Version: 2, accepted, payload: { signature: `0x${'ab'.repeat(65)}`, permit2Authorization } }
}

/**
 * A payment with `exact`, signed as upstream's client signs.
 *
 * @param nonce as it is written in the payload; the number that 256 bits hold of it is signed
 */
export async function signedPermit2Payload(
  { chainId }: Chain,
  owner: PrivateKeyAccount,
  accepted: PaymentRequirements,
  nonce: string,
): Promise<PaymentPayload> {
  const unsigned = permit2Payload(accepted, owner.address, nonce)
  const { permit, witness } = readPermit2(unsigned)
  const signature = await owner.signTypedData({
    domain: { name: 'Permit2', chainId, verifyingContract: PERMIT2_ADDRESS },
    types: permit2WitnessTypes,
    primaryType: 'PermitWitnessTransferFrom',
    message: { ...permit, spender: x402ExactPermit2ProxyAddress, witness },
  })
  return { ...unsigned, payload: { ...unsigned.payload, signature } }
}

interface Permit2Authorization {
  readonly from: Address
  readonly permitted: { readonly token: Address; readonly amount: string }
  readonly nonce: string
  readonly deadline: string
  readonly witness: { readonly to: Address; readonly validAfter: string }
}

/** What the contracts are given of a payment; of its nonce, what 256 bits hold. */
export function readPermit2({ payload }: PaymentPayload) {
  const { from, permitted, nonce, deadline, witness } = payload.permit2Authorization as Permit2Authorization
  return {
    owner: from,
    permit: {
      permitted: { token: permitted.token, amount: BigInt(permitted.amount) },
      nonce: BigInt.asUintN(256, BigInt(nonce)),
      deadline: BigInt(deadline),
    },
    witness: { to: witness.to, validAfter: BigInt(witness.validAfter) },
  }
}
