import { describe, expect, it } from 'vitest'
import { type ClaimRequest, MemoryLedger, type SettlementQuery } from '../../src/index.ts'
import { sharedLedger } from '../../src/ledger/index.ts'
import { readPayment } from '../../src/payment/payment.ts'
import { identify } from '../../src/payment/payment-key.ts'
import { settlementLedgerConformance } from '../../src/testing/index.ts'
import { untyped } from '../untyped.ts'
import {
  network,
  newSvmPayload,
  payer,
  payload,
  payloadV1,
  requirements,
  requirementsV1,
  svmTransaction,
} from './builders.ts'

describe('the ledger in memory', () => {
  for (const { name, run } of settlementLedgerConformance(() => new MemoryLedger())) it(name, run)
})

describe('a ledger that finds what is undelivered', () => {
  for (const { name, run } of settlementLedgerConformance(() => sharedLedger(new MemoryLedger())))
    it(name, run)
})

describe('the conformance suite finds a ledger', () => {
  const failing = async (ledger: () => MemoryLedger) => {
    const names: string[] = []
    for (const { name, run } of settlementLedgerConformance(ledger)) await run().catch(() => names.push(name))
    return names
  }

  it('that is not atomic', async () => {
    class Slow extends MemoryLedger {
      override async claim(request: ClaimRequest) {
        const known = await this.get(request.key)
        await new Promise(resolve => setTimeout(resolve, 1))
        return known === undefined
          ? ({ kind: 'claimed', before: undefined, since: Date.now(), query: request.query } as const)
          : super.claim(request)
      }
    }
    expect(await failing(() => new Slow())).toContain('grants one of many claims at the same time')
  }, 30_000)

  it('that finds what was delivered', async () => {
    class Generous extends MemoryLedger {
      override async undelivered({ payer }: SettlementQuery) {
        const { entries } = await this.list({ limit: 100 })
        return entries.filter(({ query }) => query.payer === payer)
      }
    }
    expect(await failing(() => new Generous())).toContain('finds by payer what is undelivered, if it can')
  })

  it('that believes anybody', async () => {
    class Gullible extends MemoryLedger {
      override async update() {
        return true
      }
    }
    expect(await failing(() => new Gullible())).toContain(
      'stores no update of a claim that is not the holder',
    )
  }, 30_000)
})

