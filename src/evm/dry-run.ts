/** Whether a chain takes a payment: the call that settles it, made without being sent. */
import { PaymentPayloadSchema } from '@x402/core/schemas'
import {
  type Address,
  BaseError,
  ExecutionRevertedError,
  encodeFunctionData,
  getAddress,
  type Hex,
  isAddressEqual,
  type PublicClient,
  parseAbi,
  parseSignature,
  recoverTypedDataAddress,
} from 'viem'
import { now, setBackgroundTimeout } from '../runtime/clock.ts'
import type { DryRun, SignedPayment } from '../settlement/probe.ts'
import { exactProxy } from './authorization-uses.ts'
import { maxLagSeconds } from './nodes.ts'

/** Milliseconds that are waited for a block made after the facilitator answered, and between two looks for it. */
const freshBlockMs = 3_000
const pauseMs = 400

const abi = parseAbi([
  'function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, uint8 v, bytes32 r, bytes32 s)',
  'function transferWithAuthorization(address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce, bytes signature)',
  'function settle(((address token, uint256 amount) permitted, uint256 nonce, uint256 deadline) permit, address owner, (address to, uint256 validAfter) witness, bytes signature)',
])
const transferTypes = {
  TransferWithAuthorization: [
    { name: 'from', type: 'address' },
    { name: 'to', type: 'address' },
    { name: 'value', type: 'uint256' },
    { name: 'validAfter', type: 'uint256' },
    { name: 'validBefore', type: 'uint256' },
    { name: 'nonce', type: 'bytes32' },
  ],
} as const

/** The call by which a facilitator settles a payment. */
interface Settling {
  readonly to: Address
  readonly data: Hex
  /** Whether the signature is that of the payer's key, as the requirements name the token. */
  readonly isSigned: () => Promise<boolean>
}

/**
 * A facilitator that refuses what the newest block takes may be ahead of our node, or behind it. So it is wrong only if
 * a block older than a lag that is excused takes the payment as well as one that was made after it had answered.
 *
 * @throws {Error} when the node does not answer, or the payment is not in the one form that every facilitator reads
 */
export async function dryRun(
  client: PublicClient,
  payment: SignedPayment,
  signal: AbortSignal,
): Promise<DryRun> {
  const askedAt = Date.now() / 1000
  const { query, payload } = payment
  // What is odd outside of what is signed is refused by some facilitators.
  PaymentPayloadSchema.parse(payload)
  // Facilitators refuse what is about to expire.
  if ((query.validBefore ?? 0) < askedAt + maxLagSeconds) return 'cannot-tell'
  const settling = query.method === 'eip3009' ? byAuthorization(payment) : byPermit2(payment)
  if (settling === undefined) return 'refuses'
  const isKey = /^0x.{130}$/.test(`${payload.payload.signature}`)
  // A contract's signature may need preparation that a call does not show, and not every facilitator reads it.
  const isPlain = isKey && (await client.getCode({ address: getAddress(query.payer ?? '') })) === undefined
  if (isPlain && !(await settling.isSigned())) return 'refuses'

  const newest = await client.getBlock()
  if (Number(newest.timestamp) < askedAt - maxLagSeconds) return 'cannot-tell'
  const isTaken = (blockNumber: bigint) => takes(client, { ...settling, query }, blockNumber)
  if (!(await isTaken(newest.number))) return isPlain ? 'refuses' : 'cannot-tell'
  if (!isPlain || !(await wasTaken(client, newest, isTaken).catch(() => false))) return 'accepts-now'

  for (const giveUpAt = now() + freshBlockMs; now() < giveUpAt; ) {
    await new Promise<void>(resolve => setBackgroundTimeout(resolve, pauseMs))
    signal.throwIfAborted()
    const { number, timestamp } = await client.getBlock()
    if (number > newest.number && Number(timestamp) >= askedAt)
      return (await isTaken(number)) ? 'accepts' : 'refuses'
  }
  return 'accepts-now'
}

