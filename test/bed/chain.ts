/** A chain with a token on it, and the means to look at balances and to change them. */

import { readFile } from 'node:fs/promises'
import {
  type Address,
  createTestClient,
  createWalletClient,
  defineChain,
  type Hex,
  http,
  type PrivateKeyAccount,
  parseEther,
  publicActions,
  type Chain as ViemChain,
} from 'viem'
import { generatePrivateKey, privateKeyToAccount } from 'viem/accounts'
import { startAnvil } from './anvil.ts'

/** Base Sepolia's id, so that the version 1 name `base-sepolia` means this chain too. */
const chainId = 84532
/** Where every chain has Multicall3; upstream's facilitator asks it why a simulated transfer failed. */
const multicall3 = '0xcA11bde05977b3631167028862bE2a173976CA11'

interface Artifact {
  abi: readonly unknown[]
  bytecode: Hex
  deployedBytecode: Hex
}

export type Chain = Awaited<ReturnType<typeof startChain>>

export async function startChain(options: { blockTimeSeconds?: number } = {}) {
  const anvil = await startAnvil(chainId, options.blockTimeSeconds ?? 1)
  const [tokenArtifact, multicallArtifact] = await Promise.all([
    readArtifact('TestToken'),
    readArtifact('Multicall3'),
  ])
  const { abi } = tokenArtifact

  const viemChain: ViemChain = defineChain({
    id: chainId,
    name: 'anvil',
    nativeCurrency: { name: 'Ether', symbol: 'ETH', decimals: 18 },
    rpcUrls: { default: { http: [anvil.rpcUrl] } },
  })
  const client = createTestClient({
    chain: viemChain,
    mode: 'anvil',
    transport: http(anvil.rpcUrl),
    pollingInterval: 50,
    cacheTime: 0,
  }).extend(publicActions)

  async function newAccount(etherBalance = '0'): Promise<PrivateKeyAccount> {
    const account = privateKeyToAccount(generatePrivateKey())
    if (etherBalance !== '0') await setEther(account.address, etherBalance)
    return account
  }
  const setEther = (address: Address, ether: string) =>
    client.setBalance({ address, value: parseEther(ether) })
  const walletOf = (account: PrivateKeyAccount) =>
    createWalletClient({ account, chain: viemChain, transport: http(anvil.rpcUrl) })

  const deployer = walletOf(await newAccount('1000'))
  const mined = (hash: Hex) => client.waitForTransactionReceipt({ hash })
  await client.setCode({ address: multicall3, bytecode: multicallArtifact.deployedBytecode })
  const deployment = await deployer.deployContract({ abi, bytecode: tokenArtifact.bytecode })
  await client.mine({ blocks: 1 })
  const { contractAddress } = await mined(deployment)
  if (!contractAddress) throw new Error('the token was not deployed')
  const address = contractAddress

  const readToken = (functionName: string, args: readonly unknown[]) =>
    client.readContract({ address, abi, functionName, args })

  // The transactions of one key must follow each other.
  let lastMint: Promise<unknown> = Promise.resolve()

  return {
    rpcUrl: anvil.rpcUrl,
    chainId,
    network: `eip155:${chainId}` as const,
    viemChain,
    client,
    token: { address, abi, name: 'Test USD Coin', version: '2' },
    newAccount,
    setEther,
    walletOf,
    /** Tokens are counted in their atomic units: a millionth each. */
    balanceOf: async (owner: Address) => (await readToken('balanceOf', [owner])) as bigint,
    isSpent: async (from: Address, nonce: Hex) =>
      (await readToken('authorizationState', [from, nonce])) as boolean,
    async mint(to: Address, amount: bigint) {
      const send = () => deployer.writeContract({ address, abi, functionName: 'mint', args: [to, amount] })
      const sent = lastMint.then(send, send)
      lastMint = sent
      await mined(await sent)
    },
    /** Waits until this many more blocks are mined. */
    async nextBlocks(count: number) {
      const from = await client.getBlockNumber()
      while ((await client.getBlockNumber()) < from + BigInt(count))
        await new Promise(resolve => setTimeout(resolve, 50))
    },
    /** Replaces the newest blocks by empty ones. */
    reorganize: (depth: number) =>
      client.request<{ Parameters: [number, []]; ReturnType: null }>({
        method: 'anvil_reorg',
        params: [depth, []],
      }),
    stop: anvil.stop,
  }
}

export async function readArtifact(name: string): Promise<Artifact> {
  return JSON.parse(await readFile(new URL(`../contracts/${name}.artifact.json`, import.meta.url), 'utf8'))
}
