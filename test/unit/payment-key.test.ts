import { EVM_NETWORK_CHAIN_ID_MAP, NETWORKS as upstreamNetworks } from '@x402/evm/v1'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { FacilitatorAggregator, InvalidPaymentError } from '../../src/index.ts'
import { caip2 } from '../../src/payment/networks.ts'
import { readPayment } from '../../src/payment/payment.ts'
import { identify } from '../../src/payment/payment-key.ts'
import { settlementProbe } from '../../src/probe/index.ts'
import { untyped } from '../untyped.ts'
import {
  FakeFacilitator,
  network,
  newSvmPayload,
  payer,
  payload,
  payloadV1,
  permit2Payload,
  requirements,
  requirementsV1,
  signature,
  supporting,
} from './builders.ts'

type Content = Record<string, unknown>
type Terms = ReturnType<typeof requirements>

const solana = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'
const identity = async (content: unknown, terms: unknown = requirements()) =>
  identify(readPayment(untyped(content), untyped(terms)))
const keyOf = async (content: unknown, terms?: unknown) => (await identity(content, terms))?.key
const refusal = (content: unknown, terms?: unknown) =>
  identity(content, terms).then(
    found => `accepted as ${found?.key}`,
    (error: unknown) => (error instanceof InvalidPaymentError ? error.message : `threw ${error}`),
  )

const of = (content: object) => payload({ payload: content as Content })
const { authorization } = payload().payload as { authorization: Content }
const { permit2Authorization } = permit2Payload().payload as { permit2Authorization: Content }
const eip3009 = (overrides: object) => of({ signature, authorization: { ...authorization, ...overrides } })
const permit2 = (overrides: object) =>
  of({ signature, permit2Authorization: { ...permit2Authorization, ...overrides } })

/** The record with one of its fields under another name. */
function renamed(record: Content, from: string, to: string): Content {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name === from ? to : name, value]))
}

describe('a payment is refused whose fields facilitators may or may not read', () => {
  it.each([
    ['authorization', 'Authorization'],
    ['authorization', 'AUTHORIZATION'],
    ['permit2Authorization', 'permit2authorization'],
  ])('because %s is spelled %s, and is the only one', async (name, spelling) => {
    const content = name === 'authorization' ? payload() : permit2({})
    const message = await refusal(of(renamed(content.payload, name, spelling)))
    expect(message).toContain('paymentPayload.payload: duplicate fields')
    expect(message).toContain(`"${spelling}"`)
  })

  it.each([
    ['from', 'From'],
    ['nonce', 'NONCE'],
    ['validBefore', 'validbefore'],
    ['value', 'Value'],
  ])('because %s of its authorization is spelled %s', async (name, spelling) => {
    const message = await refusal(of({ signature, authorization: renamed(authorization, name, spelling) }))
    expect(message).toContain('paymentPayload.payload.authorization: duplicate fields')
  })

  it.each([
    ['from', 'FROM'],
    ['nonce', 'Nonce'],
    ['deadline', 'DeadLine'],
  ])('because %s of its Permit2 authorization is spelled %s', async (name, spelling) => {
    const message = await refusal(
      of({ signature, permit2Authorization: renamed(permit2Authorization, name, spelling) }),
    )
    expect(message).toContain('paymentPayload.payload.permit2Authorization: duplicate fields')
  })

  it.each(['Transaction', 'tranſaction'])('because its Solana transaction is called %s', async spelling => {
    const content = of(renamed(newSvmPayload().payload, 'transaction', spelling))
    expect(await refusal(content, requirements({ network: solana }))).toContain(
      'paymentPayload.payload: duplicate fields',
    )
  })

  it('because two fields that nobody knows differ in case', async () => {
    const content = of({ ...payload().payload, memo: 1, Memo: 2 })
    expect(await refusal(content)).toContain('"Memo"')
  })

  it('though fields that nobody knows are read over', async () => {
    expect(await keyOf(of({ ...payload().payload, memo: 1, note: 2 }))).toBe(await keyOf(payload()))
  })
})

