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

type NamedToken = Required<GatewayToken>

/** @throws {InvalidEnvironmentError} that lists every variable that is wrong, without its secrets */
export function readGatewayOptions(
  env: Environment,
): Omit<GatewayOptions, 'tokens'> & { tokens: readonly NamedToken[] } {
  const variables = new Variables(env)
  const check = <T>(name: string, read: () => T, example: string): T | undefined => {
    try {
      return read()
    } catch (error) {
      variables.wrong(name, (error as Error).message, example)
      return undefined
    }
  }
  const tokens = Object.entries(tokenVariables).flatMap(([role, name]) => {
    const own = tokensOf(env, role as Role)
    check(name, () => new Access(own), `shop-a=${'x'.repeat(32)}`)
    return own
  })
  check('FACILITATOR_GATEWAY_…_TOKEN', () => new Access(tokens), 'one token for each role')
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

/** The token that `status` sends: the first that may read and is known itself, not by its digest alone. */
export function readingToken(env: Environment): string | undefined {
  const tokens = [...tokensOf(env, 'read'), ...tokensOf(env, 'admin')].map(({ token }) => token)
  return tokens.find(token => !token.startsWith('sha256:'))
}

/** `token` or `name=token`, with commas between them. */
function tokensOf(env: Environment, role: Role): NamedToken[] {
  const texts = listOf(new Variables(env), tokenVariables[role]) ?? []
  return texts.map((text, place) => {
    const [, name, token] = /^([\w.-]+)=([^=].*)$/.exec(text) ?? []
    return { name: name ?? `${role}-${place + 1}`, token: token ?? text, role }
  })
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
