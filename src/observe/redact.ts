/** Keeps secrets out of logs, events, errors and status pages. */

const longest = 200
/** Characters that are searched: some patterns take the square of their number. */
const longestSearched = 2_000

/**
 * A part of a path with a digit or a capital letter in it may be an API key, as nodes and some facilitators take them; a
 * version, a hash and an address are none.
 */
const keyInPath = /(?<=\/)(?!(v\d+|x402|0x[\da-f]{40,64})(\/|$))[^/]*[\dA-Z][^/]*/g

const secrets: readonly (readonly [RegExp, string])[] = [
  [/-----BEGIN .*?(-----END [^-]*-----|$)/g, '[redacted key]'],
  [/\b(Bearer|Basic|Token|ApiKey)\s+[\w.~+/=-]+/gi, '$1 [redacted]'],
  [/\beyJ[\w-]+\.[\w-]+(\.[\w-]*)?/g, '[redacted token]'],
  [/\b(https?:\/\/)[^\s/@]+@/gi, '$1[redacted]@'],
  [/([?&][^=\s&]+=)[^&\s"']+/g, '$1[redacted]'],
  [
    /("?(?:signature|authorization|api[_-]?key|secret|token|password)"?\s*[:=]\s*)("[^"]*"|[^\s,}]+)/gi,
    '$1[redacted]',
  ],
  // In hexadecimal longer than a hash (64 digits): a signature, call data or a payload. Addresses and hashes stay.
  [/[\w+/-]{80,}={0,2}|\b(0x)?[\da-f]{65,}/gi, '[redacted bytes]'],
]

/** The text on one line, without anything that looks like a credential, a signature or a payload. */
export function redact(text: string): string {
  if (plainReason.test(text)) return text
  let clean = printable(text, longestSearched).replace(
    /(https?:\/\/[^\s/]+)(\/[^\s?#"'()<>]*)/gi,
    (_url, origin: string, path: string) => origin + path.replace(keyInPath, '[redacted]'),
  )
  for (const [pattern, replacement] of secrets) clean = clean.replace(pattern, replacement)
  return clean.length <= longest ? clean : `${printable(clean, longest - 1)}…`
}

/**
 * The beginning of a text from outside, on one line, without what a terminal obeys or nobody sees. It is a copy: a part of
 * a text would keep all of it in memory.
 */
export function printable(text: string, longest: number): string {
  return [...text.slice(0, longest).replace(/\s+/g, ' ').replace(/\p{C}/gu, '\ufffd').trim()].join('')
}

/** The protocol's own reasons and the codes of network errors need no search. */
const plainReason = /^[A-Za-z_]\w{0,63}$/

/** What was thrown, in words that may be shown. */
export function safeMessageOf(thrown: unknown): string {
  return redact(messageOf(thrown))
}

/** What was thrown, in words that are not redacted yet. Anything may be thrown, even what has no words. */
export function messageOf(thrown: unknown): string {
  try {
    return String(thrown instanceof Error ? thrown.message : thrown)
  } catch {
    return 'an error that cannot be read'
  }
}
