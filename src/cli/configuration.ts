/** The variables that a command works with: those of its environment, over those of a JSON file. */
import { readFile } from 'node:fs/promises'
import type { Environment } from '../env/index.ts'
import { isVariable, meantBy } from '../env/names.ts'
import { UsageError } from './usage-error.ts'

/**
 * @param path of a JSON object whose names are the variables'
 * @throws {UsageError} that says what is wrong with the file
 */
export async function readConfiguration(path: string | undefined): Promise<Environment> {
  if (path === undefined) return process.env
  const file = await readJson(path)
  if (typeof file !== 'object' || file === null || Array.isArray(file))
    throw new UsageError(`${path}: expected a JSON object such as { "FACILITATOR_1_URL": "https://…" }`)
  const problems = Object.entries(file).flatMap(([name, value]) => {
    if (!isVariable(name)) {
      const meant = meantBy(name)
      return [`${name} is not a variable${meant === undefined ? '' : `, did you mean ${meant}?`}`]
    }
    return ['string', 'number', 'boolean'].includes(typeof value)
      ? []
      : [`${name}: expected a text, a number, true or false`]
  })
  if (problems.length > 0) throw new UsageError(`${path}: ${problems.join('; ')}`)
  const variables = Object.entries(file).map(([name, value]) => [name, String(value)])
  const set = Object.entries(process.env).filter(([, value]) => value !== '')
  return { ...Object.fromEntries(variables), ...Object.fromEntries(set) }
}

const readProblems: Readonly<Record<string, string>> = {
  ENOENT: 'there is no such file',
  EISDIR: 'is a folder; give a file',
  EACCES: 'may not be read by this user',
}

async function readJson(path: string): Promise<unknown> {
  let text: string
  try {
    text = await readFile(path, 'utf8')
  } catch (error) {
    const { code = '' } = error as NodeJS.ErrnoException
    throw new UsageError(`--config ${path}: ${readProblems[code] ?? error}`)
  }
  try {
    return JSON.parse(text)
  } catch {
    // The error's message quotes the file, secrets and all.
    throw new UsageError(
      `${path}: is not JSON; expected an object such as { "FACILITATOR_1_URL": "https://…" }`,
    )
  }
}
