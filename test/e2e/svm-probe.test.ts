/** What the probe for Solana says of payments, on the real runtime with its token programs. */
import { type Address, generateKeyPairSigner, type KeyPairSigner } from '@solana/kit'
import { afterEach, describe, expect, it } from 'vitest'
import { readPayment } from '../../src/payment/payment.ts'
import { identify, type SettlementQuery } from '../../src/payment/payment-key.ts'
import type { ProbeAnswer } from '../../src/settlement/probe-answer.ts'
import { type SvmClusterOptions, svmSettlementProbe } from '../../src/svm/index.ts'
import { type Market, network, openMarket, price } from '../bed/solana/market.ts'
import { putTokenAccount, token2022Program, transferChecked } from '../bed/solana/token.ts'
import { advanceNonce, putLookupTable, putNonce } from '../bed/solana/transactions.ts'

let market: Market
afterEach(() => market.stop())

type Payment = Awaited<ReturnType<Market['sign']>>

async function queryOf({ payload }: Payment, terms = market.requirements()): Promise<SettlementQuery> {
  const keyed = await identify(readPayment(payload, terms))
  if (!keyed) throw new Error('the payment has no key')
  return keyed.query
}

/** One that remembers what it has asked about, as a seller's does. */
function probeOf(options: Partial<SvmClusterOptions> = {}) {
  const probe = svmSettlementProbe({ [network]: { rpcUrl: market.node.url, ...options } })
  return async (
    payment: Payment,
    { terms, since }: { terms?: ReturnType<Market['requirements']>; since?: number } = {},
  ) => probe.ask(await queryOf(payment, terms), { signal: AbortSignal.timeout(20_000), since })
}

/** Until what is sent now is confirmed. */
const confirm = () => market.cluster.advance(2)
/** Until it is finalized. */
const finalize = () => market.cluster.advance(32)

const neverAgain = { state: 'unspent', asOf: Number.POSITIVE_INFINITY }
const reasonOf = (answer: ProbeAnswer) => (answer.state === 'cannot-tell' ? answer.reason : answer.state)

/** A market in whose first block nothing is too young to be finalized. */
async function open(options: Parameters<typeof openMarket>[0] = {}): Promise<void> {
  market = await openMarket(options)
  finalize()
}

