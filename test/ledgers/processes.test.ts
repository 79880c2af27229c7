/** Gateways in processes of their own that share a durable ledger; the chain tells what was charged. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { PaymentPayload } from '@x402/core/types'
import pg from 'pg'
import type { Address, Hex } from 'viem'
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest'
import { FacilitatorAggregator } from '../../src/index.ts'
import { postgresLedger } from '../../src/postgres/index.ts'
import type { SettlementLedger } from '../../src/settlement/ledger.ts'
import { openDatabase } from '../../src/sqlite/driver.ts'
import { sqliteLedger } from '../../src/sqlite/index.ts'
import { createBuyer } from '../bed/buyer.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../bed/facilitator.ts'
import { startGatewayProcess } from '../bed/gateway-process.ts'
import { price, type Seller, startSeller } from '../bed/seller.ts'
import { hasPostgres, hasSqlite, startPostgres } from './servers.ts'

interface DurableLedger {
  /** For `--ledger`. */
  readonly address: string
  readonly ledger: SettlementLedger
  /** Ends all leases, as if the time had passed. */
  lapse(): Promise<void>
  close(): Promise<void>
}

async function inPostgres(): Promise<DurableLedger> {
  const server = await startPostgres()
  const pool = new pg.Pool({ connectionString: server.url })
  const ledger = postgresLedger({ client: pool })
  await ledger.migrate()
  return {
    address: server.url,
    ledger,
    lapse: async () => {
      await pool.query("UPDATE x402_settlements SET state_ends_at = now() WHERE state = 'settling'")
    },
    close: async () => {
      await pool.end()
      await server.stop()
    },
  }
}

async function inSqlite(): Promise<DurableLedger> {
  const folder = mkdtempSync(join(tmpdir(), 'x402-processes-'))
  const path = join(folder, 'x402.db')
  const ledger = sqliteLedger({ path })
  await ledger.migrate()
  return {
    address: `sqlite:${path}`,
    ledger,
    lapse: async () => {
      const database = await openDatabase(path)
      database.exec("UPDATE x402_settlements SET state_ends_at = 0 WHERE state = 'settling'")
      database.close()
    },
    close: async () => {
      await ledger.close()
      rmSync(folder, { recursive: true })
    },
  }
}

const ledgers = [
  { name: 'Postgres', isThere: hasPostgres(), open: inPostgres },
  { name: 'SQLite', isThere: await hasSqlite(), open: inSqlite },
].filter(({ isThere }) => isThere)

let chain: Chain
beforeAll(async () => {
  chain = await startChain({ blockTimeSeconds: 0.25 })
}, 60_000)
afterAll(() => chain?.stop())

type Gateway = Awaited<ReturnType<typeof startGatewayProcess>>

