/** Token accounts and mints as bytes, and the instructions that move tokens: SPL Token and Token-2022. */
import {
  AccountRole,
  type Address,
  address,
  type EncodedAccount,
  getAddressDecoder,
  getAddressEncoder,
  getProgramDerivedAddress,
  type Instruction,
} from '@solana/kit'
import type { Cluster } from './cluster.ts'

export const tokenProgram: Address = address('TokenkegQfeZyiNwAJbNbGKPFXCWuBvf9Ss623VQ5DA')
export const token2022Program: Address = address('TokenzQdBNbLqP5VEhdkAS6EPFLC1PHnBqCXEpPxuEb')
const associatedTokenProgram = address('ATokenGPvbdGVxr1b2hvZbsiqW5xWH25efTNsLJA8knL')

export const decimals = 6

export interface TokenBalance {
  readonly accountIndex: number
  readonly mint: Address
  readonly owner: Address
  readonly programId: Address
  readonly uiTokenAmount: {
    readonly amount: string
    readonly decimals: number
    readonly uiAmountString: string
  }
}

const addressAt = (data: EncodedAccount['data'], begin: number) =>
  getAddressDecoder().decode(data.slice(begin, begin + 32))

/** The balance of a token account; nothing of any other. */
export function readTokenBalance(account: EncodedAccount, accountIndex: number): TokenBalance | undefined {
  const { programAddress: programId, data } = account
  // Behind the 165 bytes of an account or a mint, Token-2022 says which of them it is.
  const isToken =
    (programId === tokenProgram && data.length === 165) ||
    (programId === token2022Program && (data.length === 165 || data[165] === 2))
  if (!isToken) return undefined
  const amount = `${new DataView(Uint8Array.from(data).buffer).getBigUint64(64, true)}`
  const uiTokenAmount = { amount, decimals, uiAmountString: `${Number(amount) / 10 ** decimals}` }
  return { accountIndex, mint: addressAt(data, 0), owner: addressAt(data, 32), programId, uiTokenAmount }
}

export async function tokenAccountOf(
  owner: Address,
  mint: Address,
  program = tokenProgram,
): Promise<Address> {
  const encode = getAddressEncoder().encode
  const seeds = [encode(owner), encode(program), encode(mint)]
  return (await getProgramDerivedAddress({ programAddress: associatedTokenProgram, seeds }))[0]
}

/** Puts a mint there; with `feeBasisPoints` one of Token-2022 that keeps so much of each transfer. */
export function putMint(
  cluster: Cluster,
  mint: Address,
  authority: Address,
  options: { program?: Address; feeBasisPoints?: number } = {},
): void {
  const { program = tokenProgram, feeBasisPoints } = options
  const data = new Uint8Array(feeBasisPoints === undefined ? 82 : 166 + 4 + 108)
  const view = new DataView(data.buffer)
  view.setUint32(0, 1, true)
  data.set(getAddressEncoder().encode(authority), 4)
  view.setBigUint64(36, 10n ** 18n, true)
  data[44] = decimals
  data[45] = 1
  if (feeBasisPoints !== undefined) {
    data[165] = 1
    view.setUint16(166, 1, true)
    view.setUint16(168, 108, true)
    const older = 170 + 72
    for (const fee of [older, older + 18]) {
      view.setBigUint64(fee + 8, 10n ** 18n, true)
      view.setUint16(fee + 16, feeBasisPoints, true)
    }
  }
  cluster.setAccount(mint, program, data)
}

/** Puts the token account of an owner there. */
export async function putTokenAccount(
  cluster: Cluster,
  account: {
    owner: Address
    mint: Address
    amount: bigint
    program?: Address
    /** Of a mint that keeps a fee. */
    hasFee?: boolean
    /** Who may move the tokens too. */
    delegate?: Address
    /** Who owns it by now, at the address that is its first owner's. */
    movedTo?: Address
  },
): Promise<Address> {
  const { owner, mint, amount, program = tokenProgram, hasFee, delegate, movedTo } = account
  const key = await tokenAccountOf(owner, mint, program)
  const data = new Uint8Array(hasFee ? 166 + 4 + 8 : 165)
  const view = new DataView(data.buffer)
  data.set(getAddressEncoder().encode(mint), 0)
  data.set(getAddressEncoder().encode(movedTo ?? owner), 32)
  view.setBigUint64(64, amount, true)
  if (delegate) {
    view.setUint32(72, 1, true)
    data.set(getAddressEncoder().encode(delegate), 76)
    view.setBigUint64(121, 10n ** 18n, true)
  }
  data[108] = 1
  if (hasFee) {
    data[165] = 2
    view.setUint16(166, 2, true)
    view.setUint16(168, 8, true)
  }
  cluster.setAccount(key, program, data)
  return key
}

/** Moves tokens, as upstream's client does. */
export function transferChecked(transfer: {
  source: Address
  mint: Address
  destination: Address
  authority: Address
  amount: bigint
  program?: Address
}): Instruction {
  const { source, mint, destination, authority, amount, program = tokenProgram } = transfer
  const data = new Uint8Array(10)
  data[0] = 12
  new DataView(data.buffer).setBigUint64(1, amount, true)
  data[9] = decimals
  return {
    programAddress: program,
    accounts: [
      { address: source, role: AccountRole.WRITABLE },
      { address: mint, role: AccountRole.READONLY },
      { address: destination, role: AccountRole.WRITABLE },
      { address: authority, role: AccountRole.READONLY_SIGNER },
    ],
    data,
  }
}
