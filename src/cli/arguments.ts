/** The options of a command, as they were typed. */
import { type ParseArgsConfig, parseArgs } from 'node:util'
import { nearest } from '../options/nearest.ts'
import { UsageError } from './usage-error.ts'

/** @throws {UsageError} that names the option that was meant, or where to find what there is */
export function readArguments<const T extends ParseArgsConfig>(config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config)
  } catch (error) {
    const { code = '', message } = error as NodeJS.ErrnoException
    if (!code.startsWith('ERR_PARSE_ARGS')) throw error
    const [problem = ''] = message.split(/\.\s/, 1)
    const unknown = /^Unknown option '--([^']+)'/.exec(problem)?.[1]
    const meant = unknown === undefined ? undefined : nearest(unknown, Object.keys(config.options ?? {}))
    throw new UsageError(
      `${problem}; ${meant === undefined ? '' : `did you mean --${meant}? `}--help lists the options`,
    )
  }
}
