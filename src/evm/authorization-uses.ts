/** Which authorizations a transaction used, as its calls show. */
import { type Address, decodeFunctionData, type Hex, type PublicClient, parseAbi } from 'viem'
import type { SettlementQuery } from '../payment/payment-key.ts'

/** Permit2's address, the same on every chain (Uniswap). */
export const permit2: Address = '0x000000000022D473030F116dDEE9F6B43aC78BA3'
/** The contracts of x402 that spend payments by Permit2, one per scheme. */
export const exactProxy: Address = '0x402085c248EeA27D92E8b30b2C58ed07f9E20001'
const uptoProxy = '0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002'
const multicall3 = '0xcA11bde05977b3631167028862bE2a173976CA11'

/** A transfer that an authorization made when it was used. Addresses are in lower case. */
export interface AuthorizationUse {
  readonly method: SettlementQuery['method']
  readonly token: string
  readonly owner: string
  readonly to: string
  readonly amount: bigint
  readonly nonce: bigint
}

interface Call {
  readonly to?: string | null | undefined
  readonly input: string
}

/** Where a function has the fields of a use: the number of the word in its arguments, all of which are static. */
type Layout = readonly [token: number, owner: number, to: number, amount: number, nonce: number]

/** By contract, then by selector. */
const layouts: Readonly<Record<string, Readonly<Record<string, Layout>>>> = {
  [permit2.toLowerCase()]: {
    // permitTransferFrom
    '0x30f28b7a': [0, 6, 4, 5, 2],
    // permitWitnessTransferFrom
    '0x137c29fe': [0, 6, 4, 5, 2],
  },
  [exactProxy.toLowerCase()]: {
    // settle
    '0x13cd3b53': [0, 4, 5, 1, 2],
    // settleWithPermit
    '0xfa340378': [5, 9, 10, 6, 7],
  },
  [uptoProxy.toLowerCase()]: {
    // settle
    '0xff11e7b4': [0, 5, 6, 4, 2],
    // settleWithPermit
    '0x016c1748': [5, 10, 11, 9, 7],
  },
}

/** `transferWithAuthorization` and `receiveWithAuthorization`, with a signature in three parts or in one. */
const eip3009Selectors = /^0x(?:e3ee160e|cf092995|ef55bec6|88b7ab63)/
/** What calls nobody else and spends nothing: `transfer`, `transferFrom`, and Permit2's `invalidateUnorderedNonces`. */
const idleSelectors = /^0x(?:a9059cbb|23b872dd|3ff9dcb1)/

const multicallAbi = parseAbi([
  'function aggregate((address to, bytes input)[] calls)',
  'function tryAggregate(bool requireSuccess, (address to, bytes input)[] calls)',
  'function aggregate3((address to, bool allowFailure, bytes input)[] calls)',
])

/**
 * What a call that succeeded has used, read from its calldata; `undefined` where the calldata does not prove it.
 *
 * Anyone can deploy a contract that takes the calldata of a payment and does something else: only the token, Permit2 and
 * x402's proxies are believed. Where nobody has deployed a proxy, a call of it succeeds and does nothing: one that has
 * settled has emitted an event.
 */
function readCall(call: Call, token: string, emitters: ReadonlySet<string>): AuthorizationUse[] | undefined {
  const contract = call.to?.toLowerCase() ?? ''
  const input = call.input.toLowerCase()
  const selector = input.slice(0, 10)
  const word = (index: number) => input.slice(10 + 64 * index, 74 + 64 * index)
  const number = (index: number) => BigInt(`0x${word(index) || 0}`)
  const address = (index: number) => `0x${word(index).slice(24)}`

  const isPermit2 = contract === permit2.toLowerCase()
  if (contract !== token && !isPermit2 && !emitters.has(contract)) return undefined
  if (contract === token && eip3009Selectors.test(selector)) {
    return [
      { method: 'eip3009', token, owner: address(0), to: address(1), amount: number(2), nonce: number(5) },
    ]
  }
  const layout = layouts[contract]?.[selector]
  if (layout === undefined)
    return (contract === token || isPermit2) && idleSelectors.test(selector) ? [] : undefined
  const [at, owner, to, amount, nonce] = layout
  return [
    {
      method: 'permit2',
      token: address(at),
      owner: address(owner),
      to: address(to),
      amount: number(amount),
      nonce: number(nonce),
    },
  ]
}

