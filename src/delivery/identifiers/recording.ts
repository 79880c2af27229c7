/** What is kept of a reply while it is sent. */
import { mostBytes, type Reply, tooLong } from './replies.ts'

export class Recording {
  #text = ''
  #bytes = 0

  add(chunk: Uint8Array): void {
    this.#bytes += chunk.byteLength
    if (this.#bytes > mostBytes) this.#text = ''
    else for (const byte of chunk) this.#text += String.fromCharCode(byte)
  }

  /** The whole reply, or what is answered in its place when it is too long to keep. */
  reply(status: number, headers: Reply['headers']): Reply {
    return this.#bytes > mostBytes ? tooLong : { status, headers, body: btoa(this.#text) }
  }
}
