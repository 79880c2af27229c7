/**
 * Payments at a steady rate through the real listener, by turns in peace and with floods and slow clients beside them;
 * facilitators fail in both. `npm run soak -- --help`.
 */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { Agent, request } from 'node:http'
import { parseArgs } from 'node:util'
import { plainBody } from './fuzz-payments.ts'
import { slopeOf } from './fuzz-run.ts'
import type { GatewayMessage, GatewayTask } from './soak-gateway.ts'
import type { HostileTask } from './soak-hostility.ts'
import { Chain, type Fault, startFacilitator, startNode } from './soak-mocks.ts'

const usage = `usage: npm run soak -- [options]

  --minutes M    in all: a third in peace, two thirds in hostile company, by turns (5)
  --rate R       payments a second, each a verify and a settle (200)
  --flood F      hostile requests a second (500)
  --slow N       slow clients at any time (200)`

const { values: flags } = parseArgs({
  options: {
    minutes: { type: 'string', default: '5' },
    rate: { type: 'string', default: '200' },
    flood: { type: 'string', default: '500' },
    slow: { type: 'string', default: '200' },
    help: { type: 'boolean', default: false },
  },
})
const [minutes, rate, flood, slow] = [flags.minutes, flags.rate, flags.flood, flags.slow].map(Number) as [
  number,
  number,
  number,
  number,
]
if (flags.help || ![minutes, rate, flood, slow].every(value => value >= 0) || !(minutes > 0 && rate > 0)) {
  console.log(usage)
  process.exit(flags.help ? 0 : 1)
}

/** Bytes of the gateway's heap that a payment may leave behind, as a slope over the second half. */
const maxBytesPerPayment = 200
/** Entries of the gateway's ledger: those of the 70 s for which one is kept at least, and some more. */
const ledgerEntries = 85 * rate
/** The ledger is full from its own number on, so that the second half shows what grows beside it. */
const fewestPaymentsForMemory = 3.5 * ledgerEntries
/** Turns of peace and hostility: what else the machine does meets both. */
const turns = Math.max(3, Math.round(minutes))
/** How much longer honest payments may take in hostile company, at the 99th percentile. */
const maxSlowdown = 2

type Phase = 'warm-up' | 'peace' | 'hostile'

interface Payment {
  readonly phase: Phase
  readonly nonce: string
  readonly body: string
  readonly startedAt: number
}

/** The end of a payment, as its seller sees it. */
type End = 'delivered' | 'rejected' | 'unknown'

const chain = new Chain()
/** Per mille of the payments, by the last digits of their nonces. */
const faults: readonly (readonly [upTo: number, fault: Fault])[] = [
  [2, 'fails before'],
  [4, 'fails after'],
  [5, 'resets after'],
  [6, 'garbage after'],
  [8, 'refuses'],
  [9, 'hangs after'],
]
/** Whether a facilitator fails at this payment, or is asked twice for it at once. */
const isFaulty = (nonce: string) => perMille(nonce) < 10 || perMille(nonce) % 20 === 0
const perMille = (nonce: string) => Number.parseInt(nonce.slice(-6), 16) % 1_000
const facilitators = [
  await startFacilitator(chain, nonce => faults.find(([upTo]) => perMille(nonce) < upTo)?.[1] ?? 'none'),
  await startFacilitator(chain, nonce => (perMille(nonce) === 0 ? 'fails after' : 'none')),
  await startFacilitator(chain, () => 'none'),
]
const node = await startNode(chain)

const processes = new Set<ChildProcess>()
process.on('exit', () => {
  for (const child of processes) child.kill('SIGKILL')
})
function start(file: string, ...options: string[]): ChildProcess {
  const child = fork(new URL(file, import.meta.url), { execArgv: [...options, ...process.execArgv] })
  processes.add(child)
  child.once('exit', () => processes.delete(child))
  return child
}

