/** Text of strangers on a terminal: what would move its cursor, colour it or turn its direction is shown as an escape. */

const unprintable = /[\p{Cc}\p{Cf}\u2028\u2029]/gu

/** The text on one line. */
export function printable(text: string): string {
  return text.replace(unprintable, escaped)
}

/** JSON on as many lines as it has; what is escaped in it is in its texts. */
export function printableJson(value: unknown): string {
  return JSON.stringify(value, null, 2).replace(unprintable, character =>
    character === '\n' ? character : escaped(character),
  )
}

function escaped(character: string): string {
  return Array.from({ length: character.length }, (_, index) => character.charCodeAt(index))
    .map(unit => `\\u${unit.toString(16).padStart(4, '0')}`)
    .join('')
}

/** The text without credentials, paths and queries of its URLs, which may hold keys. */
export function withoutKeys(text: string): string {
  return text
    .replace(/\b([a-z][a-z\d+.-]*:\/\/)[^\s/?#]*@/gi, '$1')
    .replace(/(:\/\/[^\s/?#"'`()]+)[/?#][^\s"'`()]+/g, '$1/…')
}
