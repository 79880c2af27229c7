/** Blocks by time, and ranges of blocks as nodes take them. */
import type { PublicClient } from 'viem'

/** Unix ms of a block. */
export async function timeOf(client: PublicClient, blockNumber: bigint): Promise<number> {
  return Number((await client.getBlock({ blockNumber })).timestamp) * 1000
}

/** The first block made at this time (Unix ms) or later, at most the one after `newest`. */
export async function firstBlockFrom(client: PublicClient, time: number, newest: bigint): Promise<bigint> {
  let before = -1n
  let from = newest + 1n
  while (from - before > 1n) {
    const middle = (before + from) / 2n
    if ((await timeOf(client, middle)) < time) before = middle
    else from = middle
  }
  return from
}

/** Whether a node has answered, and refused this range: it may take a smaller one. */
export function isRefusal(error: unknown): boolean {
  const { code, status } = error as { code?: unknown; status?: unknown }
  return (typeof code === 'number' && !isWithoutLogs(error)) || status === 400 || status === 413
}

/** Whether a node does not know the method at all. */
export function isWithoutLogs(error: unknown): boolean {
  const { code } = error as { code?: unknown }
  return code === -32601 || code === -32004
}

/** Too much at this moment, such as too many requests a second (EIP-1474). */
const isLimit = (error: unknown) => (error as { code?: unknown }).code === -32005

/** A range that was read, or one that no node has. Both end with the block `to`. */
export type Part<T> =
  | { readonly kind: 'read'; readonly to: bigint; readonly found: T }
  | { readonly kind: 'refused'; readonly to: bigint; readonly reason: unknown }

/** Reads ranges of blocks of a size that the nodes take. */
export class RangeReader<T> {
  #size: bigint

  constructor(
    private readonly blocksPerRequest: bigint,
    private readonly read: (range: { readonly from: bigint; readonly to: bigint }) => Promise<T>,
  ) {
    this.#size = blocksPerRequest
  }

  /**
   * As many blocks from `from` on as the nodes take at once. Where they refuse even one, all that they refuse.
   *
   * @throws what the nodes fail with
   */
  async next(from: bigint, last: bigint): Promise<Part<T>> {
    for (;;) {
      const to = from + this.#size - 1n < last ? from + this.#size - 1n : last
      try {
        const found = await this.read({ from, to })
        const larger = this.#size * 2n
        this.#size = larger < this.blocksPerRequest ? larger : this.blocksPerRequest
        return { kind: 'read', to, found }
      } catch (error) {
        if (!isRefusal(error) || (from === to && isLimit(error))) throw error
        if (from === to)
          return { kind: 'refused', to: (await this.#firstServed(from, last)) - 1n, reason: error }
        this.#size = (to - from + 1n) / 2n
      }
    }
  }

  /** The first block after one that is refused that is not: history that was pruned is so up to some block. */
  async #firstServed(refused: bigint, last: bigint): Promise<bigint> {
    let before = refused
    let stride = 1n
    while (before + stride <= last && !(await this.#isServed(before + stride))) {
      before += stride
      stride *= 2n
    }
    let served = before + stride <= last ? before + stride : last + 1n
    while (served - before > 1n) {
      const middle = (before + served) / 2n
      if (await this.#isServed(middle)) served = middle
      else before = middle
    }
    return served
  }

  async #isServed(block: bigint): Promise<boolean> {
    try {
      await this.read({ from: block, to: block })
      return true
    } catch (error) {
      if (!isRefusal(error)) throw error
      return false
    }
  }
}