describe('a number of an authorization', () => {
  const limit = 2n ** 256n

  it.each([
    ['above 2^256', `${limit + 5n}`],
    ['of 2^256', `${limit}`],
    ['below zero', `${5n - limit}`],
    ['below zero, not as text', -5],
    ['with a fraction', 1.5],
    ['too large for its type', 2 ** 60],
    ['in hexadecimal above 2^256', `0x1${'0'.repeat(64)}`],
    ['with a sign', '+5'],
    ['between blanks', ' 5 '],
    ['in binary', '0b101'],
    ['with an exponent', '5e0'],
    ['in a list', [5]],
    ['that is true', true],
    ['that is empty', ''],
    ['that is absent', undefined],
    ['of a million digits', '9'.repeat(1_000_000)],
  ])('as nonce of Permit2 is refused %s', async (_, nonce) => {
    expect(await refusal(permit2({ nonce }))).toContain(
      'paymentPayload.payload.permit2Authorization.nonce: expected a whole number below 2^256',
    )
  })

  it.each([
    ['5', ['5', '05', 5, '0x5', '0X05', `0x${'5'.padStart(64, '0')}`]],
    [`${limit - 1n}`, [`${limit - 1n}`, `0x${'f'.repeat(64)}`, `0x${'F'.repeat(64)}`]],
    ['0', ['0', 0, '0x0']],
  ])('%s is one nonce of Permit2, however it is written', async (canonical, spellings) => {
    const keys = await Promise.all(spellings.map(nonce => keyOf(permit2({ nonce }))))
    expect(new Set(keys)).toEqual(new Set([`permit2|${network}||${payer}|${canonical}`]))
  })

  it.each([
    ['text', '4000000000', 4_000_000_000],
    ['a number', 4_000_000_000, 4_000_000_000],
    ['hexadecimal', '0xee6b2800', 4_000_000_000],
    ['absent', undefined, undefined],
    ['null', null, undefined],
    ['for ever', `${limit - 1n}`, Number(limit - 1n)],
  ])('is its end as %s', async (_, validBefore, expected) => {
    expect((await identity(eip3009({ validBefore })))?.query.validBefore).toBe(expected)
    expect((await identity(permit2({ deadline: validBefore })))?.query.validBefore).toBe(expected)
  })

  it.each(['soon', '', ' 4000000000 ', -1, `${limit}`, [4_000_000_000]])(
    'is no end of it as %j: the ledger would forget the payment too early',
    async validBefore => {
      expect(await refusal(eip3009({ validBefore }))).toContain('authorization.validBefore: expected a whole')
      expect(await refusal(permit2({ deadline: validBefore }))).toContain('deadline: expected a whole')
    },
  )

  it.each(['0.5', '-1', '', 'free', `${limit}`])('is no amount as %j', async amount => {
    const message = 'paymentRequirements'
    expect(await refusal(payload(), requirements({ amount }))).toContain(message)
    expect(await refusal(permit2({}), requirements({ scheme: 'upto', amount }))).toContain(message)
    expect(await refusal(payloadV1(), requirementsV1({ maxAmountRequired: amount }))).toContain(message)
    expect(await refusal(newSvmPayload(), requirements({ network: solana, amount }))).toContain(message)
  })

  it.each([
    ['a payer of another length', { from: `0x${payer}` }],
    ['a payer with a second prefix', { from: `0X${'1'.repeat(38)}` }],
    ['a payer with a prefix in capitals', { from: payer.replace('0x', '0X') }],
    ['a nonce with a blank', { nonce: ` ${authorization.nonce}` }],
    ['a nonce in decimal', { nonce: '5' }],
    ['a nonce that is a number', { nonce: 5 }],
  ])('is refused: %s', async (_, overrides) => {
    expect(await refusal(eip3009(overrides))).toContain('in hexadecimal')
  })
})

describe('a network of protocol version 1', () => {
  // `@x402/svm` 2.27 (V1_TO_V2_NETWORK_MAP), `x402` 1.2 (SvmNetworkToChainId)
  const solanaNetworks = {
    solana: 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp',
    'solana-devnet': 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1',
    'solana-testnet': 'solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z',
  }
  // `x402` 1.2 (EvmNetworkToChainId), where it may not be installed
  const evmNetworksOfV1 = {
    abstract: 2741,
    'abstract-testnet': 11124,
    'base-sepolia': 84532,
    base: 8453,
    'avalanche-fuji': 43113,
    avalanche: 43114,
    iotex: 4689,
    sei: 1329,
    'sei-testnet': 1328,
    polygon: 137,
    'polygon-amoy': 80002,
    peaq: 3338,
    story: 1514,
    educhain: 41923,
    'skale-base-sepolia': 324705682,
  }
  // x402-rs 0.10 (xdc), facilitators made of it (bsc)
  const evmNetworksOfOthers = { bsc: 56, xdc: 50 }

  it('is known if upstream knows it', () => {
    const evm = { ...EVM_NETWORK_CHAIN_ID_MAP, ...evmNetworksOfV1, ...evmNetworksOfOthers }
    const expected = {
      ...Object.fromEntries(Object.entries(evm).map(([name, id]) => [name, `eip155:${id}`])),
      ...solanaNetworks,
    }
    const names = [...upstreamNetworks, ...Object.keys(expected)]
    expect(Object.fromEntries(names.map(name => [name, caip2(name)]))).toEqual(expected)
  })

  it.each(['eip155:8453', 'moon', 'constructor', '__proto__'])('stays as it is if it is none: %s', name => {
    expect(caip2(name)).toBe(name)
  })

  it.each(['bsc', 'xdc', 'base'])('and its CAIP-2 name give one payment one key: %s', async name => {
    const v1 = await identity(payloadV1(), requirementsV1({ network: untyped(name) }))
    const v2 = await identity(payload(), requirements({ network: caip2(name) as Terms['network'] }))
    expect(v1?.key).toMatch(/^eip3009\|eip155:\d+\|/)
    expect(v1?.key).toBe(v2?.key)
    expect(v1?.fingerprint).toBe(v2?.fingerprint)
  })
})

