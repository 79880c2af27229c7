/** What was paid, what was delivered, and what the books say of it are held against each other. */

import { type Address, encodeFunctionData, type Hex, type PrivateKeyAccount, toHex } from 'viem'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { evmSettlementProbe } from '../../src/evm/index.ts'
import { FacilitatorAggregator, type LedgerUpdate, MemoryLedger } from '../../src/index.ts'
import { type ReconcileOptions, type Reconciliation, reconcile } from '../../src/reconcile/index.ts'
import { closedBySeller } from '../../src/settlement/ledger.ts'
import { createBuyer } from '../bed/buyer.ts'
import { type Chain, readArtifact, startChain } from '../bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { deployPermit2, type Permit2, permit2Requirements, signedPermit2Payload } from '../bed/permit2.ts'
import { price, startSeller } from '../bed/seller.ts'
import { refusing, startAlteredNode } from './probe-node.ts'
import { type Call, cancellingAuthorization, transferring } from './probe-payments.ts'

const multicall3: Address = '0xcA11bde05977b3631167028862bE2a173976CA11'

let chain: Chain
let permit2: Permit2
let facilitator: TestFacilitator
let multicallAbi: readonly unknown[]
let sender: PrivateKeyAccount
/** Who pays without a shop. */
let payer: PrivateKeyAccount

beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.2 })
  permit2 = await deployPermit2(chain)
  facilitator = await startFacilitator({ chain, id: 'only' })
  multicallAbi = (await readArtifact('Multicall3')).abi
  sender = await chain.newAccount('10')
  payer = await chain.newAccount('10')
  await chain.mint(payer.address, 1_000_000_000n)
})
afterAll(async () => {
  await facilitator.stop()
  chain.stop()
})

let nonces = 0
const newNonce = () => toHex(++nonces, { size: 32 })

/** A shop with books of its own. */
async function openShop({ hasProbe = false } = {}) {
  const ledger = new MemoryLedger()
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: facilitator.id, url: facilitator.url }],
    healthCheck: false,
    settlement: {
      ledger,
      probes: hasProbe ? [evmSettlementProbe({ [chain.network]: { rpcUrl: chain.rpcUrl } })] : [],
    },
  })
  await aggregator.getSupported()
  const seller = await startSeller(chain, aggregator)
  const fromBlock = (await chain.client.getBlockNumber()) + 1n
  await chain.nextBlocks(1)
  const payTo = seller.address
  const shop = {
    ledger,
    aggregator,
    seller,
    payTo,
    fromBlock,
    options: (more: Partial<ReconcileOptions> = {}): ReconcileOptions => ({
      ledger,
      network: chain.network,
      payTo,
      asset: chain.token.address,
      from: fromBlock,
      confirmations: 1,
      ...('client' in more ? {} : { rpcUrl: chain.rpcUrl }),
      ...more,
    }),
    /** An entry of the books, whatever the chain says. */
    async record(
      nonce: Hex | bigint,
      settlement: LedgerUpdate['settlement'] | undefined,
      { owner = payer.address, resource = 'goods', leaseMs = 60_000 } = {},
    ): Promise<string> {
      const method = typeof nonce === 'bigint' ? 'permit2' : 'eip3009'
      const asset = chain.token.address
      const token = method === 'eip3009' ? asset.toLowerCase() : ''
      const key = `${method}|${chain.network}|${token}|${owner.toLowerCase()}|${nonce}`
      const claim = crypto.randomUUID()
      const { network } = chain
      const query = {
        method,
        network,
        asset,
        payer: owner,
        nonce: `${nonce}`,
        payTo,
        amount: `${price}`,
        resource,
      } as const
      await ledger.claim({ key, fingerprint: key, query, claim, leaseMs })
      if (settlement) await ledger.update({ key, claim, settlement })
      return key
    },
    transfer: (nonce: Hex, value = price, to = payTo) => transferring(chain, payer, { nonce, to, value }),
    buy: async () => (await createBuyer(chain)).buy(seller.url),
    /** Until a block after all that was sent. */
    settled: () => chain.nextBlocks(2),
    async close() {
      await seller.stop()
      await aggregator.stop()
    },
  }
  return shop
}

async function send(calls: readonly Call[]): Promise<Hex> {
  const callData = encodeFunctionData({
    abi: multicallAbi,
    functionName: 'tryAggregate',
    args: [true, calls],
  })
  const hash = await chain.walletOf(sender).sendTransaction({ to: multicall3, data: callData })
  const { status } = await chain.client.waitForTransactionReceipt({ hash })
  expect(status).toBe('success')
  return hash
}

