/** A Solana cluster in this process: the real runtime (litesvm), with slots, blockhashes that expire, and forks. */
import {
  type Address,
  address,
  type EncodedAccount,
  getAddressDecoder,
  getBase58Decoder,
  getCompiledTransactionMessageDecoder,
  getTransactionDecoder,
  type ReadonlyUint8Array,
} from '@solana/kit'
import { FailedTransactionMetadata, LiteSVM, type TransactionMetadata } from 'litesvm'
import { readTokenBalance, type TokenBalance } from './token.ts'

/** Blocks for which a transaction may use a blockhash. */
export const blockhashLifetime = 150
/** Slots after which a block is confirmed, and finalized. */
const depths = { processed: 0, confirmed: 2, finalized: 32 }

export type Commitment = keyof typeof depths

/** A transaction that is in a block, whether or not it has failed there. */
export interface Landed {
  readonly signature: string
  readonly wire: ReadonlyUint8Array
  readonly slot: number
  readonly err: object | null
  /** Static ones, and then those loaded from lookup tables. */
  readonly accounts: readonly Address[]
  readonly loaded: { readonly writable: readonly Address[]; readonly readonly: readonly Address[] }
  readonly preTokenBalances: readonly TokenBalance[]
  readonly postTokenBalances: readonly TokenBalance[]
  readonly innerInstructions: readonly object[]
}

export interface Block {
  readonly slot: number
  readonly height: number
  readonly blockhash: string
  /** Unix s. */
  readonly time: number
  readonly transactions: Landed[]
  /** Accounts that its transactions may have changed, as they were before. */
  readonly before: Map<Address, EncodedAccount | undefined>
}

const base58 = getBase58Decoder()
const systemProgram = '11111111111111111111111111111111'

export type Cluster = ReturnType<typeof createCluster>

/**
 * @param options.slotMs milliseconds to a slot; without it slots pass when the test says so
 * @param options.startAt Unix s; the time of the first block
 */