const gateway = start('./soak-gateway.ts', '--expose-gc')
const said: ((message: GatewayMessage) => void)[] = []
gateway.on('message', (message: GatewayMessage) => said.shift()?.(message))
function askGateway(message: GatewayTask | 'heap' | 'end'): Promise<GatewayMessage> {
  return new Promise(resolve => {
    said.push(resolve)
    gateway.send(message)
  })
}
const honestToken = 'honest-token-of-the-seller'
const hostileToken = 'token-of-one-who-abuses-it'
const listening = await askGateway({
  facilitators: facilitators.map(({ url }) => url),
  node: node.url,
  tokens: [honestToken, hostileToken],
  rate,
  ledgerEntries,
})
if (listening.kind !== 'listening') throw new Error('the gateway does not listen')
const { hostname, port } = new URL(listening.url)
const agent = new Agent({ keepAlive: true, maxSockets: 1_000 })

interface Answer {
  readonly status: number
  readonly body: {
    readonly success?: boolean
    readonly isValid?: boolean
    readonly transaction?: string
    readonly error?: string
  }
}

function post(path: string, body: string): Promise<Answer | undefined> {
  return new Promise(resolve => {
    const headers = {
      authorization: `Bearer ${honestToken}`,
      'content-type': 'application/json',
      'content-length': Buffer.byteLength(body),
    }
    const asking = request({ hostname, port, path, method: 'POST', headers, agent }, async response => {
      try {
        let text = ''
        for await (const piece of response.setEncoding('utf8')) text += piece
        resolve({ status: response.statusCode ?? 0, body: JSON.parse(text) })
      } catch {
        resolve(undefined)
      }
    })
    asking.on('error', () => resolve(undefined))
    asking.end(body)
  })
}

const problems: string[] = []
const counts = new Map<string, number>()
const count = (name: string) => counts.set(name, (counts.get(name) ?? 0) + 1)
const delivered = new Map<string, string>()
const durations: Record<Phase, number[]> = { 'warm-up': [], peace: [], hostile: [] }
const left: Payment[] = []
let inFlight = 0

/** Buys once, as a seller's middleware does: verify, then settle. A twentieth of the payments is sent twice at once. */
async function buy(payment: Payment): Promise<void> {
  inFlight++
  const { phase, startedAt, nonce } = payment
  const isReplayed = perMille(nonce) % 20 === 0
  const verified = await post('/verify', payment.body)
  if (verified?.body.isValid !== true)
    count(`${phase}: verify ${verified?.body.error ?? verified?.status ?? 'cut'}`)
  const ends = await Promise.all([settle(payment), ...(isReplayed ? [settle(payment)] : [])])
  // Where a facilitator fails by plan the payment waits for that, which is nobody else's doing.
  if (!isFaulty(nonce)) durations[phase].push(performance.now() - startedAt)
  if (!ends.includes('delivered')) left.push(payment)
  inFlight--
}

async function settle({ phase, nonce, body }: Payment): Promise<End> {
  const answer = await post('/settle', body)
  const { success, transaction, error } = answer?.body ?? {}
  if (success === true) {
    if (delivered.has(nonce)) problems.push(`${nonce} was delivered twice`)
    delivered.set(nonce, `${transaction}`)
    count(`${phase}: delivered`)
    return 'delivered'
  }
  if (answer === undefined) problems.push(`the connection of a settle of ${nonce} was cut (${phase})`)
  count(`${phase}: settle ${success === false ? 'rejected' : (error ?? answer?.status ?? 'cut')}`)
  return success === false ? 'rejected' : 'unknown'
}

let payments = 0
function newPayment(phase: Phase): Payment {
  const body = plainBody('exact', ++payments)
  const validBefore = `${Math.floor(Date.now() / 1000) + 10}`
  const authorization = body.paymentPayload.payload.authorization as Record<string, string>
  Object.assign(authorization, { validBefore })
  return { phase, nonce: `${authorization.nonce}`, body: JSON.stringify(body), startedAt: performance.now() }
}

const heap: { done: number; bytes: number }[] = []
async function measureHeap(): Promise<void> {
  const answer = await askGateway('heap')
  if (answer.kind === 'heap') heap.push({ done: payments, bytes: answer.bytes })
}