describe('a payment of which nothing is known that a chain accepts once', () => {
  const channel = { channelConfig: { payer }, voucher: { channelId: '0x1', signature } }
  const variants: [string, Content, Terms | ReturnType<typeof requirementsV1>][] = [
    ['of an unknown scheme', payload().payload, requirements({ scheme: 'exotic' })],
    ['of an unknown payload', { proof: 'p' }, requirements()],
    ['of an unknown payload of upto', payload().payload, requirements({ scheme: 'upto' })],
    ['on XRPL', { signedTxBlob: '1200', invoiceId: 'i' }, requirements({ network: 'xrpl:0', amount: '0.5' })],
    ['on a chain of another kind', payload().payload, requirements({ network: 'tron:728126428' })],
    ['that opens a channel', { type: 'deposit', ...channel }, requirements({ scheme: 'batch-settlement' })],
    ['by voucher', { type: 'voucher', ...channel }, requirements({ scheme: 'batch-settlement' })],
    ['on an unknown network', payload().payload, requirementsV1({ network: untyped('moon') })],
  ]
  const sent = (content: Content, terms: object) =>
    'maxAmountRequired' in terms ? { ...payloadV1(), payload: content } : of(content)

  it.each(variants)('has the hash of its payload for a key, and no probe: %s', async (_, content, terms) => {
    const keyed = await identity(sent(content, terms), terms)
    expect(keyed?.key).toMatch(/^payload\|[^|]+\|\|\|[0-9a-f]{64}$/)
    expect(keyed?.query).toMatchObject({ method: 'payload', nonce: keyed?.key.split('|').at(-1) })
  })

  it.each(variants)(
    'is delivered once, whatever an idempotent facilitator answers: %s',
    async (_, content, terms) => {
      const { scheme, network } = terms
      const x402Version = 'maxAmountRequired' in terms ? 1 : 2
      const client = new FakeFacilitator({
        supportedAnswer: supporting({ x402Version, scheme, network: network as Terms['network'] }),
      })
      const supports = () => true
      const ask = () => {
        throw new Error('nothing on the chain shows it')
      }
      const aggregator = new FacilitatorAggregator({
        facilitators: [{ id: 'idempotent', client }],
        healthCheck: false,
        settlement: { probes: [settlementProbe({ supports, ask })], audit: 'always' },
      })
      const answers = []
      for (let i = 0; i < 5; i++)
        answers.push(await aggregator.settle(untyped(sent(content, terms)), untyped(terms)))
      expect(answers.filter(({ success }) => success)).toHaveLength(1)
      expect(client.calls.settle).toBe(1)
      await aggregator.stop()
    },
  )

  it('keeps its key when its fields are ordered or cased otherwise', async () => {
    const terms = requirements({ network: 'xrpl:0' })
    const keys = await Promise.all(
      [
        { tx: { a: 1, b: [1, { c: 2, d: 3 }] }, id: 'i' },
        { id: 'i', tx: { b: [1, { d: 3, c: 2 }], a: 1 } },
        { ID: 'i', Tx: { B: [1, { D: 3, C: 2 }], A: 1 } },
        { id: 'i', gone: undefined, tx: { b: [1, { d: 3, c: 2 }], a: 1 } },
      ].map(content => keyOf(of(content), terms)),
    )
    expect(new Set(keys)).toEqual(new Set([expect.stringMatching(/^payload\|xrpl:0\|/)]))
  })

  it.each([
    ['another value', { tx: { a: 2 } }, {}],
    ['text for a number', { tx: { a: '1' } }, {}],
    ['another order of a list', { tx: { a: 1 }, list: [2, 1] }, {}],
    ['another scheme', { tx: { a: 1 } }, { scheme: 'exotic' }],
    ['another network', { tx: { a: 1 } }, { network: 'xrpl:1' as const }],
  ])('has another key with %s', async (_, content, terms) => {
    const key = await keyOf(of({ tx: { a: 1 } }), requirements({ network: 'xrpl:0' }))
    const other = await keyOf(of(content), requirements({ network: 'xrpl:0', ...terms }))
    expect([key, other]).toEqual([expect.stringMatching(/^payload\|/), expect.stringMatching(/^payload\|/)])
    expect(other).not.toBe(key)
  })

  it('keeps its key whatever it is presented for: that is its fingerprint', async () => {
    const content = of({ tx: 1 })
    const one = await identity(content, requirements({ network: 'xrpl:0' }))
    const other = await identity(content, requirements({ network: 'xrpl:0', asset: 'other', payTo: 'me' }))
    expect(one?.key).toMatch(/^payload\|xrpl:0\|/)
    expect(other?.key).toBe(one?.key)
    expect(other?.fingerprint).not.toBe(one?.fingerprint)
  })

  it('is refused with duplicate fields at any depth', async () => {
    expect(await refusal(of({ tx: [{ a: 1, A: 2 }] }), requirements({ network: 'xrpl:0' }))).toContain(
      'duplicate fields: "A"',
    )
  })

  it('may have more fields than payments that are known', async () => {
    const many = Object.fromEntries(Array.from({ length: 200 }, (_, index) => [index, 1]))
    expect(await keyOf(of(many), requirements({ network: 'xrpl:0' }))).toMatch(/^payload\|xrpl:0\|/)
  })
})

