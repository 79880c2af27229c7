/** Whether a transaction that is not on chain may land still. */
import type { Blockhash, Commitment } from '@solana/kit'
import { kit } from './kit.ts'
import type { SignedMessage } from './message.ts'
import type { Node } from './nodes.ts'

/** Blocks in which a transaction may land after that of its blockhash. */
export const lifetimeBlocks = 150n

/** What is remembered of a transaction's blockhash, or durable nonce, between two questions. */
export interface Sighting {
  /** Height of the newest block when it was asked about first: its blockhash is no younger. */
  readonly firstHeight: bigint
  /** Where it was seen alive last, among the finalized blocks. */
  readonly alive: { readonly slot: bigint; readonly height: bigint } | undefined
}

export interface Lifetime {
  readonly sighting: Sighting
  /** No block after `finalizedSlot` can take it. */
  readonly isExpired: boolean
  readonly finalizedSlot: bigint
}

/**
 * What finalized blocks do not know may have expired, or be too young for them. It has expired when they knew it once;
 * or when it is older than its blockhash can be, as nobody knows a blockhash before its block: as old again, as the node
 * may have been behind when it was asked first.
 */
export async function lifetimeOf(
  node: Node,
  message: SignedMessage,
  before: Sighting | undefined,
): Promise<Lifetime> {
  const [firstHeight, { absoluteSlot, blockHeight }] = await Promise.all([
    before?.firstHeight ?? node.ask(rpc => rpc.getBlockHeight({ commitment: 'processed' })),
    node.ask(rpc => rpc.getEpochInfo({ commitment: 'finalized' })),
  ])
  const finalized = await stateOf(node, message, { commitment: 'finalized', minContextSlot: absoluteSlot })
  const alive = finalized.isAlive ? { slot: finalized.slot, height: blockHeight } : before?.alive
  const isExpired =
    !finalized.isAlive &&
    (alive !== undefined
      ? finalized.slot > alive.slot
      : blockHeight > firstHeight + 2n * lifetimeBlocks &&
        !(await stateOf(node, message, { commitment: 'processed', minContextSlot: absoluteSlot })).isAlive)
  return { sighting: { firstHeight, alive }, isExpired, finalizedSlot: absoluteSlot }
}

/** Whether a block that follows may take it, as far as its blockhash or nonce goes. */
async function stateOf(
  node: Node,
  { lifetime, nonceAccount }: SignedMessage,
  config: { readonly commitment: Commitment; readonly minContextSlot: bigint },
): Promise<{ readonly isAlive: boolean; readonly slot: bigint }> {
  const recent = await node.ask(rpc => rpc.isBlockhashValid(lifetime as Blockhash, config))
  const { slot } = recent.context
  if (recent.value || nonceAccount === undefined) return { isAlive: recent.value, slot }
  const { value } = await node.ask(rpc =>
    rpc.getAccountInfo(nonceAccount, { ...config, encoding: 'base64', minContextSlot: slot }),
  )
  return { isAlive: value !== null && nonceIn(value.data[0]) === lifetime, slot }
}

/** Behind two numbers of four bytes and the authority. */
function nonceIn(data: string): string {
  return kit.getBase58Decoder().decode(kit.getBase64Encoder().encode(data).slice(40, 72))
}