/** Buys at the rate, whether or not those before are done. */
async function pass(phase: Phase, seconds: number): Promise<void> {
  const begunAt = performance.now()
  const before = payments
  const sampling = setInterval(measureHeap, 5_000)
  await new Promise<void>(resolve => {
    const timer = setInterval(() => {
      const elapsed = (performance.now() - begunAt) / 1000
      while (payments - before < Math.min(elapsed, seconds) * rate) void buy(newPayment(phase))
      // One facilitator is down for a tenth of each phase.
      for (const one of facilitators.slice(0, 1))
        one.isDown = elapsed > seconds * 0.5 && elapsed < seconds * 0.6
      if (elapsed < seconds) return
      clearInterval(timer)
      resolve()
    }, 10)
  })
  clearInterval(sampling)
  while (inFlight > 0) await new Promise(resolve => setTimeout(resolve, 100))
}

const startedAt = performance.now()
await pass('warm-up', Math.min(10, minutes * 6))
const hostileCounts = new Map<string, number>()
for (let turn = 0; turn < turns; turn++) {
  await pass('peace', (minutes * 20) / turns)
  const hostile = start('./soak-hostility.ts')
  hostile.send({ url: listening.url, token: hostileToken, rate: flood, slow } satisfies HostileTask)
  await pass('hostile', (minutes * 40) / turns)
  hostile.send('end')
  const [answers] = (await once(hostile, 'message')) as [[string, number][]]
  for (const [name, times] of answers) hostileCounts.set(name, (hostileCounts.get(name) ?? 0) + times)
  await once(hostile, 'exit')
}

// A seller whose settle ended in a 502 sees the buyer's retry; what was rejected must not have moved.
for (let round = 0; round < 20 && left.length > 0; round++)
  for (const payment of left.splice(0)) {
    if (!chain.transactions.has(payment.nonce)) continue
    if ((await settle(payment)) !== 'delivered') left.push(payment)
  }
for (const { nonce } of left) problems.push(`${nonce} was paid and never delivered`)
for (const [nonce, transaction] of delivered)
  if (chain.transactions.get(nonce) !== transaction)
    problems.push(`${nonce} was delivered for ${transaction}, the chain has ${chain.transactions.get(nonce)}`)

const ended = await askGateway('end')
agent.destroy()
for (const { server } of [...facilitators, node]) {
  server.close()
  server.closeAllConnections()
}

const percentile = (values: readonly number[], share: number) =>
  [...values].sort((one, other) => one - other)[Math.floor(values.length * share)] ?? 0
for (const phase of ['peace', 'hostile'] as const) {
  const [p50, p99] = [0.5, 0.99].map(share => percentile(durations[phase], share).toFixed(0))
  console.log(`${phase}: ${durations[phase].length} payments, p50 ${p50} ms, p99 ${p99} ms`)
}
const slowdown = percentile(durations.hostile, 0.99) / percentile(durations.peace, 0.99)
if (slowdown > maxSlowdown) problems.push(`p99 is ${slowdown.toFixed(2)} times that in peace`)
const bytesPerPayment = slopeOf(heap) ?? 0
if (payments >= fewestPaymentsForMemory && bytesPerPayment > maxBytesPerPayment)
  problems.push(`the heap grows by ${bytesPerPayment.toFixed(0)} bytes a payment`)

for (const [name, times] of [...counts].sort()) console.log(`  ${`${times}`.padStart(7)}  ${name}`)
console.log(`hostile answers: ${[...hostileCounts].map(([name, times]) => `${name} ${times}`).join(', ')}`)
console.log(
  `${payments} payments in ${((performance.now() - startedAt) / 1000).toFixed(0)} s, ${delivered.size} delivered, ` +
    `${chain.transactions.size} moved, ${ended.kind === 'ended' ? ended.unresolved : '?'} unresolved at the end; p99 ` +
    `${slowdown.toFixed(2)} times that in peace (at most ${maxSlowdown}), heap ${bytesPerPayment.toFixed(1)} bytes a ` +
    `payment (at most ${maxBytesPerPayment})`,
)
console.log(
  problems.length === 0 ? 'every promise kept' : `PROMISE BROKEN\n${problems.slice(0, 20).join('\n')}`,
)
process.exit(problems.length === 0 ? 0 : 1)