export function createCluster(options: { slotMs?: number; genesisHash: string; startAt?: number }) {
  // The runtime's own check knows one blockhash alone, and its history keeps what a fork has dropped.
  const svm = new LiteSVM().withBlockhashCheck(false).withTransactionHistory(0n)
  let clockOffset = options.startAt === undefined ? 0 : options.startAt - Date.now() / 1000
  let slot = 1_000
  const blocks: Block[] = []
  openBlock()

  function openBlock(): void {
    svm.expireBlockhash()
    svm.warpToSlot(BigInt(slot))
    blocks.push({
      slot,
      height: (blocks.at(-1)?.height ?? 500) + 1,
      blockhash: svm.latestBlockhash(),
      time: Math.floor(Date.now() / 1000 + clockOffset),
      transactions: [],
      before: new Map(),
    })
  }

  const newest = () => blocks.at(-1) as Block

  function advance(slots = 1): void {
    for (let passed = 0; passed < slots; passed++) {
      slot++
      openBlock()
    }
  }

  const timer = options.slotMs === undefined ? undefined : setInterval(advance, options.slotMs)
  timer?.unref()

  /** The newest block with this commitment, as a node sees it that is so many slots behind. */
  function head(commitment: Commitment, behind = 0): Block {
    const upTo = slot - behind - depths[commitment]
    return blocks.findLast(block => block.slot <= upTo) ?? (blocks[0] as Block)
  }

  function isBlockhashValid(blockhash: string, at: Block): boolean {
    const block = blocks.find(one => one.blockhash === blockhash)
    return block !== undefined && block.slot <= at.slot && at.height - block.height <= blockhashLifetime
  }

  function liveAccount(key: Address): EncodedAccount | undefined {
    const account = svm.getAccount(key)
    return account.exists ? account : undefined
  }

  /** An account as it was at the end of a slot. */
  function accountAt(key: Address, atSlot: number): EncodedAccount | undefined {
    const change = blocks.find(block => block.slot > atSlot && block.before.has(key))
    return change ? change.before.get(key) : liveAccount(key)
  }

  /** Puts an account there, as no transaction could. */
  function setAccount(key: Address, owner: Address, data: Uint8Array, lamports = 1_000_000_000n): void {
    svm.setAccount({
      address: key,
      data,
      executable: false,
      lamports: lamports as EncodedAccount['lamports'],
      programAddress: owner,
      space: BigInt(data.length),
    })
  }

  /** @returns its signature, whether or not it lands */
  function send(wire: ReadonlyUint8Array): string {
    const transaction = getTransactionDecoder().decode(wire)
    const [first] = Object.values(transaction.signatures)
    if (!first) throw new Error('Transaction signature verification failure')
    const signature = base58.decode(first)
    if (blocks.some(block => block.transactions.some(one => one.signature === signature))) return signature
    const keys = readKeys(transaction.messageBytes)
    if (!keys.isAlive()) return signature
    const before = new Map(keys.all.map(key => [key, liveAccount(key)]))
    const result = svm.sendTransaction(transaction)
    const failure = result instanceof FailedTransactionMetadata ? result.err() : undefined
    // What fails before it is executed is in no block.
    if (failure !== undefined && !(typeof failure === 'object' && 'index' in failure)) return signature
    const block = newest()
    for (const [key, account] of before) if (!block.before.has(key)) block.before.set(key, account)
    const after = keys.all.map(liveAccount)
    const balances = (accounts: readonly (EncodedAccount | undefined)[]) =>
      accounts.flatMap((account, index) => (account && readTokenBalance(account, index)) ?? [])
    block.transactions.push({
      signature,
      wire,
      slot: block.slot,
      err: failure === undefined ? null : { InstructionError: [failure.index, { Custom: 1 }] },
      accounts: keys.all,
      loaded: keys.loaded,
      preTokenBalances: balances([...before.values()]),
      postTokenBalances: balances(after),
      innerInstructions: failure === undefined ? innerInstructionsOf(result as TransactionMetadata) : [],
    })
    return signature
  }

  function readKeys(messageBytes: ReadonlyUint8Array) {
    const message = getCompiledTransactionMessageDecoder().decode(messageBytes)
    if (message.version === 1) throw new Error('version 1 of transactions is not known here')
    const lookups = message.version === 0 ? (message.addressTableLookups ?? []) : []
    const load = (table: Address, indexes: readonly number[]) =>
      indexes.map(index => {
        const begin = 56 + index * 32
        return getAddressDecoder().decode(
          liveAccount(table)?.data.slice(begin, begin + 32) ?? new Uint8Array(32),
        )
      })
    const loaded = {
      writable: lookups.flatMap(one => load(one.lookupTableAddress, one.writableIndexes)),
      readonly: lookups.flatMap(one => load(one.lookupTableAddress, one.readonlyIndexes)),
    }
    const all = [...message.staticAccounts, ...loaded.writable, ...loaded.readonly]
    const [first] = message.instructions
    const isNonceAdvance =
      first !== undefined &&
      all[first.programAddressIndex] === systemProgram &&
      first.data?.[0] === 4 &&
      first.data.length === 4
    return {
      all,
      loaded,
      /** Whether its blockhash is recent, or its nonce current. */
      isAlive(): boolean {
        if (isBlockhashValid(message.lifetimeToken, newest())) return true
        const nonce = isNonceAdvance
          ? liveAccount(all[first.accountIndices?.[0] ?? -1] as Address)
          : undefined
        return nonce !== undefined && base58.decode(nonce.data.slice(40, 72)) === message.lifetimeToken
      },
    }
  }

  return {
    genesisHash: options.genesisHash,
    svm,
    blocks: blocks as readonly Block[],
    advance,
    /** Slots pass without a block. */
    skip(slots: number): void {
      slot += slots - 1
      advance()
    },
    /** The time of the blocks to come is later by so many seconds. */
    passSeconds(seconds: number): void {
      clockOffset += seconds
    },
    /** The newest so many slots are forked off: what is in them never was. */
    fork(depth: number): void {
      const from = slot - depth
      while (newest().slot > from) {
        for (const [key, account] of blocks.pop()?.before ?? [])
          if (account) svm.setAccount(account)
          else setAccount(key, address(systemProgram), new Uint8Array(), 0n)
      }
      advance()
    },
    head,
    isBlockhashValid,
    accountAt,
    setAccount,
    send,
    /** Without its signatures being checked, as the fee payer's is not there yet. */
    simulate(wire: ReadonlyUint8Array) {
      svm.withSigverify(false)
      try {
        return svm.simulateTransaction(getTransactionDecoder().decode(wire))
      } finally {
        svm.withSigverify(true)
      }
    },
    stop: () => clearInterval(timer),
  }
}

function innerInstructionsOf(meta: TransactionMetadata): object[] {
  return meta.innerInstructions().flatMap((instructions, index) =>
    instructions.length === 0
      ? []
      : {
          index,
          instructions: instructions.map(inner => ({
            programIdIndex: inner.instruction().programIdIndex(),
            accounts: [...inner.instruction().accounts()],
            data: base58.decode(inner.instruction().data()),
            stackHeight: inner.stackHeight(),
          })),
        },
  )
}