const times = <T>(count: number, make: (index: number) => Promise<T>) =>
  Promise.all(Array.from({ length: count }, (_, index) => make(index)))

/** The findings by kind, each by its payment, or by its transfer where it has none. */
function summary({ findings }: Reconciliation) {
  const by = (kind: string) =>
    findings
      .filter(finding => finding.kind === kind)
      .map(finding =>
        'payment' in finding
          ? finding.payment.key
          : `${finding.transfer.transaction} ${finding.transfer.amount}`,
      )
      .sort()
  return {
    'paid-not-delivered': by('paid-not-delivered'),
    'delivered-not-paid': by('delivered-not-paid'),
    'charged-but-rejected': by('charged-but-rejected'),
    'unknown-income': by('unknown-income'),
  }
}

const nothing = {
  'paid-not-delivered': [],
  'delivered-not-paid': [],
  'charged-but-rejected': [],
  'unknown-income': [],
}

describe('books that agree with the chain', () => {
  it('have no findings: sales, credits, Permit2, rejections and what was closed by the seller', async () => {
    const shop = await openShop()
    const { ledger, record, transfer } = shop
    const sales = await times(20, shop.buy)
    expect(sales.map(({ status }) => status)).toEqual(Array(20).fill(200))

    const owner = await permit2.newOwner(1_000_000n)
    const requirements = permit2Requirements(chain, 'exact', shop.payTo)
    const payments = await times(3, async index => {
      const nonce = 700n + BigInt(index)
      return { nonce, payload: await signedPermit2Payload(chain, owner, requirements, `${nonce}`) }
    })
    const hashes = await permit2.inOneBlock(payments.map(({ payload }) => permit2.settle(payload)))
    for (const [index, { nonce }] of payments.entries())
      await record(nonce, { state: 'settled', transaction: hashes[index] ?? '' }, { owner: owner.address })

    const closed = newNonce()
    await send([await transfer(closed)])
    await record(closed, { state: 'rejected', reason: closedBySeller })
    await record(newNonce(), { state: 'rejected', reason: 'invalid_signature' })
    await record(newNonce(), { state: 'unresolved' })
    await record(newNonce(), { state: 'failed', wasSent: true })
    // Anyone can make a transfer of nothing.
    await send([await transfer(newNonce(), 0n)])
    await shop.settled()

    const found = await reconcile(shop.options())
    expect(summary(found)).toEqual(nothing)
    expect(found).toMatchObject({ transfers: 24, received: `${24n * price}`, payments: 27 })
    expect(found.unseen.filter(({ kind }) => kind !== 'ledger')).toEqual([])
    expect((await ledger.list({ limit: 100 })).entries).toHaveLength(27)
    await shop.close()
  })

  it('count a charge that was credited to the next payment of its payer once', async () => {
    const shop = await openShop({ hasProbe: true })
    const buyers = await times(4, () => createBuyer(chain))
    // Nobody can look: the first payments end unresolved.
    const blind = new FacilitatorAggregator({
      facilitators: [{ id: facilitator.id, url: facilitator.url }],
      healthCheck: false,
      settlement: { ledger: shop.ledger },
    })
    facilitator.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    for (const buyer of buyers) {
      const { payload } = await buyer.sign(shop.seller.url)
      await expect(blind.settle(payload, payload.accepted)).rejects.toThrow()
    }
    facilitator.heal()
    await blind.stop()
    for (const buyer of buyers) expect((await buyer.buy(shop.seller.url)).status).toBe(200)
    await shop.settled()

    const found = await reconcile(shop.options())
    expect(summary(found)).toEqual(nothing)
    expect(found.credits).toHaveLength(4)
    expect(found.transfers).toBe(4)

    // Another payment that names the same transaction has not been paid.
    const [credit] = found.credits
    const entry = await shop.ledger.get(credit?.key ?? '')
    const { payer: owner = '', resource } = entry?.query ?? {}
    const forged = await shop.record(
      newNonce(),
      { state: 'settled', transaction: credit?.transaction ?? '', redeliveries: 1 },
      { owner: owner as Address, resource: resource ?? '' },
    )
    await shop.settled()
    expect(summary(await reconcile(shop.options()))).toEqual({ ...nothing, 'delivered-not-paid': [forged] })
    await shop.close()
  })
})

