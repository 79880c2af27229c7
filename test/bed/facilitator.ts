/** One of upstream's facilitators behind HTTP, whose edge can be told to misbehave. */
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { x402Facilitator } from '@x402/core/facilitator'
import type { PaymentPayload, PaymentRequirements } from '@x402/core/types'
import { toFacilitatorEvmSigner } from '@x402/evm'
import { registerExactEvmScheme } from '@x402/evm/exact/facilitator'
import { type Address, createPublicClient, type Hex, http } from 'viem'
import type { Chain } from './chain.ts'

export type FacilitatorOperation = 'verify' | 'settle' | 'supported' | 'list'

/** What a facilitator does instead of its work, or after it. */
export type Fault =
  /** Reads the request and never answers. */
  | { kind: 'hang' }
  /** Closes the connection instead of answering. */
  | { kind: 'reset' }
  /** Answers something else. */
  | { kind: 'answer'; status: number; body?: unknown; headers?: Record<string, string> }
  /** Does its work some time later. */
  | { kind: 'slow'; ms: number }
  /** Does its work, and then misbehaves. */
  | { kind: 'act-then'; next: Fault }
  /** Broadcasts the settlement, and answers before it is mined; waits for it when asked again. */
  | { kind: 'pending' }
  /** Broadcasts the settlement, and misbehaves before it is mined. */
  | { kind: 'broadcast-then'; next: Fault }
  /** Misbehaves with the first request for each payment, and behaves with those that follow. */
  | { kind: 'first-time'; fault: Fault }
  /** Gives a payment that it has seen the same answer again; reads field names in any case, as Go does. */
  | { kind: 'idempotent' }
  /** Claims a settlement that it has not made. */
  | { kind: 'false claim' }
  /** Draws what to do anew for each request. */
  | { kind: 'draw'; draw: () => Fault | undefined }

/** Takes these faults in turn, one for each request. */
export function inTurn(faults: readonly Fault[]): Fault {
  let requests = 0
  return { kind: 'draw', draw: () => faults[requests++ % faults.length] }
}

/** What is asked of a facilitator: a payment to verify or to settle. */
interface PaymentRequest {
  readonly paymentPayload: PaymentPayload
  readonly paymentRequirements: PaymentRequirements
}

/** One request, with the means to do what it asks for. */
interface Call {
  readonly operation: FacilitatorOperation
  readonly payment: PaymentRequest | undefined
  readonly response: ServerResponse
  act(payment?: PaymentRequest): Promise<unknown>
}

export type TestFacilitator = Awaited<ReturnType<typeof startFacilitator>>

