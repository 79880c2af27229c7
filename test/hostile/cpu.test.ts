/**
 * What buyers and facilitators send costs little more than its own parsing, at any size that is accepted. Ratios of
 * medians in one run, generous for a loaded machine: what is quadratic, or worse, exceeds them many times.
 */
import { describe, expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../src/index.ts'
import {
  FakeFacilitator,
  kind,
  newSvmPayload,
  payload,
  requirements,
  settled,
  supporting,
  valid,
} from '../unit/builders.ts'
import { medianMs } from './measure.ts'

const kiB = 1024
/** The longest request that the gateway takes, and the longest answer of a facilitator that is read. */
const longestRequest = 250 * kiB
const longestAnswer = 1000 * kiB
/** Of the shapes in the parts of GET /supported. */
const longestPart = 100 * kiB

/** As many of these as fit. */
const fill = (length: number, item: (index: number) => string) => {
  const items: string[] = []
  for (let size = 0, index = 0; size < length; index++)
    size += items[items.push(item(index)) - 1]?.length ?? 0
  return items
}
const times = (length: number, text: string) => text.repeat(length / text.length)

/** JSON of this length, in shapes that some code likes less than others. */
const shapes: Record<string, (length: number) => string> = {
  'many fields': length => `{${fill(length, index => `"a${index}":1`)}}`,
  'many fields that differ in their last letter': length =>
    `{${fill(length, index => `"${'n'.repeat(40)}${index}":0`)}}`,
  'many small objects': length => `[${fill(length, () => '{"a":1}')}]`,
  'many empty objects': length => `[${fill(length, () => '{}')}]`,
  'many objects in fields': length => `{${fill(length, index => `"${index}":{}`)}}`,
  'many numbers': length => `[${fill(length, () => '0')}]`,
  'many short texts': length => `[${fill(length, () => '""')}]`,
  'one long text': length => `"${times(length, 'a')}"`,
  'one long text of quotes': length => `"${times(length, '\\"')}"`,
  'one long text of control characters': length => `"${times(length, '\\u001b')}"`,
  'one long name': length => `{"${times(length, 'a')}":1}`,
  'objects in objects': length => `${times(length / 2, '{"a":')}1${times(length / 10, '}')}`,
  'lists in lists': length => `${times(length / 2, '[')}${times(length / 2, ']')}`,
}

const headers = { 'content-type': 'application/json' }

/** Facilitators over HTTP that answer at once. */
function shop(answers: Record<string, string>): FacilitatorAggregator {
  const answer = async (input: unknown) => {
    const operation = new URL(String(input)).pathname.slice(1)
    return new Response(answers[operation] ?? '{}', { headers })
  }
  return new FacilitatorAggregator({
    facilitators: [
      { id: 'a', url: 'http://a.example', fetch: answer },
      { id: 'b', client: new FakeFacilitator() },
      { id: 'c', client: new FakeFacilitator() },
    ],
    retries: 0,
    healthCheck: false,
    deadlineMs: 60_000,
  })
}

const honest = {
  verify: JSON.stringify(valid),
  settle: JSON.stringify(settled),
  supported: JSON.stringify(supporting()),
}

/**
 * How many parsings of `text` an operation takes that is given what it says. What exceeds `limit` is measured again: other
 * work of the machine is not there each time.
 */
async function ratio(
  text: string,
  limit: number,
  operate: (parsed: object) => Promise<unknown>,
): Promise<number> {
  let least = Number.POSITIVE_INFINITY
  for (let tries = 0; tries < 3 && least > limit; tries++) {
    const parsing = await medianMs(() => JSON.parse(text), 3)
    const work = await medianMs(() => operate(JSON.parse(text)).catch(() => {}), 3)
    least = Math.min(least, work / Math.max(parsing, (await ordinaryMs) * (text.length / longestRequest)))
  }
  return least
}

/** A long text is copied rather than parsed: it counts as a quarter of as many bytes of ordinary JSON. */
const ordinaryText = `[${fill(longestRequest, () => '{"a":1}')}]`
const ordinaryMs = medianMs(() => JSON.parse(ordinaryText)).then(ms => ms / 4)

const withPlace = (whole: object) => JSON.stringify(whole)
const place = 'PLACE'

describe('a buyer', () => {
  const inner = payload().payload
  const solana = { scheme: 'exact', network: 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1' } as const
  const places: Record<string, string> = {
    'beside the authorization': withPlace({
      payload: payload({ payload: { ...inner, place } }),
      terms: requirements(),
    }),
    'as the authorization': withPlace({
      payload: payload({ payload: { authorization: place } }),
      terms: requirements(),
    }),
    'as the signature': withPlace({
      payload: payload({ payload: { ...inner, signature: place } }),
      terms: requirements(),
    }),
    'beside the payload': withPlace({ payload: { ...payload(), place }, terms: requirements() }),
    'in the extensions': withPlace({ payload: { ...payload(), extensions: place }, terms: requirements() }),
    'in what was accepted': withPlace({
      payload: { ...payload(), accepted: { place } },
      terms: requirements(),
    }),
    'in an unknown scheme': withPlace({
      payload: payload({ payload: { place } }),
      terms: requirements({ scheme: 'new' }),
    }),
    'in the requirements': withPlace({
      payload: payload(),
      terms: requirements({ extra: { place } }),
    }),
    'as the extra': withPlace({ payload: payload(), terms: { ...requirements(), extra: place } }),
    'as the network': withPlace({ payload: payload(), terms: { ...requirements(), network: place } }),
    'as the transaction': withPlace({
      payload: newSvmPayload(),
      terms: requirements(solana),
    }).replace(/"transaction":"[^"]*"/, `"transaction":"${place}"`),
  }
  const aggregator = shop(honest)
  for (const [where, whole] of Object.entries(places))
    it(`who puts a quarter of a megabyte ${where} takes no more than some parsings of it`, async () => {
      const slow: string[] = []
      for (const [shape, textOf] of Object.entries(shapes)) {
        const text = whole.replaceAll(`"${place}"`, textOf(longestRequest))
        const took = await ratio(text, 25, parsed => {
          const { payload, terms } = parsed as { payload: never; terms: never }
          return aggregator.verify(payload, terms)
        })
        if (took > 25) slow.push(`${shape}: ${took.toFixed(0)} parsings`)
      }
      expect(slow).toEqual([])
    }, 120_000)
})

describe('a facilitator', () => {
  const texts: Record<string, (length: number) => string> = {
    'of letters': length => times(length, 'a'),
    'of slashes': length => ` ${times(length, '/')}`,
    'of addresses of pages': length => times(length, 'https://a.b/c1'),
    'of one address of a page': length => `https://${times(length, 'a/1/')}`,
    'of keys': length => times(length, '-----BEGIN '),
    'of tokens': length => times(length, 'eyJ-'),
    'of hexadecimal digits': length => times(length, '0x0123456789abcdef'),
    'of questions': length => times(length, '?a='),
    'of names and colons': length => times(length, 'api_key:'),
    'of underscores': length => times(length, '_transaction_failed_'),
    'of bearers': length => times(length, 'Bearer '),
    'of blanks': length => `x${times(length, ' ')}x`,
  }
  const places: Record<string, string> = {
    'an invalidReason': withPlace({ isValid: false, invalidReason: place }),
    'an invalidMessage': withPlace({
      isValid: false,
      invalidReason: 'no_such_reason',
      invalidMessage: place,
    }),
    'an errorReason': withPlace({ success: false, errorReason: place, transaction: '', network: '' }),
    'a transaction': withPlace({ success: true, transaction: place, network: '' }),
  }
  for (const [where, whole] of Object.entries(places))
    it(`whose answer has a megabyte as ${where} takes no more than some parsings of it`, async () => {
      const slow: string[] = []
      for (const [shape, textOf] of Object.entries(texts)) {
        const text = whole.replaceAll(`"${place}"`, JSON.stringify(textOf(longestAnswer)))
        const isVerify = where.startsWith('an invalid')
        const aggregator = shop({ ...honest, [isVerify ? 'verify' : 'settle']: text })
        const took = await ratio(text, 25, () =>
          isVerify
            ? aggregator.verify(payload(), requirements())
            : aggregator.settle({ ...payload(), payload: { ...newAuthorization() } }, requirements()),
        )
        if (took > 25) slow.push(`${shape}: ${took.toFixed(0)} parsings`)
      }
      expect(slow).toEqual([])
    }, 120_000)

  it('whose answer to GET /supported is a megabyte of anything takes no more than some parsings of it', async () => {
    const kinds = fill(longestAnswer, index => JSON.stringify(kind({ network: `eip155:${index}` })))
    const large = fill(longestAnswer, index =>
      JSON.stringify(kind({ network: `eip155:${index}`, extra: { feePayer: 'x'.repeat(1_900) } })),
    )
    const answers: Record<string, string> = {
      kinds: `{"kinds":[${kinds}]}`,
      'large kinds': `{"kinds":[${large}]}`,
      ...Object.fromEntries(
        Object.entries(shapes).flatMap(([shape, textOf]) => [
          [
            `an extra of ${shape}`,
            `{"kinds":[${JSON.stringify(kind()).slice(0, -1)},"extra":{"x":${textOf(longestPart)}}}]}`,
          ],
          [
            `extensions of ${shape}`,
            `{"kinds":[${JSON.stringify(kind())}],"extensions":${textOf(longestPart)}}`,
          ],
          [`signers of ${shape}`, `{"kinds":[${JSON.stringify(kind())}],"signers":${textOf(longestPart)}}`],
        ]),
      ),
    }
    const slow: string[] = []
    for (const [shape, text] of Object.entries(answers)) {
      const aggregator = shop({ ...honest, supported: text })
      const asking = await ratio(text, 40, () => aggregator.checkHealth('a'))
      const cached = await ratio(text, 10, () => aggregator.getSupported())
      if (asking > 40 || cached > 10)
        slow.push(`${shape}: ${asking.toFixed(0)} and ${cached.toFixed(0)} parsings`)
    }
    expect(slow).toEqual([])
  }, 120_000)
})

let nonce = 0
function newAuthorization(): object {
  const inner = payload().payload
  const authorization = {
    ...(inner.authorization as object),
    nonce: `0x${(++nonce).toString(16).padStart(64, '0')}`,
  }
  return { ...inner, authorization }
}
