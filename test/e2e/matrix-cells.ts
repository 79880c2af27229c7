/** Cells of the fault matrix as tests, at a few payments each. */
import { expect, it } from 'vitest'
import { startChain } from '../bed/chain.ts'
import { type GroupName, matrix } from '../chaos/matrix.ts'

const payments = 5

/** Whatever the client, nothing is lost or delivered unpaid; the naive fallback promises nothing. */
export function itKeepsThePromise(group: GroupName): void {
  const cells = matrix.filter(cell => cell.group === group && cell.client !== 'naive')
  it.concurrent.each(cells)('$fault $at, $client', async ({ client, settles, withinMs, run }) => {
    const chain = await startChain()
    try {
      const result = await run({ chain, payments, concurrency: payments, random: Math.random })
      const settled = settles?.includes(client) ? { ok: payments, failed: 0, indeterminate: 0 } : {}
      expect(result).toMatchObject({ lost: 0, falseSuccess: 0, ...settled })
      if (withinMs !== undefined) expect(result.maxMs).toBeLessThanOrEqual(withinMs)
    } finally {
      chain.stop()
    }
  })
}
