/** Cells of the fault matrix as tests. */
import { expect, it } from 'vitest'
import { startChain } from '../bed/chain.ts'
import { type Cell, type GroupName, matrix, nameOf } from '../chaos/matrix.ts'

/** Whatever the client, nothing is lost or delivered unpaid; the naive fallback promises nothing. */
export function itKeepsThePromise(group: GroupName, payments = 5): void {
  const promised = matrix.filter(cell => cell.group === group && cell.client !== 'naive')
  for (const cell of promised) it.concurrent(nameOf(cell), () => keepThePromise(cell, payments))
}

async function keepThePromise({ client, settles, withinMs, run }: Cell, payments: number): Promise<void> {
  const chain = await startChain()
  try {
    const result = await run({ chain, payments, concurrency: payments, random: Math.random })
    const settled = settles?.includes(client) ? { ok: payments, failed: 0, indeterminate: 0 } : {}
    expect(result).toMatchObject({ lost: 0, falseSuccess: 0, ...settled })
    if (withinMs !== undefined) expect(result.maxMs).toBeLessThanOrEqual(withinMs)
  } finally {
    chain.stop()
  }
}
