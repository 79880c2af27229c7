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

/** What is signed; `undefined` when the bytes are not those of one whole transaction and nothing else. */
export function messageOfSvm(transaction: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> | undefined {
  const reader = new Reader(transaction)
  const signatures = reader.count()
  reader.skip(signatures * 64)
  const begin = reader.at
  const isVersioned = ((transaction[begin] ?? 0) & 0x80) !== 0
  if (isVersioned && reader.byte() !== 0x80) return undefined
  // How many of the accounts sign, and how many of which are read-only.
  reader.skip(3)
  reader.skip(reader.count() * 32)
  // The recent blockhash.
  reader.skip(32)
  // Instructions begin with their program, lookups of addresses with their table; two lists of bytes follow in each.
  reader.skipEach(1)
  if (isVersioned) reader.skipEach(32)
  return signatures > 0 && reader.at === transaction.length ? transaction.subarray(begin) : undefined
}

/**
 * Whether a message may outlive its blockhash: its first instruction is the system program's AdvanceNonceAccount (4), and
 * the "blockhash" the value of a nonce account.
 */
export function usesDurableNonce(message: Uint8Array): boolean {
  const reader = new Reader(message)
  if (((message[0] ?? 0) & 0x80) !== 0) reader.skip(1)
  reader.skip(3)
  const accounts = reader.count()
  const accountsAt = reader.at
  reader.skip(accounts * 32 + 32)
  reader.count()
  const programAt = accountsAt + reader.byte() * 32
  reader.skip(reader.count())
  reader.count()
  return reader.byte() === 4 && message.subarray(programAt, programAt + 32).every(byte => byte === 0)
}

class Reader {
  at = 0

  constructor(private readonly bytes: Uint8Array) {}

  byte(): number {
    return this.bytes[this.at++] ?? 0
  }

  skip(bytes: number): void {
    this.at += bytes
  }

  /** Items of so many bytes and two lists of bytes. */
  skipEach(bytes: number): void {
    for (let items = this.count(); items > 0; items--) {
      this.skip(bytes)
      this.skip(this.count())
      this.skip(this.count())
    }
  }

  /** A compact-u16: seven bits to a byte, the lowest first. Not a number, which ends every loop, in a longer spelling. */
  count(): number {
    const first = this.byte()
    if (first < 0x80) return first
    const second = this.byte()
    if (second < 0x80) return second === 0 ? Number.NaN : (first & 0x7f) | (second << 7)
    const third = this.byte()
    return third === 0 || third > 3 ? Number.NaN : (first & 0x7f) | ((second & 0x7f) << 7) | (third << 14)
  }
}
