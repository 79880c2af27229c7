/**
 * JSON as a hostile writer puts it: a document is a tree that may hold equal names, names of prototypes and texts that
 * are no JSON at all, and is changed at any depth.
 */
import fc from 'fast-check'

/** `text` is written as it stands. */
export type Json =
  | { readonly text: string }
  | { readonly items: readonly Json[] }
  | { readonly fields: readonly (readonly [name: string, value: Json])[] }

export function jsonOf(value: unknown): Json {
  if (Array.isArray(value)) return { items: value.map(jsonOf) }
  if (typeof value !== 'object' || value === null) return { text: JSON.stringify(value) ?? 'null' }
  return { fields: Object.entries(value).map(([name, inner]) => [name, jsonOf(inner)] as const) }
}

export function write(json: Json): string {
  if ('text' in json) return json.text
  if ('items' in json) return `[${json.items.map(write).join(',')}]`
  return `{${json.fields.map(([name, value]) => `${JSON.stringify(name)}:${write(value)}`).join(',')}}`
}

const text = (value: unknown): Json => ({ text: JSON.stringify(value) })

/** Any text: half of a pair of surrogates, control characters and letters of every size among it. */
export const anyText = fc.string({
  unit: fc.oneof(
    fc.integer({ min: 32, max: 126 }).map(code => String.fromCharCode(code)),
    fc.integer({ min: 0, max: 0xffff }).map(code => String.fromCharCode(code)),
    fc.integer({ min: 0x10000, max: 0x10ffff }).map(code => String.fromCodePoint(code)),
  ),
  maxLength: 20,
})

/** Values that a reader may stumble over. */
export const junk: fc.Arbitrary<Json> = fc.oneof(
  fc
    .constantFrom(
      ...['1e999', '-1e999', '-0', '1E+2', '1.5', '9007199254740993', '-1', '0', '1', '2', '3'],
      ...[
        'true',
        'false',
        'null',
        '{}',
        '[]',
        '""',
        '[[]]',
        '{"":null}',
        '"\\u0000"',
        '"\\ud800"',
        '"\\udc00x"',
      ],
      ...[
        '"__proto__"',
        '"constructor"',
        '"toString"',
        '"exact"',
        '"upto"',
        '"batch-settlement"',
        '"eip155:1"',
      ],
      ...[
        '"solana:x"',
        '"base"',
        '"\\r\\nset-cookie: a=b"',
        '"\\u001b[31m"',
        '"\\u202e"',
        '"ſ"',
        '"K"',
        '"0x"',
      ],
      ...['"0X0"', '"1e3"', '" 1"', '"1 "', '"+1"', '"-1"', '"٣"', '"NaN"', '"Infinity"'],
      // These are no JSON.
      ...['NaN', 'undefined', "'a'", '{', ']', '', '01', '+1', '"\u0000"', '/**/1', '{"a":1,}', '\ufeff1'],
    )
    .map(value => ({ text: value })),
  fc.integer().map(text),
  fc.double().map(text),
  fc.bigInt({ min: -(2n ** 300n), max: 2n ** 300n }).map(value => ({ text: `${value}` })),
  fc.bigInt({ min: 0n, max: 2n ** 300n }).map(value => text(`${value}`)),
  anyText.map(text),
  fc.integer({ min: 0, max: 64 }).map(bytes => text(`0x${'ab'.repeat(bytes)}`)),
  fc
    .tuple(fc.constantFrom('a', '0', ' ', '\\', 'é', '=', '0x', '.'), fc.integer({ min: 0, max: 5_000 }))
    .map(([unit, times]) => text(unit.repeat(times))),
  fc.tuple(fc.constantFrom('[]', '{}'), fc.integer({ min: 1, max: 4_000 })).map(([kind, depth]) => ({
    text:
      kind === '[]' ? '['.repeat(depth) + ']'.repeat(depth) : `${'{"a":'.repeat(depth)}1${'}'.repeat(depth)}`,
  })),
  fc.jsonValue({ maxDepth: 3 }).map(jsonOf),
)

const names = fc.oneof(
  fc.constantFrom(
    ...['__proto__', 'constructor', 'prototype', 'toString', 'toJSON', 'valueOf', 'then', 'hasOwnProperty'],
    ...['', ' ', '0', 'length', 'nonce', 'Nonce', 'from', 'FROM', 'authorization', 'permit2Authorization'],
    ...[
      'payload',
      'scheme',
      'network',
      'success',
      'isValid',
      'transaction',
      'feePayer',
      'facilitatorAddress',
    ],
    ...['paymentFlow', 'assetTransferMethod', 'verifyingContract', 'extensions', 'extra', '\u0000', '\ud800'],
  ),
  anyText,
  fc.integer({ min: 1, max: 3_000 }).map(length => 'n'.repeat(length)),
)