describe.each(ledgers)('gateways that share a ledger in $name', { timeout: 240_000 }, ({ open }) => {
  let durable: DurableLedger
  let pool: TestFacilitator[]
  let seller: Seller
  let pricing: FacilitatorAggregator
  const token = 'a-token-of-the-test'

  beforeAll(async () => {
    durable = await open()
    pool = await Promise.all(['first', 'second'].map(id => startFacilitator({ chain, id })))
    // Asks for the price; the payments go to the gateways.
    pricing = new FacilitatorAggregator({
      facilitators: pool.map(({ id, url }) => ({ id, url })),
      healthCheck: false,
      logger: false,
    })
    seller = await startSeller(chain, pricing)
  }, 120_000)
  afterAll(async () => {
    await seller?.stop()
    await pricing?.stop()
    await Promise.all((pool ?? []).map(facilitator => facilitator.stop()))
    await durable?.close()
  })

  const running: Gateway[] = []
  afterEach(async () => {
    await Promise.all(running.splice(0).map(gateway => gateway.end('SIGKILL')))
  })

  const startGateway = async () => {
    const gateway = await startGatewayProcess(
      {
        FACILITATOR_1_URL: pool[0]?.url ?? '',
        FACILITATOR_2_URL: pool[1]?.url ?? '',
        [`RPC_URL_${chain.chainId}`]: chain.rpcUrl,
        FACILITATOR_GATEWAY_TOKEN: token,
      },
      ['--ledger', durable.address],
    )
    running.push(gateway)
    return gateway
  }

  /** By buyers of their own: what one of them is owed is not used for another payment. */
  async function sign(count: number, buyers = count): Promise<PaymentPayload[]> {
    const shoppers = await Promise.all(Array.from({ length: buyers }, () => createBuyer(chain)))
    const signed = Array.from({ length: count }, (_, index) => shoppers[index % buyers]?.sign(seller.url))
    return (await Promise.all(signed)).flatMap(one => (one ? [one.payload] : []))
  }

  function isSpent({ payload }: PaymentPayload): Promise<boolean> {
    const { from, nonce } = payload.authorization as { from: Address; nonce: Hex }
    return chain.isSpent(from, nonce)
  }

  interface Answer {
    readonly success?: boolean
    readonly errorReason?: string
    readonly error?: string
  }

  async function settle(gateway: Gateway, paymentPayload: PaymentPayload): Promise<Answer> {
    const response = await fetch(`${gateway.url}/settle`, {
      method: 'POST',
      headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
      body: JSON.stringify({
        x402Version: 2,
        paymentPayload,
        paymentRequirements: paymentPayload.accepted,
      }),
    })
    return (await response.json()) as Answer
  }

  const isSuccess = (answer: Answer | 'cut') => answer !== 'cut' && answer.success === true

  it('deliver each of 200 payments once that all three of them get at the same time', async () => {
    const gateways = await Promise.all([startGateway(), startGateway(), startGateway()])
    // It charges, and its answer is lost.
    pool[0]?.fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    const payloads = await sign(200, 10)
    const before = await chain.balanceOf(seller.address)
    const answers: Answer[][] = []
    let begun = 0
    const sendOneAfterTheOther = async () => {
      for (let index = begun++; index < payloads.length; index = begun++) {
        const payload = payloads[index] as PaymentPayload
        answers[index] = await Promise.all(gateways.map(gateway => settle(gateway, payload)))
      }
    }
    await Promise.all(Array.from({ length: 25 }, sendOneAfterTheOther))

    expect(answers.map(three => three.filter(isSuccess).length)).toEqual(Array(200).fill(1))
    const others = answers.flat().filter(answer => !isSuccess(answer))
    const said = new Set(others.map(({ errorReason, error }) => errorReason ?? error))
    for (const reason of said) expect(['duplicate_settlement', 'SETTLEMENT_IN_PROGRESS']).toContain(reason)
    expect((await chain.balanceOf(seller.address)) - before).toBe(price * 200n)
    expect((await durable.ledger.list({ states: ['settled'], limit: 300 })).entries).toHaveLength(200)
    expect(pool[0]?.broadcasts).toBeGreaterThan(0)
    pool[0]?.fault({})
  })

  it('lose no payment, and deliver none twice, when one is killed while settlements run', async () => {
    const first = await startGateway()
    const payloads = await sign(10)
    const keys = new Set((await durable.ledger.list({ limit: 1_000 })).entries.map(({ key }) => key))
    const begunBefore = pool[0]?.calls.settle ?? 0
    const cutting = payloads.map(payload => settle(first, payload).catch(() => 'cut' as const))
    await vi.waitFor(() => expect((pool[0]?.calls.settle ?? 0) - begunBefore).toBeGreaterThanOrEqual(5), {
      timeout: 30_000,
      interval: 5,
    })
    await first.end('SIGKILL')
    const cut = await Promise.all(cutting)
    await chain.nextBlocks(3)
    const wasCharged = await Promise.all(payloads.map(isSpent))
    expect(wasCharged).toContain(true)
    const recorded = (await durable.ledger.list({ limit: 1_000 })).entries.filter(({ key }) => !keys.has(key))
    expect(recorded.some(({ settlement }) => settlement.state === 'settling')).toBe(true)
    const nonceOf = ({ payload }: PaymentPayload) =>
      (payload.authorization as { nonce: Hex }).nonce.toLowerCase()
    const stateOf = (payload: PaymentPayload) =>
      recorded.find(({ query }) => query.nonce === nonceOf(payload))?.settlement.state

    const second = await startGateway()
    const early = await Promise.all(payloads.map(payload => settle(second, payload)))
    for (const [index, payload] of payloads.entries())
      if (stateOf(payload) === 'settling') expect(early[index]?.error).toBe('SETTLEMENT_IN_PROGRESS')
    await durable.lapse()
    const late = await Promise.all(payloads.map(payload => settle(second, payload)))

    for (const [index, payload] of payloads.entries()) {
      const delivered = [cut[index] ?? 'cut', early[index] ?? {}, late[index] ?? {}].filter(isSuccess).length
      // What was recorded as delivered just before the kill may have lost its answer with the process.
      if (stateOf(payload) === 'settled') expect(delivered).toBeLessThan(2)
      else expect(delivered).toBe(1)
    }
    expect(await Promise.all(payloads.map(isSpent))).toEqual(payloads.map(() => true))
  })
})
