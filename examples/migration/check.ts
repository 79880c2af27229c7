/** Measures the migrations: how many lines change besides imports, and whether both sides compile. */
import { readFile } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { runToEnd } from '../runner/program.ts'

/** What the README promises. */
const mostChangedLines = 2

/**
 * @returns what changes, a sentence
 * @throws when more changes than promised, or one side does not compile
 */
export async function checkMigration(): Promise<string> {
  const counts: string[] = []
  for (const version of ['v2', 'v1']) {
    const { removed, added } = differenceOf(await linesOf(version, 'before'), await linesOf(version, 'after'))
    console.log(
      [
        `migration of ${version}, besides imports:`,
        ...removed.map(line => `  - ${line}`),
        ...added.map(line => `  + ${line}`),
      ].join('\n'),
    )
    const changed = Math.max(removed.length, added.length)
    if (changed > mostChangedLines)
      throw new Error(`${version} changes ${changed} lines; ${mostChangedLines} are promised`)
    counts.push(`${changed} in ${version}`)
  }
  const examples = fileURLToPath(new URL('../', import.meta.url))
  await runToEnd('the type check of the examples', {
    command: process.execPath,
    args: [createRequire(import.meta.url).resolve('typescript/bin/tsc'), '--noEmit', '-p', examples],
    cwd: examples,
    env: {},
  })
  return `lines changed: ${counts.join(', ')}; both sides compile`
}

async function linesOf(version: string, side: string): Promise<string[]> {
  const text = await readFile(new URL(`${version}/${side}.ts`, import.meta.url), 'utf8')
  return text.split('\n').filter(line => !line.startsWith('import '))
}

/** From the first line that differs to the last. */
function differenceOf(before: string[], after: string[]): { removed: string[]; added: string[] } {
  const shorter = Math.min(before.length, after.length)
  let start = 0
  while (start < shorter && before[start] === after[start]) start++
  let end = 0
  while (end < shorter - start && before.at(-1 - end) === after.at(-1 - end)) end++
  return { removed: before.slice(start, before.length - end), added: after.slice(start, after.length - end) }
}
