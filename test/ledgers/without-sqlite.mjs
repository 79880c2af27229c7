// Loaded before a command, this makes a runtime without SQLite of any.
import { register } from 'node:module'

process.getBuiltinModule = undefined
const hooks = `export function resolve(name, context, next) {
  if (name !== 'better-sqlite3') return next(name, context)
  throw Object.assign(new Error('none'), { code: 'ERR_MODULE_NOT_FOUND' })
}`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)