describe('a payment on Solana', () => {
  it('is paid once its block is confirmed, and is found by its message', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    expect(await ask(payment)).toMatchObject({
      state: 'unspent',
      asOf: expect.closeTo(Date.now() / 1000, -1),
    })
    const signature = payment.send()
    expect((await ask(payment)).state).toBe('unspent')
    confirm()
    const answer = await ask(payment)
    expect(answer).toMatchObject({ state: 'paid', transaction: signature, payer: market.buyer.address })
    expect(answer).toMatchObject({ minedAt: expect.closeTo(Date.now() / 1000, -1) })
  })

  it('is paid once its block is finalized, where the seller wants that', async () => {
    await open()
    const ask = probeOf({ commitment: 'finalized' })
    const payment = await market.sign()
    payment.send()
    confirm()
    expect(await ask(payment)).toMatchObject({ state: 'cannot-tell', isMined: true })
    finalize()
    expect((await ask(payment)).state).toBe('paid')
  })

  it('is not taken for another one of the same buyer, payee and amount', async () => {
    await open()
    const ask = probeOf()
    const [one, other] = [await market.sign(), await market.sign()]
    one.send()
    confirm()
    expect((await ask(one)).state).toBe('paid')
    expect((await ask(other)).state).toBe('unspent')
  })

  it('lands once, to how many facilitators it is sent', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    const signatures = [payment.send(), payment.send()]
    confirm()
    payment.send()
    confirm()
    expect(new Set(signatures).size).toBe(1)
    expect(await ask(payment)).toMatchObject({ state: 'paid', transaction: signatures[0] })
    expect(market.cluster.blocks.flatMap(({ transactions }) => transactions)).toHaveLength(1)
  })

  it('is found by the signature of a buyer who pays the fee himself', async () => {
    await open()
    const payment = await market.sign({ feePayer: market.buyer })
    const signature = payment.send()
    confirm()
    expect(await probeOf()(payment)).toMatchObject({ state: 'paid', transaction: signature })
    expect(market.node.calls).not.toContain('getSignaturesForAddress')
  })

  it('is not paid by another payment whose signature the buyer writes into it', async () => {
    await open()
    const made = await market.sign()
    made.send()
    confirm()
    const forged = await market.sign()
    const bytes = Buffer.from(forged.transaction, 'base64')
    Buffer.from(made.complete, 'base64').copy(bytes, 1, 1, 65)
    const transaction = bytes.toString('base64')
    const answer = await probeOf()({ ...forged, payload: { ...forged.payload, payload: { transaction } } })
    expect(answer.state).toBe('unspent')
  })

  it('is rejected that has landed and failed', async () => {
    await open()
    const payment = await market.sign({ instructions: [market.transfer(2_000_000n)] })
    const signature = payment.send()
    confirm()
    const terms = market.requirements({ amount: '2000000' })
    expect(await probeOf()(payment, { terms })).toEqual({ state: 'spent-otherwise', transaction: signature })
  })

  it('is found among many transactions of its buyer', async () => {
    await open()
    market.node.faults.pageSize = 3
    const payment = await market.sign()
    payment.send()
    for (let others = 0; others < 10; others++) (await market.sign()).send()
    confirm()
    expect((await probeOf()(payment)).state).toBe('paid')
    expect(reasonOf(await probeOf({ searchSignatures: 6 })(payment))).toMatch(/not among the newest 6/)
  })

  it('is found whatever its facilitator settles for others', async () => {
    await open()
    const payment = await market.sign()
    payment.send()
    for (let others = 0; others < 5; others++) (await market.sign({ instructions: [], signers: [] })).send()
    confirm()
    expect((await probeOf({ searchSignatures: 3 })(payment)).state).toBe('paid')
  })

  it('is looked for no further back than its settlement began', async () => {
    await open()
    const ask = probeOf({ searchSignatures: 3 })
    for (let earlier = 0; earlier < 5; earlier++) (await market.sign()).send()
    market.cluster.passSeconds(60)
    market.cluster.advance(3)
    const payment = await market.sign()
    const since = Math.floor(Date.now() / 1000) + 30
    expect((await ask(payment, { since })).state).toBe('unspent')
    expect(reasonOf(await ask(payment))).toMatch(/not among the newest 3/)
  })

  it('of nothing is rejected that has landed and failed', async () => {
    await open()
    const payment = await market.sign({ instructions: [market.transfer(0n), market.transfer(2_000_000n)] })
    payment.send()
    confirm()
    const terms = market.requirements({ amount: '0' })
    expect((await probeOf()(payment, { terms })).state).toBe('spent-otherwise')
  })

  it('is not looked for before its settlement began', async () => {
    await open()
    const payment = await market.sign()
    payment.send()
    confirm()
    const later = Math.floor(Date.now() / 1000) + 600
    market.cluster.passSeconds(700)
    market.cluster.advance()
    expect((await probeOf()(payment, { since: later })).state).toBe('unspent')
    expect((await probeOf()(payment)).state).toBe('paid')
  })
})