describe('the identity of a payment', () => {
  const keyOf = async (...[content, terms]: [unknown, unknown]) =>
    identify(readPayment(untyped(content), untyped(terms)))
  const eip3009 = (overrides: object = {}) => {
    const inner = payload().payload
    return payload({
      payload: { ...inner, authorization: { ...(inner.authorization as object), ...overrides } },
    })
  }
  const permit2 = (nonce: unknown) =>
    payload({ payload: { signature: '0x', permit2Authorization: { from: payer, nonce, deadline: '99' } } })
  const solana = 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1' as const
  const svm = (signature: number, blockhash: number) => newSvmPayload(svmTransaction(signature, blockhash))

  it('is the same whatever the protocol version, the case of addresses and the order of keys', async () => {
    const version2 = await keyOf(payload(), requirements())
    const version1 = await keyOf(payloadV1(), requirementsV1())
    const shouting = await keyOf(
      eip3009({ from: payer.toUpperCase().replace('0X', '0x') }),
      requirements({ asset: requirements().asset.toLowerCase() }),
    )
    const reversed = JSON.parse(JSON.stringify(payload()), (_key, value) =>
      value && typeof value === 'object' && !Array.isArray(value)
        ? Object.fromEntries(Object.entries(value).reverse())
        : value,
    )
    expect(version2?.key).toMatch(/^eip3009\|eip155:84532\|0x/)
    expect(
      new Set([version2, version1, shouting, await keyOf(reversed, requirements())].map(one => one?.key))
        .size,
    ).toBe(1)
    expect(version1?.fingerprint).toBe(version2?.fingerprint)
    expect(version1?.query).toMatchObject({ amount: '10000', network: 'eip155:84532' })
  })

  const token = requirements().asset.toLowerCase()
  const nonce = '01'.repeat(32)
  const other = `0x${'33'.repeat(20)}`

  it.each([
    ['nothing else', payload(), requirements(), `${network}|${token}|${payer}|0x${nonce}`],
    [
      'another nonce',
      eip3009({ nonce: `0x${'02'.repeat(32)}` }),
      requirements(),
      `${network}|${token}|${payer}|0x${'02'.repeat(32)}`,
    ],
    ['another payer', eip3009({ from: other }), requirements(), `${network}|${token}|${other}|0x${nonce}`],
    ['another token', payload(), requirements({ asset: other }), `${network}|${other}|${payer}|0x${nonce}`],
    [
      'another network',
      payload(),
      requirements({ network: 'eip155:1' }),
      `eip155:1|${token}|${payer}|0x${nonce}`,
    ],
  ])('by EIP-3009 is network, token, payer and nonce: with %s', async (_, content, terms, key) => {
    expect((await keyOf(content, terms))?.key).toBe(`eip3009|${key}`)
  })

  it('by Permit2 is owner and nonce, however the nonce is written', async () => {
    const keys = await Promise.all(['255', '0xff', 255].map(nonce => keyOf(permit2(nonce), requirements())))
    expect(new Set(keys.map(one => one?.key))).toEqual(new Set([`permit2|eip155:84532||${payer}|255`]))
    expect((await keyOf(permit2('7'), requirements({ scheme: 'upto' })))?.query.method).toBe('permit2')
  })

  it('by EIP-3009 is the same however its bytes are spelled', async () => {
    const { nonce, from } = payload().payload.authorization as { nonce: string; from: string }
    const spellings = [
      {},
      { nonce: nonce.slice(2) },
      { nonce: nonce.toUpperCase().replace('X', 'x') },
      { from: from.slice(2) },
    ]
    const keys = await Promise.all(spellings.map(spelling => keyOf(eip3009(spelling), requirements())))
    expect(new Set(keys.map(one => one?.key))).toEqual(
      new Set([`eip3009|${network}|${token}|${payer}|0x${'01'.repeat(32)}`]),
    )
  })

  it.each([
    ['a nonce that is missing', eip3009({ nonce: undefined }), 'authorization.nonce: expected 32 bytes'],
    ['a nonce that is too short', eip3009({ nonce: '0x01' }), 'authorization.nonce: expected 32 bytes'],
    ['a payer that is none', eip3009({ from: 'me' }), 'authorization.from: expected 20 bytes'],
    [
      'a Permit2 nonce that is no number',
      permit2('seven'),
      'permit2Authorization.nonce: expected a whole number',
    ],
    [
      'two authorizations, of which facilitators may take either',
      payload({ payload: { ...payload().payload, ...permit2('7').payload } }),
      'has both authorization and permit2Authorization',
    ],
  ])('is not guessed: %s is refused', async (_, content, message) => {
    await expect(keyOf(content, requirements())).rejects.toThrow(message)
  })

  it('on Solana is the message, whoever has signed it by now', async () => {
    const terms = requirements({ network: solana })
    const [unsigned, signed, other] = await Promise.all(
      [svm(0, 7), svm(9, 7), svm(0, 8)].map(one => keyOf(one, terms)),
    )
    expect(unsigned?.key).toMatch(/^svm\|solana:/)
    expect(signed?.key).toBe(unsigned?.key)
    expect(other?.key).toMatch(/^svm\|solana:/)
    expect(other?.key).not.toBe(unsigned?.key)
  })

  it('on Solana is that of a long message too, with its lookups', async () => {
    const lookups = [1, ...Array(32).fill(3), 1, 4, 2, 5, 6]
    const data = [0x80, 0x02, ...Array(256).fill(8)]
    const long = [0x80, 1, 0, 0, 1, ...Array(64).fill(5), 1, 0, 1, 0, ...data, ...lookups]
    const huge = [0x80, 0x80, 0x01, ...Array(16_384).fill(8)]
    const legacy = [1, 0, 1, 2, ...Array(64).fill(5), ...Array(32).fill(7), 1, 1, 1, 0, ...huge]
    const whole = newSvmPayload([1, ...Array(64).fill(9), ...legacy])
    expect((await keyOf(whole, requirements({ network: solana })))?.key).toMatch(/^svm\|solana:/)
    const { key } = (await keyOf(
      newSvmPayload([1, ...Array(64).fill(9), ...long]),
      requirements({ network: solana }),
    )) ?? { key: '' }
    expect(key).toMatch(/^svm\|solana:.*[0-9a-f]{64}$/)
  })

  const bytes = svmTransaction(9, 7)
  it.each([
    ['without a transaction', payload()],
    ['with bytes behind it', newSvmPayload([...bytes, 0])],
    ['cut off', newSvmPayload(bytes.slice(0, -1))],
    ['without signatures', newSvmPayload([0, ...bytes.slice(65)])],
    ['whose counts are spelled longer than need be', newSvmPayload([0x81, 0, ...bytes.slice(1)])],
    [
      'whose counts are spelled in three bytes where one would do',
      newSvmPayload([0x81, 0x80, 0, ...bytes.slice(1)]),
    ],
    [
      'with a count that is too large',
      newSvmPayload([...bytes.slice(0, -3), 0x82, 0x80, 0x04, ...Array(65_538).fill(7)]),
    ],
    ['of an unknown version', newSvmPayload([...bytes.slice(0, 65), 0x81, ...bytes.slice(65), 0])],
    [
      'in base64 of another alphabet',
      payload({
        payload: {
          transaction: Buffer.from([
            ...bytes.slice(0, 1),
            ...Array(64).fill(251),
            ...bytes.slice(65),
          ]).toString('base64url'),
        },
      }),
    ],
    [
      'in base64 with a blank',
      payload({ payload: { transaction: ` ${Buffer.from(bytes).toString('base64')}` } }),
    ],
  ])('is refused on Solana %s: it could have several', async (_, content) => {
    await expect(keyOf(content, requirements({ network: solana }))).rejects.toThrow(
      'paymentPayload.payload.transaction: expected a Solana transaction in base64',
    )
  })

  const { authorization } = payload().payload as { authorization: object }
  it.each([
    [
      'two authorizations',
      payload({ payload: { ...payload().payload, Authorization: authorization } }),
      network,
    ],
    ['two nonces', eip3009({ Nonce: '0x02' }), network],
    [
      'two nonces of Permit2',
      payload({ payload: { permit2Authorization: { nonce: '1', NONCE: '2' } } }),
      network,
    ],
    ['two payloads', { ...payload(), Payload: payload().payload }, network],
    ['two transactions', payload({ payload: { ...newSvmPayload().payload, Transaction: 'x' } }), solana],
    [
      'a transaction with a long s',
      payload({ payload: { ...newSvmPayload().payload, tranſaction: 'x' } }),
      solana,
    ],
  ])('is refused with %s that differ in case: facilitators read either', async (_, content, chain) => {
    const terms = requirements({ network: chain as typeof network })
    await expect(keyOf(content, terms)).rejects.toThrow('duplicate fields')
  })

  it('is refused with more fields than any payment has', async () => {
    const many = Object.fromEntries(Array.from({ length: 65 }, (_, index) => [`field${index}`, 1]))
    await expect(keyOf(eip3009(many), requirements())).rejects.toThrow(
      'paymentPayload.payload.authorization: has more than 64 fields',
    )
  })

  it('is none in an escrow, whose two phases share a payload', async () => {
    expect(await keyOf(payload(), requirements({ extra: { paymentFlow: 'escrow' } }))).toBeUndefined()
  })
})
