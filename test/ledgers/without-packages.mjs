// Loaded before a command, this makes a runtime in which the packages that WITHOUT_PACKAGES names are not installed.
import { register } from 'node:module'

const missing = JSON.stringify(process.env.WITHOUT_PACKAGES.split(','))
const hooks = `export function resolve(name, context, next) {
  if (!${missing}.includes(name)) return next(name, context)
  throw Object.assign(new Error('none'), { code: 'ERR_MODULE_NOT_FOUND' })
}`
register(`data:text/javascript,${encodeURIComponent(hooks)}`)
