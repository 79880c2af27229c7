/** `x402-aggregator reconcile`, as a bookkeeper calls it. */
import { execFile } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type PrivateKeyAccount, toHex } from 'viem'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { sqliteLedger } from '../../src/sqlite/index.ts'
import { type Chain, startChain } from '../bed/chain.ts'
import { hasSqlite } from '../ledgers/servers.ts'
import { transferring } from './probe-payments.ts'

const payTo = '0x000000000000000000000000000000000000bEEF'
const tsx = import.meta.resolve('tsx')
const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))
const folder = mkdtempSync(join(tmpdir(), 'x402-reconcile-'))
const path = join(folder, 'books.db')

let chain: Chain
let payer: PrivateKeyAccount

const run = (args: string[], env: Record<string, string> = {}) =>
  promisify(execFile)(process.execPath, ['--import', tsx, main, 'reconcile', ...args], {
    env: { ...process.env, ...env },
  }).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )

const usual = () => [
  ...['--ledger', `sqlite:${path}`, '--network', 'base-sepolia', '--pay-to', payTo],
  ...['--asset', chain.token.address, '--confirmations', '1', '--from', '0'],
]
const node = () => ({ RPC_URL_84532: chain.rpcUrl })

describe.skipIf(!(await hasSqlite()))('x402-aggregator reconcile', () => {
  beforeAll(async () => {
    chain = await startChain({ blockTimeSeconds: 0.2 })
    payer = await chain.newAccount('1')
    await chain.mint(payer.address, 1_000_000n)
    const ledger = sqliteLedger({ path })
    await ledger.migrate()
    for (const state of ['settled', 'unresolved'] as const) {
      const nonce = toHex(state === 'settled' ? 1 : 2, { size: 32 })
      const { target: to, callData: data } = await transferring(chain, payer, {
        nonce,
        to: payTo,
        value: 1_000n,
      })
      const transaction = await chain.walletOf(payer).sendTransaction({ to, data })
      await chain.client.waitForTransactionReceipt({ hash: transaction })
      const { network, token } = chain
      const asset = token.address
      const key = `eip3009|${network}|${asset.toLowerCase()}|${payer.address.toLowerCase()}|${nonce}`
      const query = {
        method: 'eip3009',
        network,
        asset,
        payer: payer.address,
        nonce,
        payTo,
        amount: '1000',
      } as const
      const claim = crypto.randomUUID()
      await ledger.claim({ key, fingerprint: key, query, claim, leaseMs: 60_000 })
      await ledger.update({
        key,
        claim,
        settlement: state === 'settled' ? { state, transaction } : { state, transaction },
      })
    }
    await ledger.close()
    await chain.nextBlocks(1)
  })
  afterAll(() => {
    chain.stop()
    rmSync(folder, { recursive: true })
  })

  it('names what was paid and not delivered, and ends with exit code 1', async () => {
    const { code, stdout, stderr } = await run(usual(), node())
    expect([code, stderr]).toEqual([1, ''])
    expect(stdout).toMatch(
      /^paid-not-delivered: 1000 from 0x\w{40} in 0x\w{64}: The settlement is unresolved\. eip3009\|/,
    )
    expect(stdout).toContain('2 transfers of 2000 to ')
    expect(stdout).toMatch(/1 found\n$/)
  })

  it('writes JSON and CSV for other programs', async () => {
    const json = await run([...usual(), '--json', '--rpc-url', chain.rpcUrl])
    expect(json.code).toBe(1)
    expect(JSON.parse(json.stdout)).toMatchObject({
      network: chain.network,
      transfers: 2,
      findings: [{ kind: 'paid-not-delivered', payment: { state: 'unresolved', amount: '1000' } }],
    })
    const csv = await run([...usual(), '--csv', '--rpc-url', chain.rpcUrl])
    const [head, row] = csv.stdout.split('\r\n')
    expect(head).toBe('kind,reason,transaction,block,received,payer,state,price,time,resource,key')
    expect(row).toMatch(
      /^paid-not-delivered,The settlement is unresolved\.,0x\w{64},\d+,1000,0x\w{40},unresolved,1000,/,
    )
    expect(csv.stderr).toContain('not seen: ledger: ')
  })

  it('keeps its progress, and starts no second time what is done', async () => {
    const file = join(folder, 'progress.json')
    expect((await run([...usual(), '--resume', file], node())).code).toBe(1)
    const progress = JSON.parse(readFileSync(file, 'utf8'))
    expect(progress.nextBlock).toBe(progress.toBlock + 1)
    // Half of it, by a run that was interrupted.
    writeFileSync(
      file,
      JSON.stringify({ ...progress, nextBlock: progress.toBlock, findings: [], transfers: 0 }),
    )
    const { stdout } = await run([...usual(), '--resume', file, '--json'], node())
    expect(JSON.parse(stdout)).toMatchObject({ transfers: 0, findings: [], nextBlock: progress.toBlock + 1 })
  })

  it('ends with exit code 3 where it found nothing, and did not see all', async () => {
    const { code, stdout } = await run([...usual(), '--to', '1'], node())
    expect([code, stdout]).toEqual([3, expect.stringContaining('not seen: ledger: ')])
  })

  it('takes times, and then sees the same', async () => {
    const { code, stdout } = await run([...usual(), '--from', '24h', '--json'], node())
    expect([code, JSON.parse(stdout).transfers]).toEqual([1, 2])
  })

  it.each([
    [['--from', 'yesterday'], '--from: expected the number of a block, or a time such as 24h'],
    [['--from', '9', '--to', '8'], '--from: is after `to`'],
    [['--pay-to', '0x12'], '--pay-to: expected an address of 20 bytes'],
    [['--network', 'bese'], 'give --rpc-url, or set RPC_URL_bese'],
    [['--network', 'solana', '--rpc-url', 'http://127.0.0.1:9'], '--network: expected an EVM chain'],
    [['--rpc-url', 'http://127.0.0.1:9/key-1a2b3c'], 'the nodes of eip155:84532 failed'],
    [['--asset', payTo], 'asset: there is no contract at'],
    [['--json', '--csv'], 'give either --json or --csv'],
    [['--ledger', 'memory'], '--ledger memory: it is forgotten with its process'],
    [['--ledger', 'sqlite:./no-such.db'], 'there is no such file'],
    [['--confirmations', 'many'], '--confirmations: expected a whole number from 1'],
    [['--resume', main], 'is not the progress of a reconciliation'],
    [['--pay-ot', payTo], 'did you mean --pay-to?'],
  ])('%j ends with one line and its remedy', async (args, message) => {
    const { code, stderr, stdout } = await run([...usual(), ...args], node())
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(message)
    expect(stderr).not.toContain('1a2b3c')
    expect(stderr.trim().split('\n')).toHaveLength(1)
    expect(existsSync('no-such.db')).toBe(false)
  })

  it('names the option that is missing, and lists all with --help', async () => {
    const { code, stderr } = await run(['--pay-to', payTo])
    expect([code, stderr]).toEqual([
      2,
      expect.stringContaining('--network is missing; for example --network eip155:8453'),
    ])
    expect((await run(['--help'])).stdout).toContain('usage: x402-aggregator reconcile')
  })
})