/** A shop in whose books, and on whose chain, each kind of discrepancy is there 22 times, among 22 sales without one. */
async function openTroubledShop() {
  const count = 22
  const shop = await openShop()
  const { record, transfer } = shop
  const paidBy = async (settlement: (hash: Hex) => LedgerUpdate['settlement'] | undefined, value = price) => {
    const nonce = newNonce()
    const hash = await send([await transfer(nonce, value)])
    return record(nonce, settlement(hash))
  }
  const one = async (index: number) => {
    const owed = [
      { state: 'unresolved' },
      { state: 'failed', wasSent: true },
      { state: 'undelivered', transaction: '0x01', redeliveries: 1, windowMs: 600_000 },
    ] as const
    const three = [newNonce(), newNonce(), newNonce()] as const
    const transaction = await send(await Promise.all(three.map(nonce => transfer(nonce))))
    const [sold, paid, rejected] = three
    await record(sold, { state: 'settled', transaction })
    return {
      paid: await record(paid, owed[index % owed.length]),
      rejected: await record(rejected, { state: 'rejected', reason: 'invalid_signature' }),
    }
  }
  // Nobody says so in the books: the facilitator claims what it has not done.
  facilitator.fault({ settle: { kind: 'false claim' } })
  const before = new Set((await shop.ledger.list({ limit: 1000 })).entries.map(({ key }) => key))
  const lied = await times(10, shop.buy)
  expect(lied.map(({ status }) => status)).toEqual(Array(10).fill(200))
  facilitator.heal()
  const unpaid = (await shop.ledger.list({ limit: 1000 })).entries
    .map(({ key }) => key)
    .filter(key => !before.has(key))

  const pairs: Awaited<ReturnType<typeof one>>[] = []
  for (let index = 0; index < count; index++) pairs.push(await one(index))
  for (let index = 0; index < 4; index++) {
    // Used for something else, too little, cancelled, and the transaction of another payment.
    const [nonce, cancelled, another, twice] = [newNonce(), newNonce(), newNonce(), newNonce()]
    const hash = await send([
      await transfer(nonce, price, '0x000000000000000000000000000000000000dEaD'),
      await cancellingAuthorization(chain, payer, cancelled),
      await transfer(another),
    ])
    unpaid.push(
      await record(nonce, { state: 'settled', transaction: hash }),
      await record(cancelled, { state: 'settled', transaction: hash }),
      await record(twice, { state: 'settled', transaction: hash, redeliveries: 1 }),
      await paidBy(transaction => ({ state: 'settled', transaction }), price - 1n),
    )
    await record(another, { state: 'settled', transaction: hash, redeliveries: 1 })
  }

  const { address, abi } = chain.token
  const wallet = chain.walletOf(payer)
  const unknown: string[] = []
  for (let index = 0; index < count / 2; index++) {
    const args = [shop.payTo, 5_000n + BigInt(index)]
    const hash = await wallet.writeContract({ address, abi, functionName: 'transfer', args })
    await chain.client.waitForTransactionReceipt({ hash })
    unknown.push(`${hash} ${5_000 + index}`)
  }
  const strangers = await times(count / 2, () => transfer(newNonce()))
  unknown.push(...Array(count / 2).fill(`${await send(strangers)} ${price}`))
  await shop.settled()
  return {
    shop,
    discrepancies: {
      'paid-not-delivered': pairs.map(({ paid }) => paid).sort(),
      'delivered-not-paid': unpaid.sort(),
      'charged-but-rejected': pairs.map(({ rejected }) => rejected).sort(),
      'unknown-income': unknown.sort(),
    },
  }
}

