/** What names from outside may look like: they are kept, shown and logged. */

/** CAIP-2 (`eip155:8453`, generous enough for the hashes that some chains use), or a version 1 name (`base`). */
export const networkName = /^([-a-z\d]{3,12}:)?[-\w.+/=]{1,64}$/

/** A scheme, an extension, a signer, an amount: text without blanks and control characters. */
export const plainName = /^[!-~]{1,128}$/

/** A token, a payee: some chains' names are paths. */
export const longName = /^[!-~]{1,256}$/
