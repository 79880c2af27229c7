/** Protocol version 1 names networks, version 2 uses CAIP-2: one payment must not have two names. */

/** By version 1 name: the chain id of an EVM chain, or the genesis hash of a Solana cluster. */
const references: Readonly<Record<string, number | string>> = {
  abstract: 2741,
  'abstract-testnet': 11124,
  avalanche: 43114,
  'avalanche-fuji': 43113,
  base: 8453,
  'base-sepolia': 84532,
  bsc: 56,
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
  solana: '5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp',
  'solana-devnet': 'EtWTRABZaYq6iMfeYKouRu166VU2xqa1',
  'solana-testnet': '4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z',
  stable: 988,
  'stable-testnet': 2201,
  story: 1514,
  xdc: 50,
}

/** The CAIP-2 name of a network; what is not a version 1 name known here stays as it is. */
export function caip2(network: string): string {
  if (!Object.hasOwn(references, network)) return network
  const reference = references[network]
  return `${typeof reference === 'number' ? 'eip155' : 'solana'}:${reference}`
}
