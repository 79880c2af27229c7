/** The same address in the same letters: hexadecimal ones have no case, Solana's base58 ones do. */
export function foldAddress(address: string): string {
  return address.startsWith('0x') ? address.toLowerCase() : address
}
