/** What the probe finds out by nodes that lag, limit, lack or forget. */
import { type Address, type Hex, numberToHex, type PrivateKeyAccount } from 'viem'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type EvmChainOptions, evmSettlementProbe, type SettlementQuery } from '../../src/evm/index.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { type Alteration, refusing, startAlteredNode, startNode } from './probe-node.ts'
import { transferring } from './probe-payments.ts'

const payTo: Address = '0x000000000000000000000000000000000000bEEF'

let chain: Chain
let buyer: PrivateKeyAccount
let nonces = 0

beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.2 })
  buyer = await chain.newAccount('10')
  await chain.mint(buyer.address, 1_000_000n)
  // From here on blocks are made by the tests alone.
  await chain.client.setIntervalMining({ interval: 0 })
  // The token is older than what the tests look back to.
  await chain.client.mine({ blocks: 600 })
})
afterAll(() => chain.stop())

const signal = new AbortController().signal

/** Pays with a new nonce, `depth` blocks ago. */
async function pay(depth = 0): Promise<Hex> {
  const nonce = numberToHex(++nonces, { size: 32 })
  const { target, callData } = await transferring(chain, buyer, { nonce, to: payTo, value: 1_000n })
  await chain.walletOf(buyer).sendTransaction({ to: target, data: callData, gas: 500_000n })
  await chain.client.mine({ blocks: 1 })
  if (!(await chain.isSpent(buyer.address, nonce))) throw new Error('the payment was not made')
  if (depth > 0) await chain.client.mine({ blocks: depth, interval: 1 })
  return nonce
}

const queryOf = (nonce: Hex): SettlementQuery => ({
  method: 'eip3009',
  network: chain.network,
  asset: chain.token.address,
  payer: buyer.address,
  nonce,
  payTo,
  amount: '1000',
})
const probe = (rpcUrl: string | string[], options: Omit<EvmChainOptions, 'rpcUrl'> = {}) =>
  evmSettlementProbe({ [chain.network]: { rpcUrl, ...options } })
const ask = (nonce: Hex, rpcUrl: string | string[], since?: number) =>
  probe(rpcUrl).ask(queryOf(nonce), { signal, since })

/** Searches this many blocks at most, as some providers do for those who do not pay. */
const searching =
  (most: bigint): Alteration =>
  ({ method, params }) => {
    if (method !== 'eth_getLogs') return undefined
    const { fromBlock, toBlock } = params[0] as { fromBlock?: Hex; toBlock?: Hex }
    if (fromBlock === undefined || toBlock === undefined) return undefined
    return BigInt(toBlock) - BigInt(fromBlock) < most
      ? undefined
      : { error: { code: -32600, message: `you can make requests with up to a ${most} block range` } }
  }

/** Keeps the state of this many blocks, as nodes do that are no archive. */
const keeping = (blocks: bigint): Alteration => {
  return async ({ method, params }) => {
    if (method !== 'eth_call' || !`${params[1]}`.startsWith('0x')) return undefined
    const head = await chain.client.getBlockNumber({ cacheTime: 0 })
    return head - BigInt(params[1] as Hex) < blocks
      ? undefined
      : { error: { code: -32000, message: 'missing trie node' } }
  }
}

async function blockAt(number: Hex): Promise<object> {
  const body = JSON.stringify({
    jsonrpc: '2.0',
    id: 1,
    method: 'eth_getBlockByNumber',
    params: [number, false],
  })
  const headers = { 'content-type': 'application/json' }
  const answer = await fetch(chain.rpcUrl, { method: 'POST', headers, body })
  return ((await answer.json()) as { result: object }).result
}

const both =
  (...alterations: Alteration[]): Alteration =>
  async (request, forward) => {
    for (const alter of alterations) {
      const answer = await alter(request, forward)
      if (answer !== undefined) return answer
    }
    return undefined
  }

