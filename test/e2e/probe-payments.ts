/** Payments for the tests of the probe, as calls that anyone may send. */
import { type Address, encodeFunctionData, type Hex, type PrivateKeyAccount } from 'viem'
import type { Chain } from '../bed/chain.ts'

export interface Call {
  readonly target: Address
  readonly callData: Hex
}

const types = {
  TransferWithAuthorization: [
    { name: 'from', type: 'address' },
    { name: 'to', type: 'address' },
    { name: 'value', type: 'uint256' },
    { name: 'validAfter', type: 'uint256' },
    { name: 'validBefore', type: 'uint256' },
    { name: 'nonce', type: 'bytes32' },
  ],
  CancelAuthorization: [
    { name: 'authorizer', type: 'address' },
    { name: 'nonce', type: 'bytes32' },
  ],
} as const

/** A payment by EIP-3009. */
export async function transferring(
  { chainId, token }: Chain,
  payer: PrivateKeyAccount,
  { nonce, to, value }: { readonly nonce: Hex; readonly to: Address; readonly value: bigint },
): Promise<Call> {
  const message = { from: payer.address, to, value, validAfter: 0n, validBefore: 10_000_000_000n, nonce }
  const { name, version, address: verifyingContract } = token
  const signature = await payer.signTypedData({
    domain: { name, version, chainId, verifyingContract },
    types,
    primaryType: 'TransferWithAuthorization',
    message,
  })
  const args = [...Object.values(message), signature]
  return {
    target: verifyingContract,
    callData: encodeFunctionData({ abi: token.abi, functionName: 'transferWithAuthorization', args }),
  }
}

/** The cancellation of an authorization of EIP-3009. */
export async function cancellingAuthorization(
  { chainId, token }: Chain,
  payer: PrivateKeyAccount,
  nonce: Hex,
): Promise<Call> {
  const { name, version, address: verifyingContract } = token
  const signature = await payer.signTypedData({
    domain: { name, version, chainId, verifyingContract },
    types,
    primaryType: 'CancelAuthorization',
    message: { authorizer: payer.address, nonce },
  })
  const [r, s] = [`0x${signature.slice(2, 66)}`, `0x${signature.slice(66, 130)}`]
  const args = [payer.address, nonce, Number(`0x${signature.slice(130)}`), r, s]
  return {
    target: verifyingContract,
    callData: encodeFunctionData({ abi: token.abi, functionName: 'cancelAuthorization', args }),
  }
}
