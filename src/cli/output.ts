/** What commands write for a spreadsheet or another program. */
import { once } from 'node:events'
import { printable } from './printable.ts'

/** A spreadsheet would run what begins like a formula. */
export function csvCell(value: string): string {
  const text = printable(value)
  const plain = /^\s*[=+\-@|%]/.test(text) ? `'${text}` : text
  return /[",']/.test(plain) ? `"${plain.replaceAll('"', '""')}"` : plain
}

/** @returns false when nobody reads any more, as after `| head` */
export async function writeOut(text: string): Promise<boolean> {
  const { stdout } = process
  if (stdout.listenerCount('error') === 0) stdout.on('error', () => {})
  if (!stdout.write(text)) await Promise.race([once(stdout, 'drain'), once(stdout, 'close')]).catch(() => {})
  return !stdout.destroyed && stdout.writable
}