export async function startFacilitator(options: {
  chain: Chain
  id: string
  /** Required of each request as `Authorization: Bearer …`. */
  bearerToken?: string
  /** Networks to advertise. */
  networks?: `${string}:${string}`[]
  /**
   * Whether it notices what others have broadcast before that is mined; not so where its node is another one.
   * @default true
   */
  seesMempool?: boolean
}) {
  const { chain, id } = options
  const account = await chain.newAccount('100')
  const facilitator = new x402Facilitator()
  registerExactEvmScheme(facilitator, {
    signer: signerFor(chain, account, {
      gas: options.seesMempool === false ? 300_000n : undefined,
      onBroadcast: () => broadcasts++,
      // The second wait for the same transaction is the repeat of a settlement that was answered as pending.
      isImpatient: hash => impatient > 0 && !awaited.has(hash) && awaited.add(hash) !== undefined,
    }),
    networks: options.networks ?? [chain.network],
  })

  let broadcasts = 0
  let impatient = 0
  const awaited = new Set<string>()
  const calls = { verify: 0, settle: 0, supported: 0, list: 0 }
  const faults: Partial<Record<FacilitatorOperation, Fault>> = {}
  const sockets = new Set<Socket>()
  const resources = { x402Version: 2, items: [], pagination: { limit: 0, offset: 0, total: 0 } }

  async function act(operation: FacilitatorOperation, payment: PaymentRequest | undefined): Promise<unknown> {
    if (operation === 'supported') return facilitator.getSupported()
    if (operation === 'list' || payment === undefined) return resources
    return facilitator[operation](payment.paymentPayload, payment.paymentRequirements)
  }

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const operation = operationOf(request)
    if (operation === undefined) return answer(response, 404, { error: 'not found' })
    calls[operation]++
    const expected = options.bearerToken && `Bearer ${options.bearerToken}`
    if (expected && request.headers.authorization !== expected)
      return answer(response, 401, { error: 'unauthorized' })
    const payment =
      request.method === 'POST' ? (JSON.parse(await bodyOf(request)) as PaymentRequest) : undefined
    const call: Call = { operation, payment, response, act: (asRead = payment) => act(operation, asRead) }
    await misbehave(faults[operation], call)
  }

  async function misbehave(fault: Fault | undefined, call: Call): Promise<void> {
    const { response } = call
    switch (fault?.kind) {
      case undefined:
        return answer(response, 200, await call.act())
      case 'hang':
        return
      case 'reset':
        response.socket?.resetAndDestroy()
        return
      case 'answer':
        return answer(response, fault.status, fault.body ?? { error: 'fault' }, fault.headers)
      case 'slow':
        await new Promise(resolve => setTimeout(resolve, fault.ms))
        return answer(response, 200, await call.act())
      case 'act-then':
        await call.act()
        return misbehave(fault.next, call)
      case 'pending':
        return answer(response, 200, await actImpatiently(call))
      case 'broadcast-then':
        await actImpatiently(call)
        return misbehave(fault.next, call)
      case 'first-time':
        return misbehave(isFirst(call) ? fault.fault : undefined, call)
      case 'idempotent':
        return answer(response, 200, await actOnce(call))
      case 'false claim':
        return answer(response, 200, {
          success: true,
          transaction: `0x${'11'.repeat(32)}`,
          network: chain.network,
          payer: account.address,
        })
      case 'draw':
        return misbehave(fault.draw(), call)
    }
  }

  /** Answers before what it has broadcast is mined. */
  async function actImpatiently(call: Call): Promise<unknown> {
    impatient++
    try {
      return await call.act()
    } finally {
      impatient--
    }
  }

  /** Signatures of the payments that were misbehaved to before. */
  const seen = new Set<unknown>()
  function isFirst({ operation, payment }: Call): boolean {
    const key = `${operation} ${payment?.paymentPayload.payload.signature}`
    return !seen.has(key) && seen.add(key) !== undefined
  }

  /** The answers given, by operation and content of the payload. */
  const given = new Map<string, Promise<unknown>>()
  function actOnce({ operation, payment, act }: Call): Promise<unknown> {
    if (payment === undefined) return act()
    const content = inKnownCase(payment.paymentPayload.payload)
    const key = `${operation} ${JSON.stringify(content)}`
    const paymentPayload = { ...payment.paymentPayload, payload: content }
    const answered = given.get(key) ?? act({ ...payment, paymentPayload })
    given.set(key, answered)
    return answered
  }

  let server: Server
  async function listen(port: number): Promise<number> {
    server = createServer((request, response) => {
      handle(request, response).catch(error => answer(response, 500, { error: String(error) }))
    })
    // A connection that is closed while idle, just as it is used again, would be a fault that nobody asked for.
    server.keepAliveTimeout = 0
    server.on('connection', socket => {
      sockets.add(socket)
      socket.on('close', () => sockets.delete(socket))
    })
    await new Promise<void>((resolve, reject) => {
      server.once('error', reject)
      server.listen(port, '127.0.0.1', resolve)
    })
    return (server.address() as AddressInfo).port
  }
  const port = await listen(0)

  /** From now on connections are refused, and those that stand are cut. */
  async function kill(): Promise<void> {
    const closed = new Promise(resolve => server.close(resolve))
    for (const socket of sockets) socket.destroy()
    await closed
  }

  return {
    id,
    url: `http://127.0.0.1:${port}`,
    address: account.address,
    /** The same facilitator as an object in this process. */
    inProcess: facilitator,
    /** Requests received, per operation. */
    calls,
    /** Transactions sent. */
    get broadcasts() {
      return broadcasts
    },
    /** Misbehaves from now on, in the operations named. */
    fault(next: Partial<Record<FacilitatorOperation, Fault>>) {
      Object.assign(faults, next)
    },
    /** Behaves from now on. */
    heal() {
      for (const operation of Object.keys(faults) as FacilitatorOperation[]) delete faults[operation]
    },
    kill,
    revive: () => listen(port),
    drainGas: () => chain.setEther(account.address, '0'),
    refillGas: () => chain.setEther(account.address, '100'),
    async stop() {
      if (server.listening) await kill()
    },
  }
}