describe('a payload that is settled several times on purpose', () => {
  const batch = requirements({ scheme: 'batch-settlement' })

  it.each([
    ['a claim from channels', of({ type: 'claim', claims: [] }), batch],
    ['a payout of claims', of({ type: 'settle', receiver: payer, token: batch.asset }), batch],
    ['a refund of a channel', of({ type: 'refund', channelConfig: {}, voucher: {} }), batch],
    ['an escrow', payload(), requirements({ extra: { paymentFlow: 'escrow' } })],
    ['upto on Solana', of({ transaction: 'x' }), requirements({ scheme: 'upto', network: solana })],
  ])('has no key: %s', async (_, content, terms) => {
    expect(await identity(content, terms)).toBeUndefined()
  })

  it('is not what some facilitators read as another one', async () => {
    expect(await refusal(of({ type: 'settle', Type: 'deposit' }), batch)).toContain('duplicate fields')
  })
})

describe('an authorization for another contract than the token', () => {
  const gateway = '0x0077777d7EBA4688BDeF3E311b846F25870A19B9'
  const { asset, extra } = requirements()
  const forContract = (more: object) => requirements({ extra: { ...extra, ...more } })

  it.each([
    ['by Circle’s Gateway', payload(), { name: 'GatewayWalletBatched', verifyingContract: gateway }],
    ['by a method that nobody knows', payload(), { assetTransferMethod: 'erc7710' }],
    ['by another method than was required', payload(), { assetTransferMethod: 'permit2' }],
    ['by EIP-3009 where Permit2 is presented', permit2({}), { assetTransferMethod: 'eip3009' }],
    ['whose contract is no text', payload(), { verifyingContract: 7 }],
  ])('is not looked up on the chain, and keeps its key: %s', async (_, content, more) => {
    const plain = await identity(content)
    const other = await identity(content, forContract(more))
    expect(plain?.query.method).toBe(
      content.payload.permit2Authorization === undefined ? 'eip3009' : 'permit2',
    )
    expect(other?.query.method).toBe('payload')
    expect(other?.key).toBe(plain?.key)
  })

  it.each([
    ['the contract is the token', payload(), { verifyingContract: asset.toLowerCase() }],
    ['the method is the one presented', payload(), { assetTransferMethod: 'eip3009' }],
    ['Permit2 is required and presented', permit2({}), { assetTransferMethod: 'permit2' }],
    ['nothing is said of them', payload(), { assetTransferMethod: null, verifyingContract: undefined }],
  ])('is none where %s', async (_, content, more) => {
    const method = content.payload.permit2Authorization === undefined ? 'eip3009' : 'permit2'
    expect((await identity(content, forContract(more)))?.query.method).toBe(method)
  })

  it('is so by the requirements of the seller, whatever the buyer says that he accepted', async () => {
    const claimed = { ...payload(), accepted: forContract({ verifyingContract: gateway }) }
    expect((await identity(claimed))?.query.method).toBe('eip3009')
  })
})

