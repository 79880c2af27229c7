/** Protocol version 1 names networks, version 2 uses CAIP-2: one payment must not have two names. */

const evmChainIds: Record<string, number> = {
  abstract: 2741,
  'abstract-testnet': 11124,
  avalanche: 43114,
  'avalanche-fuji': 43113,
  base: 8453,
  'base-sepolia': 84532,
  celo: 42220,
  educhain: 41923,
  ethereum: 1,
  flare: 14,
  iotex: 4689,
  megaeth: 4326,
  monad: 143,
  peaq: 3338,
  polygon: 137,
  'polygon-amoy': 80002,
  sei: 1329,
  'sei-testnet': 1328,
  sepolia: 11155111,
  'skale-base-sepolia': 324705682,
  stable: 988,
  'stable-testnet': 2201,
  story: 1514,
}

const solanaClusters: Record<string, string> = {
  solana: '5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp',
  'solana-devnet': 'EtWTRABZaYq6iMfeYKouRu166VU2xqa1',
}

/** The CAIP-2 name of a network; `undefined` for a version 1 name that nobody here knows. */
export function caip2(network: string): string | undefined {
  if (network.includes(':')) return network
  const chainId = evmChainIds[network]
  if (chainId !== undefined) return `eip155:${chainId}`
  const cluster = solanaClusters[network]
  return cluster && `solana:${cluster}`
}
