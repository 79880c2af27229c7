import { afterEach, expect, it, vi } from 'vitest'
import { LedgerFullError, type LedgerUpdate, MemoryLedger } from '../../src/index.ts'
import { readPayment } from '../../src/payment/payment.ts'
import { identify, type SettlementQuery } from '../../src/payment/payment-key.ts'
import {
  aggregatorOf,
  FakeFacilitator,
  network,
  newPayload,
  newSvmPayload,
  outcome,
  payer,
  refusal,
  requirements,
  svmTransaction,
} from '../unit/builders.ts'
import { medianMs } from './measure.ts'

afterEach(() => {
  vi.useRealTimers()
})

const hour = 3_600
const farAway = 2 ** 52
let claims = 0

/** A ledger with `states`, each of a payment of its own, claimed one after the other. */
async function ledgerOf(
  maxEntries: number,
  states: readonly LedgerUpdate['settlement'][],
  query: Partial<SettlementQuery> = {},
): Promise<{ ledger: MemoryLedger; claim: (key?: string) => Promise<string> }> {
  const ledger = new MemoryLedger({ maxEntries })
  const claimOf = (key: string, settlement?: LedgerUpdate['settlement']) =>
    claim(ledger, key, query).then(id => settlement && ledger.update({ key, claim: id, settlement }))
  for (const [index, state] of states.entries()) await claimOf(`${index}`, state)
  return {
    ledger,
    claim: (key = 'new') =>
      claim(ledger, key, query).then(
        () => 'claimed',
        error => (error instanceof LedgerFullError ? 'full' : `threw ${error}`),
      ),
  }
}

async function claim(ledger: MemoryLedger, key: string, query: Partial<SettlementQuery>): Promise<string> {
  const id = `claim-${++claims}`
  const { asset, payTo, amount } = requirements()
  const whole = {
    method: 'eip3009',
    network,
    asset,
    payTo,
    amount,
    payer,
    nonce: key,
    validBefore: farAway,
  } as const
  const request = { key, fingerprint: '', query: { ...whole, ...query }, claim: id }
  await ledger.claim({ ...request, leaseMs: 90_000 })
  return id
}

const settledState = { state: 'settled', transaction: '0x01' } as const
const many = <T>(count: number, item: T): T[] => Array.from({ length: count }, () => item)

it('an entry of the ledger is as small with a signature of 250 KiB as with one of 65 bytes', async () => {
  const signature = `0x${'ab'.repeat(125_000)}`
  const payment = newPayload()
  Object.assign(payment.payload, { signature })
  const keyed = await identify(readPayment(payment, requirements()))
  expect(JSON.stringify(keyed).length).toBeLessThan(2_000)
  const other = { ...payment, payload: { ...payment.payload, signature: `${signature}00` } }
  const otherKeyed = await identify(readPayment(other, requirements()))
  expect(otherKeyed?.key).toBe(keyed?.key)
  expect(otherKeyed?.fingerprint).not.toBe(keyed?.fingerprint)
})

it('the memory of a shop does not grow by the signatures of the payments that it rejects', async () => {
  const facilitator = new FakeFacilitator({ settleAnswer: refusal('invalid_exact_evm_signature') })
  const aggregator = aggregatorOf({ a: facilitator }, {}, {})
  const settle = async (index: number) => {
    const payment = newPayload()
    Object.assign(payment.payload, { signature: JSON.parse(`"0x${`${index}`.padStart(250_000, 'a')}"`) })
    return outcome(aggregator.settle(payment, requirements()))
  }
  expect(await settle(0)).toBe('refused: invalid_exact_evm_signature')
  const before = await heapMiB()
  for (let index = 1; index <= 200; index++) await settle(index)
  // They weigh 48 MiB together.
  expect((await heapMiB()) - before).toBeLessThan(10)
})

async function heapMiB(): Promise<number> {
  const { setFlagsFromString } = await import('node:v8')
  const { runInNewContext } = await import('node:vm')
  setFlagsFromString('--expose-gc')
  const gc: () => void = runInNewContext('gc')
  gc()
  return process.memoryUsage().heapUsed / 1024 / 1024
}

it('a ledger full of authorizations that never end takes payments again after an hour: the chain accepts none of them twice', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  const { claim } = await ledgerOf(10, many(10, settledState))
  expect(await claim()).toBe('full')
  vi.setSystemTime(Date.now() + (hour + 20) * 1000)
  expect(await claim()).toBe('claimed')
})

it('a ledger full of what was delivered, whose replay protection is not known, forgets none of it for a day', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  const { claim } = await ledgerOf(10, many(10, settledState), { method: 'payload', validBefore: undefined })
  vi.setSystemTime(Date.now() + 23 * hour * 1000)
  expect(await claim()).toBe('full')
  vi.setSystemTime(Date.now() + 2 * hour * 1000)
  expect(await claim()).toBe('claimed')
})

it('a ledger full of settlements in doubt, whose authorizations never end, takes payments again after a day, and not before', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  const { ledger, claim } = await ledgerOf(10, many(10, { state: 'unresolved' }))
  vi.setSystemTime(Date.now() + 23 * hour * 1000)
  expect(await claim()).toBe('full')
  vi.setSystemTime(Date.now() + 2 * hour * 1000)
  expect(await claim()).toBe('claimed')
  expect(await ledger.get('0')).toBeUndefined()
  expect(await ledger.get('1')).toBeDefined()
})