describe('a transaction is no payment', () => {
  async function verdict(instructions: Parameters<Market['sign']>[0], terms = market.requirements()) {
    const payment = await market.sign(instructions)
    const signature = payment.send()
    confirm()
    const landed = market.cluster.blocks.flatMap(({ transactions }) => transactions).at(-1)
    expect(landed).toMatchObject({ signature, err: null })
    return (await probeOf()(payment, { terms })).state
  }

  it('that pays less', async () => {
    await open()
    expect(await verdict({ instructions: [market.transfer(price - 1n)] })).toBe('spent-otherwise')
  })

  it('that pays somebody else', async () => {
    await open()
    const other = await market.account((await generateKeyPairSigner()).address)
    expect(await verdict({ instructions: [market.transfer(price, other)] })).toBe('spent-otherwise')
  })

  it('that pays with another token', async () => {
    await open()
    const terms = market.requirements({ asset: (await generateKeyPairSigner()).address })
    expect(await verdict({}, terms)).toBe('spent-otherwise')
  })

  it('of which the token keeps a part, so that less arrives than is sent', async () => {
    await open({ program: token2022Program, feeBasisPoints: 100 })
    expect(await verdict({})).toBe('spent-otherwise')
    expect(await verdict({ instructions: [market.transfer(price + 200n)] })).toBe('paid')
  })

  it('that pays and takes back', async () => {
    await open()
    const { payee, buyer, mint, accounts } = market
    await putTokenAccount(market.cluster, {
      ...{ owner: payee.address, mint, amount: 0n, delegate: buyer.address },
    })
    const [source, destination] = [accounts.payee, accounts.buyer]
    const back = transferChecked({ source, destination, mint, authority: buyer.address, amount: 1n })
    expect(await verdict({ instructions: [market.transfer(price), back] })).toBe('spent-otherwise')
    expect(await verdict({ instructions: [market.transfer(price + 1n), back] })).toBe('paid')
  })

  it("to the payee's token account, when that is somebody else's by now", async () => {
    await open()
    const { payee, buyer, mint } = market
    await putTokenAccount(market.cluster, {
      ...{ owner: payee.address, mint, amount: 0n, movedTo: buyer.address },
    })
    expect(await verdict({})).toBe('spent-otherwise')
  })

  it("that brings the payee's own money there", async () => {
    await open()
    const { payee, buyer, mint, accounts } = market
    // Another account of the payee's, of which the buyer may take.
    const source = await putTokenAccount(market.cluster, {
      ...{ owner: (await generateKeyPairSigner()).address, mint, amount: 50_000n },
      ...{ movedTo: payee.address, delegate: buyer.address },
    })
    const own = (amount: bigint) =>
      transferChecked({ source, destination: accounts.payee, mint, authority: buyer.address, amount })
    const elsewhere = await market.account((await generateKeyPairSigner()).address)
    expect(await verdict({ instructions: [own(price)] })).toBe('spent-otherwise')
    expect(await verdict({ instructions: [market.transfer(price - 1n), own(1n)] })).toBe('spent-otherwise')
    expect(await verdict({ instructions: [market.transfer(price, elsewhere), own(price)] })).toBe(
      'spent-otherwise',
    )
  })
})

describe('a transaction is a payment', () => {
  it('that loads its accounts from a lookup table', async () => {
    await open()
    const table = (await generateKeyPairSigner()).address
    const listed = [market.accounts.payee, market.accounts.buyer, market.mint]
    putLookupTable(market.cluster, table, listed)
    const payment = await market.sign({ lookupTables: { [table]: listed } })
    payment.send()
    confirm()
    expect(market.cluster.blocks.flatMap(({ transactions }) => transactions)[0]).toMatchObject({
      err: null,
      loaded: { writable: expect.arrayContaining([market.accounts.payee]) },
    })
    expect(await probeOf()(payment)).toMatchObject({ state: 'paid', payer: market.buyer.address })
  })

  it('that pays in two parts', async () => {
    await open()
    const payment = await market.sign({ instructions: [market.transfer(1n), market.transfer(price - 1n)] })
    payment.send()
    confirm()
    expect((await probeOf()(payment)).state).toBe('paid')
  })

  it('of two purchases, which share its key, so that one of them is delivered', async () => {
    await open()
    const instructions = [market.transfer(price), market.transfer(price)]
    const payment = await market.sign({ instructions })
    payment.send()
    confirm()
    expect((await probeOf()(payment)).state).toBe('paid')
    const keys = [market.requirements(), market.requirements({ amount: `${price - 1n}` })].map(
      async terms => (await identify(readPayment(payment.payload, terms)))?.key,
    )
    expect(new Set(await Promise.all(keys)).size).toBe(1)
  })
})

describe('a payment that nobody has sent', () => {
  it('can be made no more once finalized blocks do not know its blockhash any more', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    expect((await ask(payment)).state).toBe('unspent')
    // Its blockhash is that of the newest finalized block.
    market.cluster.advance(150)
    expect((await ask(payment)).state).toBe('unspent')
    expect(await ask(payment)).not.toEqual(neverAgain)
    market.cluster.advance(1)
    expect(await ask(payment)).toEqual(neverAgain)
    payment.send()
    confirm()
    expect(await ask(payment)).toEqual(neverAgain)
  })

  it('has not expired when its blockhash is too young for finalized blocks', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign({ lifetime: market.cluster.head('processed').blockhash })
    for (let asked = 0; asked < 4; asked++) {
      expect(await ask(payment)).toMatchObject({
        state: 'unspent',
        asOf: expect.closeTo(Date.now() / 1000, -1),
      })
      market.cluster.advance(8)
    }
    payment.send()
    confirm()
    expect((await ask(payment)).state).toBe('paid')
  })

  it('has expired when it is older than any blockhash, whoever saw it valid', async () => {
    await open()
    const payment = await market.sign()
    market.cluster.advance(200)
    const ask = probeOf()
    expect(await ask(payment)).not.toEqual(neverAgain)
    market.cluster.advance(332)
    expect(await ask(payment)).not.toEqual(neverAgain)
    market.cluster.advance()
    expect(await ask(payment)).toEqual(neverAgain)
  })

  it('counts its blocks, not the slots that pass without one', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    await ask(payment)
    market.cluster.skip(1_000)
    finalize()
    expect(await ask(payment)).not.toEqual(neverAgain)
    payment.send()
    confirm()
    expect((await ask(payment)).state).toBe('paid')
  })

  it('is not called expired that has landed in the last block that takes it', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    await ask(payment)
    market.cluster.advance(150 - 32)
    payment.send()
    market.cluster.advance(200)
    expect((await ask(payment)).state).toBe('paid')
  })
})

