/** Transactions as buyers sign them: without the signature of the facilitator that pays their fee. */
import {
  AccountRole,
  type Address,
  type AddressesByLookupTableAddress,
  address,
  appendTransactionMessageInstructions,
  type Blockhash,
  compileTransaction,
  compressTransactionMessageUsingAddressLookupTables,
  createTransactionMessage,
  getAddressEncoder,
  getBase58Decoder,
  getBase64Decoder,
  getBase64Encoder,
  getTransactionDecoder,
  getTransactionEncoder,
  type Instruction,
  type KeyPairSigner,
  partiallySignTransaction,
  pipe,
  setTransactionMessageFeePayer,
  setTransactionMessageLifetimeUsingBlockhash,
} from '@solana/kit'
import type { Cluster } from './cluster.ts'

const systemProgram = address('11111111111111111111111111111111')
const recentBlockhashes = address('SysvarRecentB1ockHashes11111111111111111111')
const lookupTableProgram = address('AddressLookupTab1e1111111111111111111111111')

/** @returns the transaction in base64 */
export async function signTransaction(transaction: {
  feePayer: Address
  /** Of the newest block, or the value of a durable nonce. */
  lifetime: string
  instructions: readonly Instruction[]
  signers: readonly KeyPairSigner[]
  lookupTables?: AddressesByLookupTableAddress
}): Promise<string> {
  const { feePayer, lifetime, instructions, signers, lookupTables = {} } = transaction
  const message = pipe(
    createTransactionMessage({ version: 0 }),
    one => setTransactionMessageFeePayer(feePayer, one),
    one =>
      setTransactionMessageLifetimeUsingBlockhash(
        { blockhash: lifetime as Blockhash, lastValidBlockHeight: 0n },
        one,
      ),
    one => appendTransactionMessageInstructions(instructions, one),
    one => compressTransactionMessageUsingAddressLookupTables(one, lookupTables),
  )
  return encode(await signWith(signers, compileTransaction(message)))
}

/** Adds a signature, as a facilitator does before it sends. */
export async function addSignature(transaction: string, signer: KeyPairSigner): Promise<string> {
  return encode(
    await signWith([signer], getTransactionDecoder().decode(getBase64Encoder().encode(transaction))),
  )
}

type AnyTransaction = Parameters<typeof partiallySignTransaction>[1]

const signWith = (signers: readonly KeyPairSigner[], transaction: AnyTransaction) =>
  partiallySignTransaction(
    signers.map(({ keyPair }) => keyPair),
    transaction,
  )

const encode = (transaction: AnyTransaction) =>
  getBase64Decoder().decode(getTransactionEncoder().encode(transaction))

/** Puts a durable nonce there, and gives its value. */
export function putNonce(cluster: Cluster, nonce: Address, authority: Address): string {
  const data = new Uint8Array(80)
  const view = new DataView(data.buffer)
  view.setUint32(0, 1, true)
  view.setUint32(4, 1, true)
  data.set(getAddressEncoder().encode(authority), 8)
  const value = crypto.getRandomValues(new Uint8Array(32))
  data.set(value, 40)
  view.setBigUint64(72, 5_000n, true)
  cluster.setAccount(nonce, systemProgram, data)
  return getBase58Decoder().decode(value)
}

export function advanceNonce(nonce: Address, authority: Address): Instruction {
  return {
    programAddress: systemProgram,
    accounts: [
      { address: nonce, role: AccountRole.WRITABLE },
      { address: recentBlockhashes, role: AccountRole.READONLY },
      { address: authority, role: AccountRole.READONLY_SIGNER },
    ],
    data: Uint8Array.of(4, 0, 0, 0),
  }
}

/** Puts a lookup table there with these addresses. */
export function putLookupTable(cluster: Cluster, table: Address, addresses: readonly Address[]): void {
  const data = new Uint8Array(56 + addresses.length * 32)
  const view = new DataView(data.buffer)
  view.setUint32(0, 1, true)
  view.setBigUint64(4, 2n ** 64n - 1n, true)
  addresses.forEach((one, index) => {
    data.set(getAddressEncoder().encode(one), 56 + index * 32)
  })
  cluster.setAccount(table, lookupTableProgram, data)
}

/** What makes two otherwise equal payments two. */
export function memo(text: string): Instruction {
  return {
    programAddress: address('MemoSq4gqABAXKb96qnH8TysNcWxMyWCqXgDLGmfcHr'),
    data: new TextEncoder().encode(text),
  }
}
