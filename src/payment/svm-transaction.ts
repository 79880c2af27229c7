/** Finds the message in the bytes of a Solana transaction (docs: "Transaction format", legacy and version 0). */

/** Letters of base64: many times those of a packet (1,232 bytes), which is all that the network takes. */
const longestText = 32_768

/** The bytes of base64 in its one canonical spelling; `undefined` for any other text. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  if (text.length > longestText) return undefined
  try {
    const letters = atob(text)
    return btoa(letters) === text ? Uint8Array.from(letters, letter => letter.charCodeAt(0)) : undefined
  } catch {
    return undefined
  }
}

interface SvmTransaction {
  /** What is signed. */
  readonly message: Uint8Array<ArrayBuffer>
  /** It may outlive its blockhash, which is the value of a nonce account. */
  readonly usesDurableNonce: boolean
}

/** `undefined` when the bytes are not those of one whole transaction and nothing else. */
export function readSvmTransaction(transaction: Uint8Array<ArrayBuffer>): SvmTransaction | undefined {
  let at = 0
  /** The first byte of the first instruction's data. */
  let command: number | undefined
  const nextByte = () => transaction[at++] ?? 0
  const skip = (bytes: number) => {
    at += bytes
  }
  /** A compact-u16: seven bits to a byte, the lowest first. Not a number, which ends every loop, in a longer spelling. */
  const nextCount = () => {
    let count = 0
    for (let shift = 0; shift < 21; shift += 7) {
      const byte = nextByte()
      count |= (byte & 0x7f) << shift
      const isLonger = shift > 0 && byte === 0
      if (byte < 0x80) return isLonger || count > 0xffff ? Number.NaN : count
    }
    return Number.NaN
  }
  /** Items of so many bytes and two lists of bytes. */
  const skipEach = (bytes: number) => {
    for (let items = nextCount(); items > 0; items--) {
      skip(bytes)
      skip(nextCount())
      const length = nextCount()
      command ??= transaction[at]
      skip(length)
    }
  }

  const signatures = nextCount()
  skip(signatures * 64)
  const begin = at
  const isVersioned = ((transaction[begin] ?? 0) & 0x80) !== 0
  if (isVersioned && nextByte() !== 0x80) return undefined
  // How many of the accounts sign, and how many of which are read-only.
  skip(3)
  skip(nextCount() * 32)
  // The recent blockhash.
  skip(32)
  // Instructions begin with their program, lookups of addresses with their table; two lists of bytes follow in each.
  skipEach(1)
  if (isVersioned) skipEach(32)
  // The system program's AdvanceNonceAccount is 4. What else begins so is kept longer than need be.
  return signatures > 0 && at === transaction.length
    ? { message: transaction.subarray(begin), usesDurableNonce: command === 4 }
    : undefined
}