describe('books with each kind of discrepancy 22 times or more', () => {
  let troubled: Awaited<ReturnType<typeof openTroubledShop>>
  beforeAll(async () => {
    troubled = await openTroubledShop()
    for (const those of Object.values(troubled.discrepancies)) expect(those.length).toBeGreaterThanOrEqual(22)
  }, 120_000)
  afterAll(() => troubled.shop.close())

  it('have all of them found, and none invented', async () => {
    const { shop, discrepancies } = troubled
    const found = await reconcile(shop.options())
    expect(summary(found)).toEqual(discrepancies)
    expect(found.unseen.filter(({ kind }) => kind !== 'ledger')).toEqual([])
  })

  it('have them found block by block, and in two ranges, the same', async () => {
    const { shop, discrepancies } = troubled
    expect(summary(await reconcile(shop.options({ blocksPerRequest: 1 })))).toEqual(discrepancies)
    const middle = (shop.fromBlock + (await chain.client.getBlockNumber())) / 2n
    const parts = await Promise.all([
      reconcile(shop.options({ to: middle })),
      reconcile(shop.options({ from: middle + 1n })),
    ])
    const findings = parts.flatMap(part => part.findings)
    expect(summary({ ...parts[0], findings })).toEqual(discrepancies)
    for (const { findings } of parts) expect(findings.length).toBeGreaterThan(0)
  })

  it('have them found in two ranges of time', async () => {
    const { shop, discrepancies } = troubled
    const timeOf = async (blockNumber: bigint) =>
      new Date(Number((await chain.client.getBlock({ blockNumber })).timestamp) * 1000)
    const from = await timeOf(shop.fromBlock)
    const middle = await timeOf((shop.fromBlock + (await chain.client.getBlockNumber())) / 2n)
    const parts = await Promise.all([
      reconcile(shop.options({ from, to: middle })),
      reconcile(shop.options({ from: middle })),
    ])
    const findings = parts.flatMap(part => part.findings)
    expect(summary({ ...parts[0], findings })).toEqual(discrepancies)
  })

  it('have them found by who goes on where an earlier run was stopped', async () => {
    const { shop, discrepancies } = troubled
    const stop = new AbortController()
    let stored = ''
    let parts = 0
    const run = reconcile(
      shop.options({
        blocksPerRequest: 7,
        signal: stop.signal,
        onProgress(progress) {
          stored = JSON.stringify(progress)
          if (++parts === 3) stop.abort()
        },
      }),
    )
    await expect(run).rejects.toThrow('abort')
    const resume: Reconciliation = JSON.parse(stored)
    expect(resume.nextBlock).toBe(resume.fromBlock + 21)
    const { url, methods } = await startAlteredNode(chain.rpcUrl)
    const found = await reconcile(shop.options({ rpcUrl: url, resume }))
    expect(summary(found)).toEqual(discrepancies)
    expect(methods).toContain('eth_getLogs')
    expect(found.toBlock).toBe(resume.toBlock)
  })

  it('have them found by nodes that take few blocks, and where the first node is down', async () => {
    const { shop, discrepancies } = troubled
    const { url } = await startAlteredNode(chain.rpcUrl, ({ method, params }) => {
      const { fromBlock, toBlock } = (params?.[0] ?? {}) as Record<string, string>
      return method === 'eth_getLogs' && Number(toBlock) - Number(fromBlock) >= 16
        ? { error: { code: -32602, message: 'query exceeds max block range 16' } }
        : undefined
    })
    const found = await reconcile(shop.options({ rpcUrl: ['http://127.0.0.1:9', url] }))
    expect(summary(found)).toEqual(discrepancies)
  })

  it('say which blocks no node has events of, and find what is after them', async () => {
    const { shop, discrepancies } = troubled
    const pruned = Number(shop.fromBlock) + 30
    const { url } = await startAlteredNode(chain.rpcUrl, ({ method, params }) => {
      const { fromBlock } = (params?.[0] ?? {}) as Record<string, string>
      return method === 'eth_getLogs' && Number(fromBlock) < pruned
        ? { error: { code: 4444, message: 'pruned history unavailable' } }
        : undefined
    })
    const found = await reconcile(shop.options({ rpcUrl: url }))
    expect(found.unseen.filter(({ kind }) => kind === 'blocks')).toEqual([
      {
        kind: 'blocks',
        fromBlock: found.fromBlock,
        toBlock: pruned - 1,
        reason: expect.stringContaining('pruned history unavailable'),
      },
    ])
    for (const [kind, those] of Object.entries(summary(found)))
      expect(discrepancies[kind as keyof typeof discrepancies]).toEqual(expect.arrayContaining(those))
    expect(found.findings.some(finding => 'transfer' in finding)).toBe(true)
    for (const finding of found.findings)
      if (finding.kind !== 'delivered-not-paid') expect(finding.transfer.block).toBeGreaterThanOrEqual(pruned)
  })
})