describe('a node that is stuck', () => {
  /** Shows an old block as its newest, dated `ageSeconds` before now. */
  async function startStuckNode(ageSeconds: number) {
    const number = await chain.client.getBlockNumber({ cacheTime: 0 })
    const node = await startAlteredNode(chain.rpcUrl, async ({ method, params }) => {
      if (method !== 'eth_getBlockByNumber' || params[0] !== 'latest') return undefined
      const block = await blockAt(numberToHex(number))
      const timestamp = numberToHex(Math.floor(Date.now() / 1000) - ageSeconds)
      return { result: { ...block, timestamp } }
    })
    return node
  }

  it('is passed over where another node knows newer blocks', async () => {
    const stuck = await startStuckNode(600)
    const nonce = await pay()
    const withBoth = probe([stuck.url, chain.rpcUrl])
    expect(await withBoth.ask(queryOf(nonce), { signal })).toMatchObject({ state: 'paid' })
    stuck.methods.length = 0
    expect(await withBoth.ask(queryOf(nonce), { signal })).toMatchObject({ state: 'paid' })
    expect(stuck.methods).toEqual([])
  })

  it('is what the chain shows where there is no other', async () => {
    const stuck = await startStuckNode(600)
    const nonce = await pay()
    const answer = await ask(nonce, stuck.url)
    expect(answer).toEqual({ state: 'unspent', asOf: expect.any(Number) })
    expect((answer as { asOf: number }).asOf).toBeLessThan(Date.now() / 1000 - 590)
  })

  it('is not distinguished from the others when the whole chain has halted', async () => {
    const [one, other] = [await startStuckNode(610), await startStuckNode(600)]
    const halted = probe([one.url, other.url])
    const nonce = await pay()
    expect(await halted.ask(queryOf(nonce), { signal })).toMatchObject({ state: 'unspent' })
    one.methods.length = 0
    expect(await halted.ask(queryOf(nonce), { signal })).toMatchObject({ state: 'unspent' })
    expect(one.methods).toContain('eth_call')
  })

  it('costs no request while the first node keeps up', async () => {
    const other = await startAlteredNode(chain.rpcUrl)
    expect(await ask(await pay(), [chain.rpcUrl, other.url])).toMatchObject({ state: 'paid' })
    expect(other.methods).toEqual([])
  })
})

describe('a node that limits the search of logs', () => {
  it('is asked for fewer blocks, and for no more the next time', async () => {
    const node = await startAlteredNode(chain.rpcUrl, searching(10n))
    const asked = probe(node.url)
    expect(await asked.ask(queryOf(await pay()), { signal })).toMatchObject({ state: 'paid' })
    node.methods.length = 0
    expect(await asked.ask(queryOf(await pay()), { signal })).toMatchObject({ state: 'paid' })
    expect(node.methods).toEqual([
      'eth_getBlockByNumber',
      'eth_call',
      'eth_getLogs',
      'eth_getTransactionReceipt',
    ])
  })

  it('finds an older payment by the state, at few requests', async () => {
    const node = await startAlteredNode(chain.rpcUrl, searching(10n))
    expect(await ask(await pay(300), node.url)).toMatchObject({ state: 'paid' })
    expect(node.methods.length).toBeLessThanOrEqual(32)
  })

  it('finds an older payment by its logs where the state is forgotten', async () => {
    const node = await startAlteredNode(chain.rpcUrl, both(searching(100n), keeping(128n)))
    expect(await ask(await pay(300), node.url)).toMatchObject({ state: 'paid' })
    expect(node.methods.length).toBeLessThanOrEqual(22)
  })

  it('may refuse with a status of HTTP and no body', async () => {
    const answers = searching(10n)
    const strict = await startAlteredNode(chain.rpcUrl)
    const url = await startNode(async (incoming, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      const body = Buffer.concat(chunks).toString()
      if ((await answers(JSON.parse(body), async () => ({}))) !== undefined)
        return void response.writeHead(400).end()
      const headers = { 'content-type': 'application/json' }
      const answer = await fetch(strict.url, { method: 'POST', headers, body })
      response.writeHead(200, headers).end(await answer.text())
    })
    expect(await ask(await pay(), url)).toMatchObject({ state: 'paid' })
  })

  it('is not searched any further when there is no time left', async () => {
    const controller = new AbortController()
    let searches = 0
    const node = await startAlteredNode(
      chain.rpcUrl,
      both(keeping(1n), ({ method }) => {
        if (method === 'eth_getLogs' && ++searches === 3) controller.abort()
        return method === 'eth_getLogs' ? { result: [] } : undefined
      }),
    )
    await pay(50)
    const answer = probe(node.url, { blocksPerRequest: 1 }).ask(queryOf(await pay(50)), {
      signal: controller.signal,
    })
    expect(await answer).toMatchObject({ state: 'cannot-tell' })
    // Another question to the same node takes longer than the next search would have.
    await ask(await pay(), (await startAlteredNode(chain.rpcUrl)).url)
    expect(searches).toBe(3)
  })
})

