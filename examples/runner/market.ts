/** What the examples trade on: Base Sepolia in small, three facilitators of which some are dead, and a buyer. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { type Buyer, createBuyer } from '../../test/bed/buyer.ts'
import { type Chain, startChain } from '../../test/bed/chain.ts'
import { startFacilitator, type TestFacilitator } from '../../test/bed/facilitator.ts'

type Address = Chain['token']['address']

/** What upstream takes "$0.01" on Base Sepolia for. */
const usdc = { address: '0x036CbD53842c5426634e7929541eC2318f3dCF7e', name: 'USDC' } as const

export interface Market {
  readonly chain: Chain
  readonly buyer: Buyer
  openFacilitators(): Promise<TestFacilitator[]>
  close(): void
}

export async function openMarket(): Promise<Market> {
  const local = await startChain({ blockTimeSeconds: 0.5 })
  const chain = await withUsdc(local)
  return {
    chain,
    buyer: await createBuyer(chain),
    openFacilitators: () =>
      Promise.all(['first', 'second', 'third'].map(id => startFacilitator({ chain, id }))),
    close: chain.stop,
  }
}

/** The test token under USDC's name and at its address, so that the examples' prices are in dollars. */
async function withUsdc(chain: Chain): Promise<Chain> {
  const { abi } = chain.token
  const token = { ...chain.token, ...usdc }
  await chain.client.setCode({ address: usdc.address, bytecode: await compileToken(usdc.name) })
  const minter = chain.walletOf(await chain.newAccount('10'))
  return {
    ...chain,
    token,
    async balanceOf(owner: Address) {
      const call = { address: token.address, abi, functionName: 'balanceOf', args: [owner] }
      return (await chain.client.readContract(call)) as bigint
    },
    async mint(to: Address, amount: bigint) {
      const call = { address: token.address, abi, functionName: 'mint', args: [to, amount] }
      await chain.client.waitForTransactionReceipt({ hash: await minter.writeContract(call) })
    },
  }
}

/** A token's name is part of what buyers sign, and a constant of the contract. */
async function compileToken(name: string): Promise<`0x${string}`> {
  const contracts = new URL('../../test/contracts/', import.meta.url)
  const solc = createRequire(contracts)('solc') as { compile(input: string): string }
  const source = await readFile(new URL('TestToken.sol', contracts), 'utf8')
  const settings = {
    optimizer: { enabled: true, runs: 200 },
    evmVersion: 'paris',
    outputSelection: { '*': { TestToken: ['evm.deployedBytecode.object'] } },
  }
  const sources = { token: { content: source.replace('Test USD Coin', name) } }
  const output = JSON.parse(solc.compile(JSON.stringify({ language: 'Solidity', sources, settings })))
  return `0x${output.contracts.token.TestToken.evm.deployedBytecode.object}`
}