describe('a payment with a durable nonce', () => {
  let nonce: Address
  let value: string

  async function signWithNonce(authority: KeyPairSigner = market.buyer): Promise<Payment> {
    nonce = (await generateKeyPairSigner()).address
    value = putNonce(market.cluster, nonce, authority.address)
    const instructions = [advanceNonce(nonce, authority.address), market.transfer(price)]
    return market.sign({ instructions, lifetime: value })
  }

  it('can be made for ever, so that nobody can tell', async () => {
    await open()
    const ask = probeOf()
    const payment = await signWithNonce()
    expect(reasonOf(await ask(payment))).toMatch(/durable nonce/)
    market.cluster.advance(1_000)
    expect(reasonOf(await ask(payment))).toMatch(/durable nonce/)
    payment.send()
    confirm()
    expect((await ask(payment)).state).toBe('paid')
  })

  it('can be made no more once its nonce is advanced for something else, and that is finalized', async () => {
    await open()
    const ask = probeOf()
    const payment = await signWithNonce()
    await ask(payment)
    const other = await market.sign({ instructions: [advanceNonce(nonce, market.buyer.address)] })
    other.send()
    confirm()
    expect(reasonOf(await ask(payment))).toMatch(/durable nonce/)
    finalize()
    expect(await ask(payment)).toEqual(neverAgain)
    payment.send()
    confirm()
    expect(await ask(payment)).toEqual(neverAgain)
  })
})

describe('a fork', () => {
  it('that drops a confirmed payment leaves it unspent, until it lands again', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    payment.send()
    market.cluster.advance(3)
    expect((await ask(payment)).state).toBe('paid')
    market.cluster.fork(4)
    confirm()
    expect((await ask(payment)).state).toBe('unspent')
    const signature = payment.send()
    confirm()
    expect(await ask(payment)).toMatchObject({ state: 'paid', transaction: signature })
  })

  it('that drops it for good has it expire', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    await ask(payment)
    payment.send()
    market.cluster.advance(3)
    market.cluster.fork(4)
    market.cluster.advance(200)
    expect(await ask(payment)).toEqual(neverAgain)
  })
})