it('a full ledger forgets what was not charged first, then what was delivered, and what is in doubt last', async () => {
  vi.useFakeTimers({ toFake: ['Date'] })
  const { ledger, claim } = await ledgerOf(4, [
    { state: 'unresolved' },
    settledState,
    { state: 'rejected', reason: 'invalid_exact_evm_signature' },
    { state: 'failed', wasSent: false },
  ])
  vi.setSystemTime(Date.now() + 25 * hour * 1000)
  const left = async () => {
    const entries = await Promise.all(['0', '1', '2', '3'].map(key => ledger.get(key)))
    return entries.flatMap(entry => (entry === undefined ? [] : [entry.settlement.state]))
  }
  const leftAfter: string[][] = []
  for (let index = 0; index < 4; index++) {
    expect(await claim(`new-${index}`)).toBe('claimed')
    leftAfter.push(await left())
  }
  expect(leftAfter).toEqual([
    ['unresolved', 'settled', 'failed'],
    ['unresolved', 'settled'],
    ['unresolved'],
    [],
  ])
})

it('a payment that is being settled is never forgotten, whatever its authorization says', async () => {
  const { ledger, claim: claimNew } = await ledgerOf(1, [], { validBefore: 1 })
  await claim(ledger, 'in flight', { validBefore: 1 })
  expect(await claimNew()).toBe('full')
})

it('a Solana payment in doubt is kept for a day, as a durable nonce may keep it alive, and one that was delivered for an hour', async () => {
  const queryOf = async (transaction: number[]) => {
    const terms = requirements({ network: 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1' })
    return (await identify(readPayment(newSvmPayload(transaction), terms)))?.query
  }
  const lasting = async (settlement: LedgerUpdate['settlement'], seconds: number) => {
    vi.useFakeTimers({ toFake: ['Date'] })
    const { claim } = await ledgerOf(2, many(2, settlement), {
      ...(await queryOf(svmTransaction(9, 200))),
      validBefore: undefined,
    })
    vi.setSystemTime(Date.now() + seconds * 1000)
    const outcome = await claim()
    vi.useRealTimers()
    return outcome
  }
  expect(await lasting({ state: 'unresolved' }, 23 * hour)).toBe('full')
  expect(await lasting({ state: 'unresolved' }, 25 * hour)).toBe('claimed')
  expect(await lasting(settledState, 0.9 * hour)).toBe('full')
  expect(await lasting(settledState, 1.1 * hour)).toBe('claimed')
})

it('a settle that a full ledger refuses costs no more than one that an empty ledger takes', async () => {
  const maxEntries = 50_000
  const ledger = new MemoryLedger({ maxEntries })
  for (let index = 0; index < maxEntries; index++) {
    const id = await claim(ledger, `${index}`, { validBefore: farAway - index })
    const settlement = index % 2 === 0 ? settledState : ({ state: 'unresolved' } as const)
    await ledger.update({ key: `${index}`, claim: id, settlement })
  }
  const roomy = new MemoryLedger({ maxEntries: 10_000_000 })
  let index = 0
  const refused = await medianMs(() => claim(ledger, `new-${++index}`, {}).catch(() => {}), 200)
  const taken = await medianMs(() => claim(roomy, `new-${++index}`, {}), 200)
  expect(refused / taken).toBeLessThan(20)
})

it('a ledger that is nearly full says so in the health and in the log, once, before it refuses a payment', async () => {
  const facilitator = new FakeFacilitator()
  const ledger = new MemoryLedger({ maxEntries: 20 })
  const aggregator = aggregatorOf({ a: facilitator }, { ledger }, {})
  const warnings = () => aggregator.getRecentLogs().filter(({ event }) => event === 'ledger:usage')
  for (let index = 0; index < 17; index++) await aggregator.settle(newPayload(), requirements())
  expect(warnings()).toEqual([])
  expect(aggregator.getHealthStatus().ledger).toEqual({ entries: 17, maxEntries: 20, isNearlyFull: false })
  for (let index = 0; index < 3; index++) await aggregator.settle(newPayload(), requirements())
  expect(aggregator.getHealthStatus().ledger).toEqual({ entries: 20, maxEntries: 20, isNearlyFull: true })
  expect(warnings()).toMatchObject([{ level: 'warn', entries: 18, maxEntries: 20 }])
  expect(await outcome(aggregator.settle(newPayload(), requirements()))).toBe('LEDGER_FULL')
})

it('rejections, which make room at once, do not count as filling the ledger', async () => {
  const facilitator = new FakeFacilitator({ settleAnswer: refusal('invalid_exact_evm_signature') })
  const aggregator = aggregatorOf({ a: facilitator }, { ledger: new MemoryLedger({ maxEntries: 10 }) }, {})
  for (let index = 0; index < 15; index++) await aggregator.settle(newPayload(), requirements())
  expect(aggregator.getHealthStatus().ledger).toMatchObject({ entries: 0, isNearlyFull: false })
})

it('a full ledger takes payments at once where those that it has are over, though their leases have not lapsed', async () => {
  const { claim } = await ledgerOf(10, many(10, settledState), { validBefore: 1 })
  expect(await claim()).toBe('claimed')
})

it('a ledger that is full from the start says so, though it takes no payment', async () => {
  const { ledger } = await ledgerOf(2, many(2, { state: 'unresolved' }))
  const aggregator = aggregatorOf({ a: new FakeFacilitator() }, { ledger }, {})
  await expect(aggregator.settle(newPayload(), requirements())).rejects.toMatchObject({ code: 'LEDGER_FULL' })
  expect(aggregator.getRecentLogs()).toContainEqual(expect.objectContaining({ event: 'ledger:usage' }))
})
