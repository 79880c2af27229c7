/** `@solana/kit`, an optional peer: whoever bundles `./env` for another chain need not have it. */

/** There once `loadKit` has ended. */
export let kit: typeof import('@solana/kit')

/** @throws {Error} when it is not installed */
export async function loadKit(): Promise<void> {
  // Bundlers take an import that may fail for optional only inside a `try`.
  try {
    kit ??= await import('@solana/kit')
  } catch (cause) {
    throw new Error(
      'payments are not looked up on Solana, as that needs @solana/kit: npm install @solana/kit',
      { cause },
    )
  }
}