/** The same name to a reader that does not look closely: another case, the long s, the Kelvin sign. */
const spellings: readonly ((name: string) => string)[] = [
  name => name,
  name => name.toUpperCase(),
  name => name.charAt(0).toUpperCase() + name.slice(1),
  name => name.replace('s', 'ſ').replace('k', '\u212a'),
  name => `${name} `,
]

export type Mutation = { readonly at: number } & (
  | { readonly kind: 'replace'; readonly by: Json }
  | { readonly kind: 'remove' }
  | { readonly kind: 'wrap'; readonly name: string | undefined }
  | { readonly kind: 'add'; readonly name: string; readonly by: Json }
  | {
      readonly kind: 'repeat'
      readonly spelling: number
      readonly by: Json | undefined
      readonly first: boolean
    }
)

const at = fc.nat({ max: 200 })
export const mutation: fc.Arbitrary<Mutation> = fc.oneof(
  { weight: 4, arbitrary: fc.record({ kind: fc.constant('replace' as const), at, by: junk }) },
  fc.record({ kind: fc.constant('remove' as const), at }),
  fc.record({ kind: fc.constant('wrap' as const), at, name: fc.option(names, { nil: undefined }) }),
  fc.record({ kind: fc.constant('add' as const), at, name: names, by: junk }),
  fc.record({
    kind: fc.constant('repeat' as const),
    at,
    spelling: fc.nat({ max: spellings.length - 1 }),
    by: fc.option(junk, { nil: undefined }),
    first: fc.boolean(),
  }),
)

/** The document with one node changed: the `at`-th of all, counted round and round. */
export function mutate(document: Json, change: Mutation): Json {
  let left = change.at % count(document)
  const visit = (json: Json): Json | undefined => {
    if (left-- === 0) return apply(json, change)
    if ('items' in json) return { items: json.items.flatMap(item => visit(item) ?? []) }
    if (!('fields' in json)) return json
    return {
      fields: json.fields.flatMap(([name, value]) => {
        const isHit = left === 0
        const changed = visit(value)
        if (changed === undefined) return []
        if (!isHit || change.kind !== 'repeat') return [[name, changed] as const]
        const twin = [spellings[change.spelling]?.(name) ?? name, change.by ?? value] as const
        return change.first ? [twin, [name, value] as const] : [[name, value] as const, twin]
      }),
    }
  }
  return visit(document) ?? { text: '' }
}

function count(json: Json): number {
  const inner = 'items' in json ? json.items : 'fields' in json ? json.fields.map(([, value]) => value) : []
  return inner.reduce((sum, one) => sum + count(one), 1)
}

function apply(json: Json, change: Mutation): Json | undefined {
  switch (change.kind) {
    case 'replace':
      return change.by
    case 'remove':
      return undefined
    case 'wrap':
      return change.name === undefined ? { items: [json] } : { fields: [[change.name, json]] }
    case 'add':
      return 'fields' in json ? { fields: [...json.fields, [change.name, change.by]] } : change.by
    case 'repeat':
      return json
  }
}

/** What happens to a text on its way. */
export type Spoiling =
  | { readonly kind: 'none' }
  | { readonly kind: 'cut'; readonly at: number }
  | { readonly kind: 'insert'; readonly at: number; readonly bytes: Uint8Array }
  | { readonly kind: 'encode'; readonly as: 'utf16le' | 'latin1' | 'bom' }
  | { readonly kind: 'bytes'; readonly bytes: Uint8Array }

const someBytes = fc.uint8Array({ maxLength: 40 })
export const spoiling: fc.Arbitrary<Spoiling> = fc.oneof(
  { weight: 12, arbitrary: fc.constant({ kind: 'none' as const }) },
  fc.record({ kind: fc.constant('cut' as const), at: fc.nat({ max: 2_000 }) }),
  fc.record({ kind: fc.constant('insert' as const), at: fc.nat({ max: 2_000 }), bytes: someBytes }),
  fc.record({
    kind: fc.constant('encode' as const),
    as: fc.constantFrom('utf16le' as const, 'latin1' as const, 'bom' as const),
  }),
  fc.record({ kind: fc.constant('bytes' as const), bytes: someBytes }),
)

export function spoil(written: string, how: Spoiling): Uint8Array<ArrayBuffer> {
  const plain = Buffer.from(written)
  switch (how.kind) {
    case 'none':
      return new Uint8Array(plain)
    case 'cut':
      return new Uint8Array(plain.subarray(0, how.at % (plain.length + 1)))
    case 'insert': {
      const index = how.at % (plain.length + 1)
      return new Uint8Array(Buffer.concat([plain.subarray(0, index), how.bytes, plain.subarray(index)]))
    }
    case 'encode':
      return new Uint8Array(how.as === 'bom' ? Buffer.from(`\ufeff${written}`) : Buffer.from(written, how.as))
    case 'bytes':
      return new Uint8Array(how.bytes)
  }
}
