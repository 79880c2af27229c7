/** Finds the message in the bytes of a Solana transaction (docs: "Transaction format", legacy and version 0). */

/** Letters of base64 of a packet (1,232 bytes), which is all that the network takes. */
const longestText = 1_644

/** The bytes of base64 in its one canonical spelling; `undefined` for any other text. */
function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (text.length > longestText) return undefined
  try {
    const letters = atob(text)
    return btoa(letters) === text ? Uint8Array.from(letters, letter => letter.charCodeAt(0)) : undefined
  } catch {
    return undefined
  }
}

/**
 * What is signed of a transaction in base64; `undefined` when its bytes are not those of one whole transaction and
 * nothing else.
 */
export function messageOfSvm(text: string): Uint8Array<ArrayBuffer> | undefined {
  const transaction = fromBase64(text)
  if (!transaction) return undefined
  let at = 0
  const nextByte = () => transaction[at++] ?? 0
  const skip = (bytes: number) => {
    at += bytes
  }
  /** A compact-u16: seven bits to a byte, the lowest first. Not a number, which ends every loop, in a longer spelling. */
  const nextCount = () => {
    let count = 0
    for (let shift = 0; ; shift += 7) {
      const byte = nextByte()
      count |= (byte & 0x7f) << shift
      const isLonger = shift > 0 && byte === 0
      if (isLonger || count > 0xffff || shift > 20) return Number.NaN
      if (byte < 0x80) return count
    }
  }
  /** Items of so many bytes and two lists of bytes. */
  const skipEach = (bytes: number) => {
    for (let items = nextCount(); items > 0; items--) {
      skip(bytes)
      skip(nextCount())
      skip(nextCount())
    }
  }

  const signatures = nextCount()
  skip(signatures * 64)
  const begin = at
  const isVersioned = (transaction[begin] ?? 0) >= 0x80
  if (isVersioned && nextByte() > 0x80) return undefined
  // How many of the accounts sign, and how many of which are read-only.
  skip(3)
  // The accounts, and the recent blockhash.
  skip(nextCount() * 32 + 32)
  // Instructions begin with their program, lookups of addresses with their table; two lists of bytes follow in each.
  skipEach(1)
  if (isVersioned) skipEach(32)
  return signatures > 0 && at === transaction.length ? transaction.subarray(begin) : undefined
}
