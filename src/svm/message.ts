/** What the transaction of a payment says of itself. */
import type { Address, Signature } from '@solana/kit'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { kit } from './kit.ts'

export interface SignedMessage {
  /** Known before it is sent only where the buyer pays the fee: it is the fee payer's signature. */
  readonly signature: Signature | undefined
  /** Signs it, and few other transactions: the buyer, where a facilitator pays the fee. */
  readonly signer: Address
  /** A recent blockhash, or the value of a durable nonce. */
  readonly lifetime: string
  /** The account of the durable nonce that it begins by advancing. */
  readonly nonceAccount: Address | undefined
}

const systemProgram = '11111111111111111111111111111111'
/** The number of the instruction AdvanceNonceAccount. */
const advanceNonceAccount = '4,0,0,0'

/** @throws {Error} when it is no transaction, or has not been kept with the query */
export function readMessage({ transaction }: SettlementQuery): SignedMessage {
  if (transaction === undefined) throw new Error('the transaction was not recorded')
  const { messageBytes, signatures } = kit
    .getTransactionDecoder()
    .decode(kit.getBase64Encoder().encode(transaction))
  const message = kit.getCompiledTransactionMessageDecoder().decode(messageBytes)
  const { staticAccounts, header, lifetimeToken } = message
  const [first] = 'instructions' in message ? message.instructions : []
  const advancesNonce =
    staticAccounts[first?.programAddressIndex ?? -1] === systemProgram &&
    `${first?.data}` === advanceNonceAccount
  const signer = staticAccounts[header.numSignerAccounts > 1 ? 1 : 0]
  if (signer === undefined) throw new Error('nobody signs the transaction')
  const [feePayer] = Object.values(signatures)
  return {
    signature: feePayer ? (kit.getBase58Decoder().decode(feePayer) as Signature) : undefined,
    signer,
    lifetime: lifetimeToken,
    nonceAccount: advancesNonce ? staticAccounts[first?.accountIndices?.[0] ?? -1] : undefined,
  }
}
