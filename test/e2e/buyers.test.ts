/** Some cells of the table of buyers: those whose clients and servers are installed with the tests. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Chain, startChain } from '../bed/chain.ts'
import { runCell } from '../buyers/cell.ts'
import { keepsPromise, matrix, nameOf } from '../buyers/matrix.ts'

let chain: Chain

beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.2 })
})
afterAll(() => chain.stop())

const chosen = [
  '@x402/fetch > @x402/hono > doubt, resolved at once',
  '@x402/fetch > @x402/hono > reply lost after the settle',
  'repeats the payment > @x402/express > replica killed',
  '@x402/fetch > @x402/express > replica killed, retry after its claim has lapsed',
  'MCP > MCP > doubt, resolved at once',
  'MCP > MCP > buyer hangs up',
]

describe('a purchase is charged once and delivered once', () => {
  it.concurrent.each(chosen)('%s', async name => {
    const cell = matrix.find(cell => nameOf(cell) === name)
    if (cell === undefined) throw new Error(`there is no cell ${name}`)
    const result = await runCell(chain, cell, 2)
    expect(result).toMatchObject({ charged: 2, delivered: 2 })
    expect(keepsPromise(cell, result)).toBe(true)
  })
})
