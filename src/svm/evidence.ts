/** What one transaction has paid. */
import type { Address } from '@solana/kit'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { kit } from './kit.ts'

const tokenPrograms = [
  'TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA',
  'TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb',
] as const
const associatedTokenProgram = 'ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL' as Address

interface TokenBalance {
  readonly accountIndex: number
  readonly owner?: Address
  readonly uiTokenAmount: { readonly amount: string }
}

interface Instruction {
  readonly programIdIndex: number
  readonly accounts: readonly number[]
  readonly data: Uint8Array | Readonly<Record<number, number>>
}

/** A transaction as nodes give it, as far as it is read here. */
export interface LandedTransaction {
  /** In base64. */
  readonly transaction: readonly [string, 'base64']
  readonly meta: {
    readonly err: unknown
    readonly loadedAddresses?: {
      readonly writable: readonly Address[]
      readonly readonly: readonly Address[]
    }
    readonly preTokenBalances?: readonly TokenBalance[]
    readonly postTokenBalances?: readonly TokenBalance[]
    readonly innerInstructions?:
      | readonly {
          readonly instructions: readonly {
            readonly programIdIndex: number
            readonly accounts: readonly number[]
            readonly data: string
          }[]
        }[]
      | null
  } | null
}

/**
 * Who has paid; nobody, where it does not pay the required amount to the payee.
 *
 * It pays when so much is left in the payee's token account, whose address names its mint, and transfers from others have
 * brought so much: what a fee has kept or another instruction has taken back was not paid, and what the payee's other
 * money has brought there was not paid by the buyer.
 */
export async function payerOf(
  landed: LandedTransaction,
  query: SettlementQuery,
): Promise<Address | undefined> {
  const { meta } = landed
  if (meta === null || meta.err !== null) return undefined
  const least = BigInt(query.amount)
  const message = messageOf(landed)
  const accounts = [
    ...message.staticAccounts,
    ...(meta.loadedAddresses?.writable ?? []),
    ...(meta.loadedAddresses?.readonly ?? []),
  ]
  const balanceOf = (balances: readonly TokenBalance[] | undefined, key: Address | undefined) =>
    balances?.find(({ accountIndex }) => accounts[accountIndex] === key)
  for (const program of tokenPrograms) {
    const account = await tokenAccountOf(query, program)
    const before = balanceOf(meta.preTokenBalances, account)
    const after = balanceOf(meta.postTokenBalances, account)
    if (after?.owner !== query.payTo) continue
    if (BigInt(after.uiTokenAmount.amount) - BigInt(before?.uiTokenAmount.amount ?? 0) < least) continue
    let payer: Address | undefined
    let paid = 0n
    for (const instruction of instructionsOf(message, meta)) {
      const transfer =
        accounts[instruction.programIdIndex] === program ? readTransfer(instruction) : undefined
      if (transfer === undefined || accounts[transfer.to] !== account) continue
      const owner = balanceOf(meta.preTokenBalances, accounts[transfer.from])?.owner
      if (owner === undefined || owner === query.payTo) continue
      payer ??= owner
      paid += transfer.amount
    }
    if (paid >= least) return payer
  }
  return undefined
}

function messageOf({ transaction: [wire] }: LandedTransaction) {
  const { messageBytes } = kit.getTransactionDecoder().decode(kit.getBase64Encoder().encode(wire))
  const message = kit.getCompiledTransactionMessageDecoder().decode(messageBytes)
  // The core takes no payment of a later version.
  if (message.version === 1) throw new Error('a transaction of a version that is not known here')
  return message
}

/** Its own, and those that its programs have called. */
function* instructionsOf(
  { instructions }: ReturnType<typeof messageOf>,
  { innerInstructions }: NonNullable<LandedTransaction['meta']>,
): Iterable<Instruction> {
  for (const { programAddressIndex, accountIndices = [], data = [] } of instructions)
    yield { programIdIndex: programAddressIndex, accounts: accountIndices, data }
  for (const { instructions } of innerInstructions ?? [])
    for (const { data, ...inner } of instructions)
      yield { ...inner, data: kit.getBase58Encoder().encode(data) }
}

/** Where its accounts begin with the source, and where the mint stands before the destination. */
const transfer = 3
const transferChecked = 12
const transferFeeExtension = 26
const transferCheckedWithFee = 1

function readTransfer({ accounts, data }: Instruction) {
  const bytes = Uint8Array.from(Object.values(data))
  const isWithFee = bytes[0] === transferFeeExtension && bytes[1] === transferCheckedWithFee
  const namesMint = bytes[0] === transferChecked || isWithFee
  if (!namesMint && bytes[0] !== transfer) return undefined
  const begin = isWithFee ? 2 : 1
  const [from = -1, ...others] = accounts
  if (bytes.length < begin + 8) return undefined
  const amount = new DataView(bytes.buffer).getBigUint64(begin, true)
  return { from, to: others[namesMint ? 1 : 0] ?? -1, amount }
}

async function tokenAccountOf({ payTo, asset }: SettlementQuery, program: string): Promise<Address> {
  const seeds = [payTo, program, asset].map(one => kit.getAddressEncoder().encode(kit.address(one)))
  return (await kit.getProgramDerivedAddress({ programAddress: associatedTokenProgram, seeds }))[0]
}