describe('a node without logs', () => {
  it('leaves the search to the next one', async () => {
    const without = await startAlteredNode(chain.rpcUrl, refusing('eth_getLogs'))
    expect(await ask(await pay(), [without.url, chain.rpcUrl])).toMatchObject({ state: 'paid' })
  })

  it('that lags, and returns none for blocks that it lacks, hides no payment', async () => {
    const lagging = await startAlteredNode(chain.rpcUrl, ({ method, params }) =>
      method === 'eth_getLogs' && 'fromBlock' in (params[0] as object) ? { result: [] } : undefined,
    )
    const { timestamp } = await chain.client.getBlock()
    expect(await ask(await pay(), lagging.url, Number(timestamp))).toMatchObject({ state: 'paid' })
  })
})

describe('a chain that was reorganized between two requests of a question', () => {
  it('hides no payment', async () => {
    const nonce = await pay(3)
    // The block in which the authorization was used is told by its number, and is another one by then.
    const { number } = await chain.client.getBlock()
    const node = await startAlteredNode(chain.rpcUrl, ({ method, params }) => {
      if (method === 'eth_getLogs' && 'fromBlock' in (params[0] as object)) return { result: [] }
      if (method === 'eth_getBlockByNumber' && params[0] === numberToHex(number - 3n))
        return blockAt(numberToHex(number - 4n)).then(block => ({
          result: { ...block, number: numberToHex(number - 3n) },
        }))
      return undefined
    })
    expect(await ask(nonce, node.url)).toMatchObject({ state: 'cannot-tell' })
  })
})

describe('an authorization that was used before the payment began', () => {
  it('is spent otherwise, without a search back to its use', async () => {
    const nonce = await pay(100)
    const { timestamp } = await chain.client.getBlock()
    await chain.client.mine({ blocks: 20, interval: 1 })
    const node = await startAlteredNode(chain.rpcUrl)
    const asked = probe(node.url, { blocksPerRequest: 30 })
    const answer = await asked.ask(queryOf(nonce), { signal, since: Number(timestamp) })
    expect(answer).toEqual({ state: 'spent-otherwise' })
    expect(node.methods.length).toBeLessThanOrEqual(10)
  })

  it('cannot be told where the search ends before the payment began', async () => {
    const nonce = await pay(100)
    const asked = probe(chain.rpcUrl, { searchBlocks: 20, blocksPerRequest: 5 })
    const { timestamp } = await chain.client.getBlock({
      blockNumber: (await chain.client.getBlockNumber()) - 50n,
    })
    const answer = await asked.ask(queryOf(nonce), { signal, since: Number(timestamp) })
    expect(answer).toMatchObject({ state: 'cannot-tell' })
  })
})

describe('the chain of a node', () => {
  it('is asked for once, and anew after the node has failed', async () => {
    let isDown = false
    const node = await startAlteredNode(chain.rpcUrl)
    const url = await startNode(async (incoming, response) => {
      const chunks: Buffer[] = []
      for await (const chunk of incoming) chunks.push(chunk as Buffer)
      if (isDown) return void response.writeHead(500).end()
      const headers = { 'content-type': 'application/json' }
      const body = Buffer.concat(chunks).toString()
      const answer = await fetch(node.url, { method: 'POST', headers, body })
      response.writeHead(200, headers).end(await answer.text())
    })
    const asked = probe(url)
    const nonce = await pay()
    const count = () => node.methods.filter(method => method === 'eth_chainId').length
    await asked.ask(queryOf(nonce), { signal })
    await asked.ask(queryOf(nonce), { signal })
    expect(count()).toBe(1)
    isDown = true
    expect(await asked.ask(queryOf(nonce), { signal })).toMatchObject({ state: 'cannot-tell' })
    isDown = false
    expect(await asked.ask(queryOf(nonce), { signal })).toMatchObject({ state: 'paid' })
    expect(count()).toBe(2)
  })
})