describe('of several nodes', () => {
  const another = async (faults: Parameters<Market['addNode']>[0] = {}) => (await market.addNode(faults)).url

  it('one of another cluster is refused by name, and the next is asked', async () => {
    await open()
    const wrong = await another({ genesisHash: '5eykt4UsFv8P8NJdTREpY1vzqKqZKvdpKuc147dw2N9d' })
    const payment = await market.sign()
    payment.send()
    confirm()
    expect(await probeOf({ rpcUrl: wrong })(payment)).toEqual({
      state: 'cannot-tell',
      reason: 'the node is of the cluster solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp',
    })
    expect((await probeOf({ rpcUrl: [wrong, market.node.url] })(payment)).state).toBe('paid')
  })

  it.each([
    ['answers 500', { status: 500 }],
    ['limits requests', { status: 429 }],
    ['hangs', { hangs: true }],
    ['keeps no transactions', { hasNoHistory: true }],
  ])('the next is asked when one %s', async (_what, faults) => {
    await open()
    const broken = await another(faults)
    const payment = await market.sign()
    payment.send()
    confirm()
    expect((await probeOf({ rpcUrl: broken, timeoutMs: 300 })(payment)).state).toBe('cannot-tell')
    const both = probeOf({ rpcUrl: [broken, market.node.url], timeoutMs: 300 })
    expect((await both(payment)).state).toBe('paid')
  })

  it('one that has pruned the history of a payment does not call it unspent', async () => {
    await open()
    const ask = probeOf()
    const payment = await market.sign()
    await ask(payment)
    payment.send()
    market.cluster.advance(200)
    market.node.faults.firstSlot = market.cluster.head('processed').slot - 100
    expect(reasonOf(await ask(payment))).toMatch(/pruned/)
    const [whole, both] = [await another(), probeOf({ rpcUrl: [market.node.url, await another()] })]
    expect((await probeOf({ rpcUrl: whole })(payment)).state).toBe('paid')
    expect((await both(payment)).state).toBe('paid')
  })

  it('one that has pruned its history before a payment could be made shows it unspent all the same', async () => {
    await open()
    market.cluster.advance(400)
    market.node.faults.firstSlot = market.cluster.head('processed').slot - 300
    const payment = await market.sign()
    expect((await probeOf()(payment)).state).toBe('unspent')
  })

  it('one that has stood still for long is not believed', async () => {
    await open()
    const payment = await market.sign()
    market.cluster.passSeconds(-120)
    market.cluster.advance(10)
    market.cluster.passSeconds(120)
    market.cluster.advance()
    payment.send()
    confirm()
    const stuck = await another({ behind: 4 })
    expect((await probeOf({ rpcUrl: stuck })(payment)).state).toBe('unspent')
    expect((await probeOf({ rpcUrl: [stuck, market.node.url] })(payment)).state).toBe('paid')
  })

  it('one that catches up does not make a payment expire that is too young for its finalized blocks', async () => {
    await open()
    market.cluster.advance(500)
    const payment = await market.sign({ lifetime: market.cluster.head('processed').blockhash })
    market.node.faults.behind = 400
    const ask = probeOf()
    await ask(payment)
    market.node.faults.behind = 0
    expect((await ask(payment)).state).toBe('unspent')
    expect(await ask(payment)).not.toEqual(neverAgain)
  })

  it('one that lags does not make a payment expire that another one has seen alive', async () => {
    await open()
    market.cluster.advance(100)
    const payment = await market.sign()
    const lagging = await another({ behind: 60 })
    const ask = probeOf({ rpcUrl: [market.node.url, lagging] })
    expect((await ask(payment)).state).toBe('unspent')
    market.node.faults.status = 500
    const answer = await ask(payment)
    expect(answer.state).toBe('unspent')
    expect(answer).not.toEqual(neverAgain)
  })

  it('behind one URL, one that lags does not hide a payment', async () => {
    await open()
    const payment = await market.sign()
    payment.send()
    market.cluster.advance(5)
    market.node.faults.behindIn = { getSignaturesForAddress: 5 }
    expect(reasonOf(await probeOf()(payment))).toMatch(/[Mm]inimum context slot/)
  })
})

describe('a probe for Solana is refused', () => {
  const url = 'https://node.example'
  const chosen = network.replace('solana:', '')

  it.each([
    ['without a cluster', {}, 'expected a cluster, such as'],
    [
      'for an EVM chain',
      { 'eip155:8453': { rpcUrl: url } },
      'eip155:8453: expected a CAIP-2 name such as solana:',
    ],
    ['for a name that nothing has', { [`solana:${chosen}x`]: { rpcUrl: url } }, 'expected a CAIP-2 name'],
    ['without a URL', { [network]: { rpcUrl: [] } }, 'rpcUrl: give the URL of a node'],
    [
      'for a URL of another protocol',
      { [network]: { rpcUrl: 'wss://node.example' } },
      'expected https:// or',
    ],
    [
      'that looks among nothing',
      { [network]: { rpcUrl: url, searchSignatures: 0 } },
      'a whole number from 1',
    ],
    [
      'for one cluster under two names',
      { [network]: { rpcUrl: url }, 'solana-devnet': { rpcUrl: url } },
      'twice',
    ],
  ])('%s', async (_what, clusters, problem) => {
    await open()
    expect(() => svmSettlementProbe(clusters)).toThrow(problem)
  })

  it('but for none that is named as protocol version 1 names it', async () => {
    await open()
    const probe = svmSettlementProbe({ 'solana-devnet': { rpcUrl: url } })
    expect(probe.supports(network, 'svm')).toBe(true)
    expect(probe.supports(network, 'payload')).toBe(false)
  })
})
