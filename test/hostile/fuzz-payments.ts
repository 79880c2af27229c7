/** Payments of every kind that the library knows, each with an identity of its own, to be mutated. */
import fc from 'fast-check'
import { svmTransaction } from '../unit/builders.ts'
import { type Json, jsonOf, type Mutation, mutate, mutation, write } from './fuzz-json.ts'

const kinds = [
  'exact',
  'exact v1',
  'permit2',
  'upto',
  'svm',
  'svm upto',
  'batch',
  'batch claim',
  'escrow',
  'unknown scheme',
] as const
type PaymentKind = (typeof kinds)[number]

/** `nonce` is told apart within one case only: see `identityOf`. */
export interface MutatedPayment {
  readonly kind: PaymentKind
  readonly nonce: number
  readonly mutations: readonly Mutation[]
}

export const mutatedPayment: fc.Arbitrary<MutatedPayment> = fc.record({
  kind: fc.constantFrom(...kinds),
  nonce: fc.nat({ max: 2 }),
  mutations: fc.oneof(
    { weight: 1, arbitrary: fc.constant([]) },
    { weight: 5, arbitrary: fc.array(mutation, { minLength: 1, maxLength: 4 }) },
  ),
})

export const evmNetwork = 'eip155:84532'
export const svmNetwork = 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp'
const token = '0x036CbD53842c5426634e7929541eC2318f3dCF7e'
const payTo = '0x2222222222222222222222222222222222222222'
export const payer = '0x1111111111111111111111111111111111111111'

/** Nothing else in a payment is secret; 65 bytes, as no hash has. */
export const signature = `0x${'5ec2e7'.repeat(21)}0011`

/** What the gateway and the facilitators support. */
export const supportedKinds = [
  ...['exact', 'upto', 'batch-settlement', 'escrow', 'newest'].flatMap(scheme => [
    { x402Version: 2, scheme, network: evmNetwork },
    { x402Version: 2, scheme, network: svmNetwork },
  ]),
  { x402Version: 1, scheme: 'exact', network: 'base-sepolia' },
]

/** The request's body. @param space tells the payments of one case from those of all others */
export function bodyOf({ kind, nonce, mutations }: MutatedPayment, space: number): string {
  return write(mutations.reduce<Json>(mutate, jsonOf(plainBody(kind, space * 16 + nonce))))
}

export interface PlainPayment {
  readonly paymentPayload: Record<string, unknown> & { payload: Record<string, unknown> }
  readonly paymentRequirements: Record<string, unknown>
}

export function plainBody(kind: PaymentKind, identity: number): PlainPayment & { x402Version: number } {
  const isSvm = kind.startsWith('svm')
  const x402Version = kind === 'exact v1' ? 1 : 2
  const common = { asset: token, payTo, maxTimeoutSeconds: 60, extra: { name: 'USDC', version: '2' } }
  const paymentRequirements =
    x402Version === 1
      ? {
          ...{ scheme: 'exact', network: 'base-sepolia', maxAmountRequired: '10000', mimeType: 'text/plain' },
          ...{ resource: 'https://shop.example/goods', description: 'goods', outputSchema: {}, ...common },
        }
      : {
          ...{ scheme: schemeOf(kind), network: isSvm ? svmNetwork : evmNetwork, amount: '10000', ...common },
          extra: kind === 'escrow' ? { paymentFlow: 'escrow' } : common.extra,
        }
  const { scheme, network } = paymentRequirements
  const paymentPayload = {
    x402Version,
    ...(x402Version === 1 ? { scheme, network } : { accepted: paymentRequirements }),
    payload: contentOf(kind, identity),
  }
  return { x402Version, paymentPayload, paymentRequirements }
}

function schemeOf(kind: PaymentKind): string {
  if (kind.startsWith('batch')) return 'batch-settlement'
  if (kind === 'upto' || kind === 'svm upto') return 'upto'
  if (kind === 'unknown scheme') return 'newest'
  return kind === 'escrow' ? 'escrow' : 'exact'
}

/** Its authorization has run out, so that the ledger may forget it: what is fuzzed does not read the clock. */
const longOver = '1000'

function contentOf(kind: PaymentKind, identity: number): Record<string, unknown> {
  const nonce = `0x${identity.toString(16).padStart(64, '0')}`
  switch (kind) {
    case 'exact':
    case 'exact v1':
    case 'escrow':
      return {
        signature,
        authorization: {
          from: payer,
          to: payTo,
          value: '10000',
          validAfter: '0',
          validBefore: longOver,
          nonce,
        },
      }
    case 'permit2':
    case 'upto':
      return {
        signature,
        permit2Authorization: {
          permitted: { token, amount: '10000' },
          ...{
            from: payer,
            spender: payTo,
            nonce: `${identity}`,
            deadline: longOver,
            witness: { to: payTo },
          },
        },
      }
    case 'svm':
    case 'svm upto': {
      const bytes = svmTransaction(9, 1)
      // Somewhere in the blockhash.
      bytes.splice(140, 4, ...[24, 16, 8, 0].map(shift => (identity >>> shift) & 255))
      return { transaction: Buffer.from(bytes).toString('base64') }
    }
    case 'batch':
      return { type: 'deposit', channel: { id: nonce, balance: '10000' }, signature }
    case 'batch claim':
      return { type: 'claim', claims: [{ channelId: nonce, amount: '1' }] }
    case 'unknown scheme':
      return { proof: nonce, parts: [1, { two: [3] }] }
  }
}

/**
 * Whose money it is, by the letter and by readers that do not look closely: every reading of an EIP-3009 authorization.
 * Written apart from the library's own.
 */
export function identitiesOf(body: unknown): string[] {
  const [payload] = read(body, 'paymentPayload')
  const [requirements] = read(body, 'paymentRequirements')
  const [asset, scheme, network] = ['asset', 'scheme', 'network'].map(name => read(requirements, name)[0])
  if (scheme !== 'exact' || !['base-sepolia', evmNetwork].includes(`${network}`)) return []
  // In other flows one payload is settled several times on purpose.
  const [flow] = read(read(requirements, 'extra')[0], 'paymentFlow')
  if (![undefined, null, 'authorization', 'upfront'].includes(flow as string)) return []
  const authorizations = read(payload, 'payload').flatMap(content => read(content, 'authorization'))
  return authorizations.flatMap(authorization =>
    read(authorization, 'from').flatMap(from =>
      read(authorization, 'nonce').map(nonce => `${number(asset)} ${number(from)} ${number(nonce)}`),
    ),
  )
}

/** The values under a name, the exact one first. */
function read(record: unknown, name: string): unknown[] {
  if (typeof record !== 'object' || record === null || Array.isArray(record)) return []
  const entries = Object.entries(record)
  return [
    ...entries.filter(([other]) => other === name),
    ...entries.filter(([other]) => other !== name && other.toLowerCase() === name.toLowerCase()),
  ].map(([, value]) => value)
}

function number(hexadecimal: unknown): string {
  return /^(0x)?[\da-f]+$/i.test(`${hexadecimal}`)
    ? `${BigInt(`0x${`${hexadecimal}`.replace(/^0x/i, '')}`)}`
    : '?'
}