/** A signer that sends one transaction at a time, as the transactions of one key must follow each other. */
function signerFor(
  chain: Chain,
  account: Awaited<ReturnType<Chain['newAccount']>>,
  hooks: {
    /** Estimated unless it is given; the estimate counts what is in the mempool. */
    gas: bigint | undefined
    onBroadcast: () => void
    isImpatient: (hash: Hex) => boolean
  },
) {
  const wallet = chain.walletOf(account)
  const reader = createPublicClient({
    chain: chain.viemChain,
    transport: http(chain.rpcUrl),
    pollingInterval: 50,
    cacheTime: 0,
  })
  let last: Promise<unknown> = Promise.resolve()
  function inTurn<T>(send: () => Promise<T>): Promise<T> {
    const turn = last.then(send, send)
    last = turn.catch(() => undefined)
    return turn
  }
  return toFacilitatorEvmSigner({
    address: account.address,
    readContract: args => reader.readContract(args as Parameters<typeof reader.readContract>[0]),
    verifyTypedData: args => reader.verifyTypedData(args as Parameters<typeof reader.verifyTypedData>[0]),
    getCode: args => reader.getCode(args),
    waitForTransactionReceipt: async args => {
      if (hooks.isImpatient(args.hash)) throw new Error('no receipt yet')
      return reader.waitForTransactionReceipt(args as Parameters<typeof reader.waitForTransactionReceipt>[0])
    },
    writeContract: args =>
      inTurn(async () => {
        const call = { ...args, gas: args.gas ?? hooks.gas } as Parameters<typeof wallet.writeContract>[0]
        const hash = await wallet.writeContract(call)
        hooks.onBroadcast()
        return hash
      }),
    sendTransaction: args => inTurn(() => wallet.sendTransaction(args as { to: Address; data: Hex })),
  })
}

function operationOf(request: IncomingMessage): FacilitatorOperation | undefined {
  const path = request.url?.split('?', 1)[0]
  switch (`${request.method} ${path}`) {
    case 'POST /verify':
      return 'verify'
    case 'POST /settle':
      return 'settle'
    case 'GET /supported':
      return 'supported'
    case 'GET /discovery/resources':
      return 'list'
    default:
      return undefined
  }
}

const fieldNames = ['signature', 'authorization', 'from', 'to', 'value', 'validAfter', 'validBefore', 'nonce']

/** The same content with its fields named as upstream names them, in one order. */
function inKnownCase(content: Record<string, unknown>): Record<string, unknown> {
  const entries = Object.entries(content).map(([name, value]): [string, unknown] => [
    fieldNames.find(known => known.toLowerCase() === name.toLowerCase()) ?? name,
    typeof value === 'object' && value !== null ? inKnownCase(value as Record<string, unknown>) : value,
  ])
  return Object.fromEntries(entries.sort(([one], [other]) => one.localeCompare(other)))
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  let body = ''
  for await (const chunk of request) body += chunk
  return body
}

function answer(
  response: ServerResponse,
  status: number,
  body: unknown,
  headers: Record<string, string> = {},
): void {
  if (response.headersSent || response.destroyed) return
  response.writeHead(status, { 'content-type': 'application/json', ...headers })
  response.end(
    typeof body === 'string'
      ? body
      : JSON.stringify(body, (_key, value) => (typeof value === 'bigint' ? `${value}` : value)),
  )
}
