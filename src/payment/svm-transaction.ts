/** Finds the message in the bytes of a Solana transaction (docs: "Transaction format", legacy and version 0). */

/** The bytes of base64 in its one canonical spelling; `undefined` for any other text. */
export function fromBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
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
    let count = 0
    for (let shift = 0; shift < 21; shift += 7) {
      const byte = this.byte()
      count |= (byte & 0x7f) << shift
      const isLonger = shift > 0 && byte === 0
      if (byte < 0x80) return isLonger || count > 0xffff ? Number.NaN : count
    }
    return Number.NaN
  }
}
