/** A cluster with a token, and those who trade on it: a payee, a buyer, and a facilitator that pays the fees. */
import {
  type Address,
  generateKeyPairSigner,
  type Instruction,
  type KeyPairSigner,
  lamports,
} from '@solana/kit'
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import { createCluster } from './cluster.ts'
import { type NodeFaults, startNode } from './node.ts'
import { putMint, putTokenAccount, readTokenBalance, tokenProgram, transferChecked } from './token.ts'
import { addSignature, memo, signTransaction } from './transactions.ts'

export const genesisHash = 'EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG'
/** Devnet's name, as upstream's packages know no others than the public ones. */
export const network = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'

/** What one purchase costs, in atomic units of the token: a cent. */
export const price = 10_000n

export type Market = Awaited<ReturnType<typeof openMarket>>

/**
 * @param options.program of the token
 * @param options.feeBasisPoints what the token keeps of each transfer
 * @param options.slotMs milliseconds to a slot; without it slots pass when the test says so
 */
export async function openMarket(
  options: { program?: Address; feeBasisPoints?: number; slotMs?: number } = {},
) {
  const { program = tokenProgram, feeBasisPoints, slotMs } = options
  const cluster = createCluster({ genesisHash, ...(slotMs !== undefined && { slotMs }) })
  const node = await startNode(cluster)
  const [mint, payee, buyer, facilitator] = await Promise.all([
    generateKeyPairSigner(),
    generateKeyPairSigner(),
    generateKeyPairSigner(),
    generateKeyPairSigner(),
  ])
  putMint(cluster, mint.address, mint.address, {
    program,
    ...(feeBasisPoints !== undefined && { feeBasisPoints }),
  })
  const account = (owner: Address, amount = 0n) =>
    putTokenAccount(cluster, {
      owner,
      mint: mint.address,
      amount,
      program,
      hasFee: feeBasisPoints !== undefined,
    })
  const accounts = {
    buyer: await account(buyer.address, 1_000_000n),
    payee: await account(payee.address),
  }
  const give = (key: Address) => cluster.svm.airdrop(key, lamports(10_000_000_000n))
  give(facilitator.address)
  give(buyer.address)

  const transfer = (amount: bigint, destination = accounts.payee): Instruction =>
    transferChecked({
      ...{ source: accounts.buyer, mint: mint.address, destination, authority: buyer.address },
      ...{ amount, program },
    })

  let payments = 0
  /** A payment that the buyer has signed, and what a facilitator would send of it. */
  async function sign(
    payment: {
      instructions?: readonly Instruction[]
      lifetime?: string
      feePayer?: KeyPairSigner
      signers?: readonly KeyPairSigner[]
      lookupTables?: Parameters<typeof signTransaction>[0]['lookupTables']
    } = {},
  ) {
    const { feePayer = facilitator, instructions = [transfer(price)], lifetime, lookupTables } = payment
    const transaction = await signTransaction({
      feePayer: feePayer.address,
      lifetime: lifetime ?? cluster.head('finalized').blockhash,
      instructions: [...instructions, memo(`payment ${++payments}`)],
      signers: payment.signers ?? [buyer],
      ...(lookupTables && { lookupTables }),
    })
    const complete = await addSignature(transaction, feePayer)
    return {
      transaction,
      complete,
      payload: { x402Version: 2, accepted: requirements(), payload: { transaction } } as PaymentPayload,
      /** Sends it with the fee payer's signature. */
      send: () => cluster.send(Buffer.from(complete, 'base64')),
    }
  }

  const requirements = (overrides: Partial<PaymentRequirements> = {}): PaymentRequirements => ({
    scheme: 'exact',
    network,
    asset: mint.address,
    amount: `${price}`,
    payTo: payee.address,
    maxTimeoutSeconds: 60,
    extra: { feePayer: facilitator.address },
    ...overrides,
  })

  const nodes = [node]
  const balanceAt = (key: Address): bigint => {
    const held = cluster.accountAt(key, Number.POSITIVE_INFINITY)
    return BigInt((held && readTokenBalance(held, 0)?.uiTokenAmount.amount) ?? 0)
  }
  return {
    cluster,
    node,
    /** Another node of the cluster. */
    async addNode(faults: NodeFaults) {
      const added = await startNode(cluster, faults)
      nodes.push(added)
      return added
    },
    mint: mint.address,
    payee,
    buyer,
    facilitator,
    accounts,
    account,
    /** Of a token account, now. */
    balanceAt,
    give,
    transfer,
    sign,
    requirements,
    async stop() {
      cluster.stop()
      await Promise.all(nodes.map(one => one.stop()))
    },
  }
}