/** The calls of a batch, each with whether the batch would have failed with it. */
function callsOf(call: Call): readonly (Call & { readonly isRequired: boolean })[] {
  if (call.to?.toLowerCase() !== multicall3.toLowerCase()) return [{ ...call, isRequired: true }]
  try {
    const { functionName, args } = decodeFunctionData({ abi: multicallAbi, data: call.input as Hex })
    switch (functionName) {
      case 'aggregate':
        return args[0].map(inner => ({ ...inner, isRequired: true }))
      case 'tryAggregate':
        return args[1].map(inner => ({ ...inner, isRequired: args[0] }))
      case 'aggregate3':
        return args[0].map(inner => ({ ...inner, isRequired: !inner.allowFailure }))
    }
  } catch {
    // Another function of it.
    return [{ ...call, isRequired: false }]
  }
}

export interface UsesShown {
  readonly uses: readonly AuthorizationUse[]
  /** Whether no other authorization can have been used. */
  readonly areAll: boolean
}

/**
 * What a transaction that succeeded has used, as far as its own calldata proves it.
 *
 * @param token in lower case
 * @param emitters the contracts that have emitted an event in it, in lower case
 */
export function usesByCalldata(transaction: Call, token: string, emitters: ReadonlySet<string>): UsesShown {
  const read = callsOf(transaction).map(call =>
    call.isRequired ? readCall(call, token, emitters) : undefined,
  )
  const uses = read.flatMap(found => found ?? [])
  // Another token may call anyone while it is transferred.
  return { uses, areAll: !read.includes(undefined) && uses.every(use => use.token === token) }
}

/**
 * What a transaction has used, as the trace of its calls shows, however deep a contract has wrapped them; `undefined`
 * where the node has no traces.
 *
 * @param token in lower case
 */
export async function usesByTrace(
  client: PublicClient,
  hash: Hex,
  token: string,
): Promise<UsesShown | undefined> {
  const calls = await traceOf(client, hash)
  // Proxies are left out: what they use, Permit2 is called for.
  return calls && { uses: calls.flatMap(call => readCall(call, token, new Set()) ?? []), areAll: true }
}

interface Frame extends Call {
  readonly type: string
  readonly error?: string
  readonly calls?: readonly Frame[]
}

interface FlatFrame {
  readonly action: Call & { readonly callType?: string }
  readonly error?: string
  readonly traceAddress: readonly number[]
}

/** The calls that were not undone, by geth's tracer or else by that of Parity. */
async function traceOf(client: PublicClient, hash: Hex): Promise<Call[] | undefined> {
  try {
    return frames(
      await client.request<{ Method: string; Parameters: unknown[]; ReturnType: Frame }>({
        method: 'debug_traceTransaction',
        params: [hash, { tracer: 'callTracer' }],
      }),
    )
  } catch {
    try {
      return flatFrames(
        await client.request<{ Method: string; Parameters: unknown[]; ReturnType: FlatFrame[] }>({
          method: 'trace_transaction',
          params: [hash],
        }),
      )
    } catch {
      return undefined
    }
  }
}

/** Calls alone: what a contract borrows by `delegatecall` acts on its own storage, not on that of Permit2. */
function frames(frame: Frame): Call[] {
  if (frame.error !== undefined) return []
  const inner = (frame.calls ?? []).flatMap(frames)
  return frame.type === 'CALL' ? [frame, ...inner] : inner
}

function flatFrames(trace: FlatFrame[]): Call[] {
  const failed = trace.filter(({ error }) => error !== undefined).map(({ traceAddress }) => traceAddress)
  return trace
    .filter(
      ({ action, traceAddress }) =>
        action.callType === 'call' &&
        !failed.some(address => address.every((step, depth) => step === traceAddress[depth])),
    )
    .map(({ action }) => action)
}