describe('two spellings of one authorization have one key or are refused, and two authorizations never share one', () => {
  const byte = fc.integer({ min: 0, max: 255 }).map(value => value.toString(16).padStart(2, '0'))
  const bytes = (count: number) =>
    fc.array(byte, { minLength: count, maxLength: count }).map(all => all.join(''))
  /** As TypeScript or Go may read hexadecimal alike. */
  const hexSpelling = (digits: string) =>
    fc
      .tuple(fc.constantFrom('0x', '0x', '', '0X', ' 0x'), fc.infiniteStream(fc.boolean()))
      .map(
        ([prefix, upper]) =>
          prefix + [...digits].map(one => (upper.next().value ? one.toUpperCase() : one)).join(''),
      )
  const numberSpelling = (value: bigint) =>
    fc.constantFrom<unknown>(
      `${value}`,
      `0${value}`,
      `0x${value.toString(16)}`,
      `0X${value.toString(16).toUpperCase()}`,
      ` ${value}`,
      `0b${value.toString(2)}`,
      `${value + 2n ** 256n}`,
      `${value - 2n ** 256n}`,
      Number(value),
    )
  /** As Go's JSON reads names. */
  const nameSpelling = (name: string) =>
    fc.constantFrom(
      ...Array<string>(16).fill(name),
      name.toUpperCase(),
      name[0]?.toUpperCase() + name.slice(1),
      name.replace('s', 'ſ'),
      name.replace('k', '\u212a'),
    )
  const spelled = (record: Record<string, fc.Arbitrary<unknown>>) =>
    fc
      .tuple(
        fc.record(record),
        fc.tuple(...Object.keys(record).map(nameSpelling)),
        fc.shuffledSubarray(Object.keys(record), { minLength: Object.keys(record).length }),
      )
      .map(([values, names, order]) => {
        const spelling = new Map(Object.keys(record).map((name, index) => [name, names[index] ?? name]))
        return Object.fromEntries(order.map(name => [spelling.get(name) ?? name, values[name]]))
      })
  const wrapped = (name: string, inner: fc.Arbitrary<unknown>) =>
    spelled({ signature: fc.constant(signature), [name]: inner })

  /** What may be spent once, and a way to write it. */
  interface Spelling {
    readonly truth: string
    readonly content: object
  }
  const eip3009Spelling: fc.Arbitrary<Spelling> = fc
    .tuple(fc.constantFrom('11', '22'), fc.constantFrom('aa', 'bb'), bytes(1))
    .chain(([from, nonce, end]) =>
      wrapped(
        'authorization',
        spelled({
          from: hexSpelling(from.repeat(20)),
          to: fc.constant(payer),
          value: fc.constant('1'),
          validBefore: fc.constant(`4${Number.parseInt(end, 16)}`),
          nonce: hexSpelling(nonce.repeat(32)),
        }),
      ).map(content => ({ truth: `eip3009 ${from} ${nonce}`, content })),
    )
  const permit2Spelling: fc.Arbitrary<Spelling> = fc
    .tuple(fc.constantFrom('11', '22'), fc.constantFrom(5n, 6n, 2n ** 60n))
    .chain(([from, nonce]) =>
      wrapped(
        'permit2Authorization',
        spelled({
          from: hexSpelling(from.repeat(20)),
          nonce: numberSpelling(nonce),
          deadline: fc.constant('4000000000'),
        }),
      ).map(content => ({ truth: `permit2 ${from} ${nonce}`, content })),
    )
  const spelling = fc.oneof(eip3009Spelling, permit2Spelling)

  it('in all that were drawn', async () => {
    const keys = new Map<string, string>()
    const truths = new Map<string, string>()
    await fc.assert(
      fc.asyncProperty(spelling, async ({ truth, content }) => {
        const terms = requirements()
        let found: string | undefined
        try {
          found = await keyOf(of(content), terms)
        } catch (error) {
          expect(error).toBeInstanceOf(InvalidPaymentError)
          return
        }
        // An unknown payload would be one key for each spelling.
        expect(found).toMatch(/^(eip3009|permit2)\|/)
        expect(found).toBe(keys.get(truth) ?? found)
        expect(truth).toBe(truths.get(found ?? '') ?? truth)
        keys.set(truth, found ?? '')
        truths.set(found ?? '', truth)
      }),
      { numRuns: 1_500 },
    )
    expect(keys.size).toBe(10)
  }, 30_000)
})