/** Nothing where it is not what the requirements ask for: a chain takes that too. */
function byAuthorization({ query, payload, requirements }: SignedPayment): Settling | undefined {
  const { authorization, signature } = fields(payload.payload, 2)
  const { from, to, value, validAfter, validBefore, nonce } = fields(authorization, 6)
  const message = {
    from: address(from),
    to: address(to),
    value: whole(value),
    validAfter: whole(validAfter),
    validBefore: whole(validBefore),
    nonce: bytes(nonce),
  }
  if (!isAddressEqual(message.to, address(query.payTo)) || message.value !== whole(query.amount))
    return undefined
  const asset = address(query.asset)
  const signed = bytes(signature)
  const common = [
    message.from,
    message.to,
    message.value,
    message.validAfter,
    message.validBefore,
    message.nonce,
  ] as const
  const functionName = 'transferWithAuthorization'
  const args =
    signed.length === 132 ? ([...common, ...parts(signed)] as const) : ([...common, signed] as const)
  const { name, version } = requirements.extra as { name?: string; version?: string }
  const domain = {
    name: `${name}`,
    version: `${version}`,
    chainId: chainIdOf(query),
    verifyingContract: asset,
  }
  return {
    to: asset,
    data: encodeFunctionData({ abi, functionName, args }),
    isSigned: async () =>
      isAddressEqual(
        message.from,
        await recoverTypedDataAddress({
          domain,
          types: transferTypes,
          primaryType: 'TransferWithAuthorization',
          message,
          signature: signed,
        }),
      ),
  }
}

/** The same by Permit2, through x402's contract for `exact`; that for `upto` takes a payment of one facilitator only. */
function byPermit2({ query, payload, requirements }: SignedPayment): Settling | undefined {
  const { permit2Authorization, signature } = fields(payload.payload, 2)
  const { from, permitted, nonce, deadline, spender, witness } = fields(permit2Authorization, 6)
  const { token: permittedToken, amount: permittedAmount } = fields(permitted, 2)
  const { to: payee, validAfter } = fields(witness, 2)
  const token = address(permittedToken)
  const amount = whole(permittedAmount)
  const to = address(payee)
  const isRequired =
    requirements.scheme === 'exact' &&
    isAddressEqual(token, address(query.asset)) &&
    amount === whole(query.amount) &&
    isAddressEqual(to, address(query.payTo)) &&
    isAddressEqual(address(spender), exactProxy)
  if (!isRequired) return undefined
  const permit = { permitted: { token, amount }, nonce: whole(nonce), deadline: whole(deadline) }
  const args = [permit, address(from), { to, validAfter: whole(validAfter) }, bytes(signature)] as const
  return {
    to: exactProxy,
    data: encodeFunctionData({ abi, functionName: 'settle', args }),
    // Permit2 names itself, so that nobody can read its signatures otherwise than the chain does.
    isSigned: async () => true,
  }
}

function parts(signature: Hex) {
  const { r, s, v, yParity } = parseSignature(signature)
  return [Number(v ?? yParity), r, s] as const
}

const chainIdOf = ({ network }: SignedPayment['query']) => Number(network.split(':')[1])

/** Not in the one form that every facilitator reads. */
const unreadable = () => new BaseError('another spelling')

/** The fields of a part of the payment that has so many, as clients write it: some facilitators refuse any other one. */
function fields(part: unknown, count: number): Record<string, unknown> {
  if (Object(part) === part && Object.keys(part as object).length === count)
    return part as Record<string, unknown>
  throw unreadable()
}

/** Some facilitators check an address's checksum where its letters are of both cases. */
function address(value: unknown): Address {
  const text = bytes(value)
  const checked = getAddress(text)
  if (text === checked || text === text.toLowerCase()) return checked
  throw unreadable()
}

function bytes(value: unknown): Hex {
  if (typeof value === 'string' && /^0x([\da-f]{2})+$/i.test(value)) return value as Hex
  throw unreadable()
}

function whole(value: unknown): bigint {
  if (typeof value === 'string' && /^(0|[1-9]\d{0,77})$/.test(value)) return BigInt(value)
  throw unreadable()
}

/** Whether the call succeeds as of a block. A call of an address without code succeeds and does nothing. */
async function takes(
  client: PublicClient,
  { to, data, query: { asset, payTo } }: Settling & Pick<SignedPayment, 'query'>,
  blockNumber: bigint,
): Promise<boolean> {
  try {
    // Anyone may settle. With an account, viem makes no batch of it.
    await client.call({ account: getAddress(payTo), to, data, blockNumber })
  } catch (error) {
    if (error instanceof BaseError && error.walk(one => one instanceof ExecutionRevertedError)) return false
    throw error
  }
  const contracts = [...new Set([to, getAddress(asset)])]
  const codes = await Promise.all(contracts.map(address => client.getCode({ address, blockNumber })))
  return !codes.includes(undefined)
}

/** Whether a block took it that every node should have by now. */
async function wasTaken(
  client: PublicClient,
  newest: { readonly number: bigint; readonly timestamp: bigint },
  isTaken: (blockNumber: bigint) => Promise<boolean>,
): Promise<boolean> {
  for (let depth = 8n; depth < newest.number; depth *= 2n) {
    const { number, timestamp } = await client.getBlock({ blockNumber: newest.number - depth })
    if (newest.timestamp - timestamp >= maxLagSeconds) return isTaken(number)
  }
  return false
}
