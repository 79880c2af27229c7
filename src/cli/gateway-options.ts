/** The options of a gateway that variables can hold. */
import { type Environment, Variables } from '../env/variables.ts'
import { Access, type GatewayToken, type Role } from '../http/access.ts'
import { ClientAddresses } from '../http/client-address.ts'
import type { GatewayOptions } from '../http/gateway.ts'
import { readHost } from '../http/request-checks.ts'

const tokenVariables: Readonly<Record<Role, string>> = {
  pay: 'FACILITATOR_GATEWAY_TOKEN',
  read: 'FACILITATOR_GATEWAY_READ_TOKEN',
  admin: 'FACILITATOR_GATEWAY_ADMIN_TOKEN',
}

const namedToken = `shop-a=${'x'.repeat(32)}`

type NamedToken = Required<GatewayToken>

/** @throws {InvalidEnvironmentError} that lists every variable that is wrong, without its secrets */
export function readGatewayOptions(
  env: Environment,
): Omit<GatewayOptions, 'tokens'> & { tokens: readonly NamedToken[] } {
  const variables = new Variables(env)
  const check = <T>(name: string, read: () => T, example?: string): T | undefined => {
    try {
      return read()
    } catch (error) {
      variables.wrong(name, (error as Error).message, example)
      return undefined
    }
  }
  const tokens = Object.entries(tokenVariables).flatMap(([role, name]) => {
    const own = tokensOf(env, role as Role)
    if (textsOf(env, role as Role).some(isNameAlone))
      variables.wrong(name, 'a name without its token after the "="', namedToken)
    if (textsOf(env, role as Role).some(text => digestAsName.test(text)))
      variables.wrong(name, 'a digest is written with a colon, sha256:…', `sha256:${'0'.repeat(64)}`)
    const isValid = check(name, () => new Access(own), namedToken) !== undefined
    return isValid ? own : []
  })
  const given = Object.values(tokenVariables).filter(name => variables.text(name) !== undefined)
  check(given.join(', '), () => new Access(tokens))
  const allowedHosts = listOf(variables, 'FACILITATOR_GATEWAY_ALLOWED_HOSTS')
  check('FACILITATOR_GATEWAY_ALLOWED_HOSTS', () => allowedHosts?.forEach(readHost), 'pay.example')
  const trustedProxies = listOf(variables, 'FACILITATOR_GATEWAY_TRUSTED_PROXIES')
  check('FACILITATOR_GATEWAY_TRUSTED_PROXIES', () => new ClientAddresses(trustedProxies ?? []), '10.0.0.0/8')
  const rateLimit = readRateLimit(variables)
  variables.throwIfWrong()
  return {
    tokens,
    ...(allowedHosts !== undefined && { allowedHosts }),
    ...(trustedProxies !== undefined && { trustedProxies }),
    ...(rateLimit !== undefined && { rateLimit }),
  }
}

/** The token that `status` sends, and its variable: the first that may read and is known itself, not by its digest alone. */
export function readingToken(env: Environment): { token: string; variable: string } | undefined {
  const found = [...tokensOf(env, 'read'), ...tokensOf(env, 'admin')].find(
    ({ token }) => !/^sha256:/i.test(token),
  )
  return found && { token: found.token, variable: tokenVariables[found.role] }
}

/** `token` or `name=token`, with commas between them. */
function tokensOf(env: Environment, role: Role): NamedToken[] {
  return textsOf(env, role).map((text, place) => {
    const [, name, token] = /^([\w.-]+)=([^=].*)$/.exec(text) ?? []
    return { name: name ?? `${role}-${place + 1}`, token: token ?? text, role }
  })
}

const textsOf = (env: Environment, role: Role): string[] =>
  listOf(new Variables(env), tokenVariables[role]) ?? []

/** It would be the token itself, of somebody called sha256. */
const digestAsName = /^sha256=/i

/** As of `shop-a=$UNSET`, which everybody could guess; a token in base64, which may end so too, has whole groups of 4. */
function isNameAlone(text: string): boolean {
  return /^[\w.-]+=$/.test(text) && (text.length < 24 || text.length % 4 !== 0)
}

function listOf(variables: Variables, name: string): string[] | undefined {
  return variables
    .text(name)
    ?.split(',')
    .map(text => text.trim())
    .filter(text => text !== '')
}

function readRateLimit(variables: Variables): GatewayOptions['rateLimit'] {
  const name = 'FACILITATOR_GATEWAY_RATE_LIMIT'
  const text = variables.text(name)
  if (text === undefined) return undefined
  if (text === 'off') return false
  if (/^\d+(\.\d+)?$/.test(text) && Number(text) > 0) return { perSecond: Number(text) }
  variables.wrong(name, `expected requests a second, or off, got "${text}"`, '100')
  return undefined
}
