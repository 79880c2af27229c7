/** SHA-256 in hexadecimal, with what every runtime has. */
export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  const digest = await crypto.subtle.digest('SHA-256', bytes)
  return Array.from(new Uint8Array(digest), byte => (byte + 256).toString(16).slice(1)).join('')
}