describe('what cannot be seen', () => {
  it('is said: a payment by Permit2 in a wrapper, where no node has traces', async () => {
    const shop = await openShop()
    const owner = await permit2.newOwner(1_000_000n)
    const nonce = 900n
    const payload = await signedPermit2Payload(
      chain,
      owner,
      permit2Requirements(chain, 'exact', shop.payTo),
      `${nonce}`,
    )
    const { to, data } = permit2.settle(payload)
    // Whether the call may fail does not show in its calldata.
    const callData = encodeFunctionData({
      abi: multicallAbi,
      functionName: 'tryAggregate',
      args: [false, [{ target: to, callData: data }]],
    })
    const transaction = await chain
      .walletOf(sender)
      .sendTransaction({ to: multicall3, data: callData, gas: 500_000n })
    await chain.client.waitForTransactionReceipt({ hash: transaction })
    const key = await shop.record(nonce, { state: 'unresolved' }, { owner: owner.address })
    await shop.settled()

    expect(summary(await reconcile(shop.options()))).toEqual({ ...nothing, 'paid-not-delivered': [key] })
    const { url } = await startAlteredNode(
      chain.rpcUrl,
      refusing('debug_traceTransaction', 'trace_transaction'),
    )
    const blind = await reconcile(shop.options({ rpcUrl: url }))
    expect(blind.findings).toEqual([])
    expect(blind.unseen).toContainEqual({
      kind: 'transfer',
      transfer: expect.objectContaining({ transaction, amount: `${price}` }),
      reason: expect.stringContaining('debug_traceTransaction'),
    })
    await shop.close()
  })

  it('is said: blocks that are not there yet, a payment that is being settled, books that begin later', async () => {
    const shop = await openShop()
    const nonce = newNonce()
    await send([await shop.transfer(nonce)])
    await shop.record(nonce, undefined)
    await shop.settled()
    const to = (await chain.client.getBlockNumber()) + 1_000n
    const found = await reconcile(shop.options({ to }))
    expect(found.findings).toEqual([])
    expect(found.unseen.map(({ kind }) => kind).sort()).toEqual(['blocks', 'ledger', 'transfer'])
    await shop.close()
  })
})

describe('what a reconciliation cannot work with is one clear error', () => {
  const address = '0x000000000000000000000000000000000000bEEF'
  const right = () => ({
    ledger: new MemoryLedger(),
    network: chain.network as string,
    rpcUrl: chain.rpcUrl,
    payTo: address,
    asset: chain.token.address as string,
    from: 0n,
    confirmations: 1,
  })

  it.each([
    [
      'an unknown network',
      { network: 'bese' },
      'network: expected an EVM chain such as eip155:8453, got "bese"',
    ],
    ['Solana', { network: 'solana' }, 'network: expected an EVM chain'],
    ['another chain', { network: 'eip155:1' }, 'the node is of the chain eip155:84532'],
    ['an address that is none', { payTo: '0x1234' }, 'payTo: expected an address of 20 bytes'],
    ['a mistyped address', { payTo: '0x000000000000000000000000000000000000bEEf' }, 'the checksum of'],
    ['a token that is not there', { asset: address }, 'there is no contract at'],
    ['from after to', { from: 9n, to: 8n }, 'from: is after `to`'],
    ['from in the future', { from: 10_000_000n }, 'from: there is no such block yet'],
    [
      'a time that is none',
      { from: new Date('yesterday') },
      'from: expected the number of a block as a bigint, or a Date',
    ],
    ['no node', { rpcUrl: [] }, 'rpcUrl: is an empty list'],
    ['a URL that is none', { rpcUrl: 'node' }, 'rpcUrl: expected https:// or http://'],
    ['a node that is down', { rpcUrl: 'http://127.0.0.1:9/key-1a2b3c' }, 'the nodes of eip155:84532 failed'],
    ['no blocks at a time', { blocksPerRequest: 0 }, 'blocksPerRequest: expected a whole number from 1'],
  ])('%s', async (_, wrong, message) => {
    const error: unknown = await reconcile({ ...right(), ...wrong }).catch(error => error)
    expect(error).toBeInstanceOf(Error)
    expect(String(error)).toContain(message)
    expect(String(error)).not.toContain('1a2b3c')
    expect(String(error).split('\n')).toHaveLength(1)
  })

  it('a node without logs', async () => {
    const { url } = await startAlteredNode(chain.rpcUrl, refusing('eth_getLogs'))
    await expect(reconcile({ ...right(), rpcUrl: url })).rejects.toMatchObject({
      code: 'RECONCILIATION_FAILED',
      message: expect.stringContaining('has no eth_getLogs'),
    })
  })

  it('a ledger that fails', async () => {
    class Broken extends MemoryLedger {
      override list(): Promise<never> {
        return Promise.reject(new Error('the database is down'))
      }
    }
    await expect(reconcile({ ...right(), ledger: new Broken() })).rejects.toMatchObject({
      code: 'RECONCILIATION_FAILED',
      message: 'reconcile: the ledger failed: the database is down',
    })
  })
})
