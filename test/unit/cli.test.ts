import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { check } from '../../src/cli/check.ts'
import { readConfiguration } from '../../src/cli/configuration.ts'
import { readGatewayOptions } from '../../src/cli/gateway-options.ts'
import { status } from '../../src/cli/status.ts'
import { createGateway, type GatewayToken } from '../../src/http/index.ts'
import { FacilitatorAggregator } from '../../src/index.ts'
import { type GatewayServer, listen } from '../../src/node/index.ts'
import { startGatewayProcess } from '../bed/gateway-process.ts'
import { untyped } from '../untyped.ts'
import { FakeFacilitator, kind, supporting } from './builders.ts'

const main = fileURLToPath(new URL('../../src/cli/main.ts', import.meta.url))

/** Two facilitators over HTTP: gateways are facilitators too. */
const opened: [FacilitatorAggregator, GatewayServer][] = []
let open = ''
let guarded = ''
let node = ''
const nodes: Server[] = []
const nobody = 'http://127.0.0.1:9'

async function start(tokens: readonly (string | GatewayToken)[]): Promise<string> {
  const client = new FakeFacilitator({
    supportedAnswer: supporting(kind(), kind({ x402Version: 1, network: untyped('base-sepolia') })),
  })
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'inner', client }],
    healthCheck: false,
    logger: false,
  })
  const server = await listen(createGateway(aggregator, { tokens }), { port: 0 })
  opened.push([aggregator, server])
  return server.url
}

/** A node of the chain with this id; one with a password answers nobody else. */
function startNode(chainId: string, user?: string): Promise<string> {
  const authorization = user && `Basic ${Buffer.from(user).toString('base64')}`
  return startServer(
    { jsonrpc: '2.0', id: 1, result: chainId },
    request => authorization === undefined || request.headers.authorization === authorization,
  )
}

async function startServer(
  answer: object,
  isAllowed: (request: IncomingMessage) => boolean = () => true,
): Promise<string> {
  const server = createServer((request, response) => {
    response.statusCode = isAllowed(request) ? 200 : 401
    response.end(isAllowed(request) ? JSON.stringify(answer) : undefined)
  })
  nodes.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

beforeAll(async () => {
  open = await start([])
  guarded = await start(['secret', { token: 'reading', role: 'read' }])
  node = await startNode('0x2105')
})
afterAll(async () => {
  for (const [aggregator, server] of opened) {
    await aggregator.stop()
    await server.close()
  }
  for (const server of nodes) server.close()
})

/** What a terminal may take for a command, or for another direction of the text. */
const rawControl = /[\p{Cc}\p{Cf}]/u

let printed: string
beforeEach(() => {
  printed = ''
  vi.spyOn(console, 'log').mockImplementation(line => {
    printed += `${line}\n`
  })
})
afterEach(() => {
  vi.restoreAllMocks()
  vi.unstubAllEnvs()
})

const run = (...args: string[]) =>
  promisify(execFile)(process.execPath, ['--import', 'tsx', main, ...args]).then(
    ({ stdout, stderr }) => ({ code: 0, stdout, stderr }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  )

// Each starts a process or two, which takes seconds on a busy machine.
describe('x402-aggregator', { timeout: 30_000 }, () => {
  it('lists what it can do', async () => {
    const { code, stdout } = await run('--help')
    expect(code).toBe(0)
    for (const command of ['serve', 'check', 'status', 'export']) expect(stdout).toContain(command)
  })

  it.each([
    [
      ['sevre'],
      '"sevre" is not a command; there are serve, check, status, export, reconcile: did you mean serve?',
    ],
    [['sell'], '"sell" is not a command; there are serve, check, status, export'],
    [['serve', '--prot', '1'], "Unknown option '--prot'; did you mean --port? --help lists the options"],
    [['check', '--wait'], "Unknown option '--wait'; --help lists the options"],
    [['check', '\x1b[2J'], "Unexpected argument '\\u001b[2J'"],
    [['serve', '--max-connections', '0'], '--max-connections: expected a whole number from 1 to'],
    [['serve', '--tls-cert', 'cert.pem'], '--tls-cert and --tls-key go together'],
    [['serve', '--tls-cert', 'no.pem', '--tls-key', 'no.pem'], '--tls-cert no.pem: cannot be read (ENOENT)'],
    [['serve', '--port', 'x'], '--port: expected a whole number from 0 to 65535, got "x"'],
    [['serve', '--grace', '-1'], '--grace'],
    [['serve', '--host', '0.0.0.0'], 'set FACILITATOR_GATEWAY_TOKEN, or give --allow-unauthenticated'],
    [['status', 'nonsense'], '"nonsense" is not a URL'],
    [['status', nobody], `${nobody} does not answer`],
    [['check', '--config', 'missing.json'], '--config missing.json: there is no such file'],
    [['check', '--config', '.'], '--config .: is a folder; give a file'],
  ])('%j ends with one line and its remedy', async (args, message) => {
    const { code, stderr } = await run(...args)
    expect(code).toBe(2)
    expect(stderr).toContain(message)
    expect(stderr.trim().split('\n')).toHaveLength(1)
  })

  it.each([
    [{ PORT: '80a' }, 'PORT: expected a whole number from 0 to 65535, got "80a"'],
    [{ HOST: '0.0.0.0' }, 'HOST 0.0.0.0 lets others reach the gateway: set FACILITATOR_GATEWAY_TOKEN'],
    [{ ENABLE_FACILITATOR_AGREGATOR: 'true' }, 'did you mean ENABLE_FACILITATOR_AGGREGATOR?'],
  ])('serve heeds what the platform sets: %j', async (env, message) => {
    for (const [name, value] of Object.entries(env)) vi.stubEnv(name, value)
    const { code, stderr } = await run('serve')
    expect(code).toBe(2)
    expect(stderr).toContain(message)
  })

  it.each(['serve', 'check', 'status', 'export'])('%s --help gives an example', async command => {
    expect((await run(command, '--help')).stdout).toContain('example')
  })

  it('serve says who may ask, by name, and how often', async () => {
    const gateway = await startGatewayProcess(
      {
        FACILITATOR_1_URL: open,
        FACILITATOR_2_URL: `${open}/`,
        FACILITATOR_GATEWAY_TOKEN: `shop-a=secret-a,sha256:${createHash('sha256').update('secret-b').digest('hex')}`,
        FACILITATOR_GATEWAY_ADMIN_TOKEN: 'ops=secret-o',
      },
      ['--rate-limit', '50', '--allowed-host', 'pay.example', '--allowed-host', 'pay2.example'],
    )
    const askAs = async (token: string) =>
      (await fetch(`${gateway.url}/supported`, { headers: { authorization: `Bearer ${token}` } })).status
    await vi.waitFor(() => expect(gateway.said()).toContain('looks payments up'))
    expect([await askAs('secret-a'), await askAs('secret-b'), await askAs('shop-a')]).toEqual([200, 200, 401])
    expect(gateway.said()).toContain('tokens: shop-a (pay), pay-2 (pay), ops (admin)')
    expect(gateway.said()).toContain('takes 50 requests a second (250 at once) for each client')
    expect(gateway.said()).not.toContain('secret')
    expect(gateway.said()).toContain('facilitator-1 and facilitator-2 are one facilitator, at the same URL')
    await gateway.end('SIGKILL')
  }, 20_000)

  it('serve says so when its port is taken', async () => {
    const { code, stderr } = await run('serve', '--port', new URL(open).port)
    expect(code).toBe(2)
    expect(stderr).toContain('the port is taken; choose another')
  })
})

describe('check', () => {
  it('shows what each facilitator supports, and is content', async () => {
    vi.stubEnv('FACILITATOR_1_URL', open)
    vi.stubEnv('FACILITATOR_2_URL', guarded)
    vi.stubEnv('FACILITATOR_2_AUTH_HEADER', 'Bearer secret')
    vi.stubEnv('FACILITATOR_3_URL', nobody)
    vi.stubEnv('FACILITATOR_3_ENABLED', 'false')
    expect(await check([])).toBe(0)
    const lines = printed.trim().split('\n')
    expect(lines[1]).toMatch(/^facilitator-1 +ok +\d+ ms +none +v1 v2 +exact +base-sepolia eip155:84532$/)
    expect(lines[2]).toMatch(/^facilitator-2 +ok +\d+ ms +accepted/)
    expect(lines[3]).toMatch(/^facilitator-3 +disabled/)
  })

  it('fails when one cannot be used, and says why', async () => {
    vi.stubEnv('FACILITATOR_1_URL', nobody)
    vi.stubEnv('FACILITATOR_2_URL', guarded)
    vi.stubEnv('FACILITATOR_2_AUTH_HEADER', 'Bearer wrong')
    vi.stubEnv('FACILITATOR_3_URL', open)
    expect(await check(['--json'])).toBe(1)
    expect(JSON.parse(printed).facilitators).toMatchObject([
      { id: 'facilitator-1', url: nobody, status: 'failed', reason: 'bad port', networks: [] },
      { id: 'facilitator-2', status: 'refused credentials', credentials: 'refused' },
      { id: 'facilitator-3', status: 'ok', versions: [1, 2], schemes: ['exact'] },
    ])
    expect(printed).not.toContain('wrong')
  })

  it('shows no key in the path of a facilitator, however short it is', async () => {
    vi.stubEnv('FACILITATOR_1_URL', `${open}/key1`)
    vi.stubEnv('FACILITATOR_2_URL', 'https://facilitator.payai.network')
    vi.stubEnv('FACILITATOR_2_ENABLED', 'false')
    await check(['--json'])
    expect(JSON.parse(printed).facilitators).toMatchObject([
      { url: `${open}/…` },
      { url: 'https://facilitator.payai.network' },
    ])
    await check([])
    expect(printed).not.toContain('key1')
  })

  it('lets no facilitator write to the terminal', async () => {
    const kinds = [kind({ scheme: '\x1b[2Jexact' }), kind({ scheme: '\x9b2Jexact\u202e' })]
    vi.stubEnv('FACILITATOR_1_URL', await startServer(supporting(...kinds, kind())))
    vi.stubEnv('FACILITATOR_2_URL', await startServer(supporting(...kinds)))
    await check([])
    await check(['--json'])
    expect(printed).toContain('exact')
    expect(printed).toContain('it advertises nothing that a payment could be of')
    expect(printed.replaceAll('\n', '')).not.toMatch(rawControl)
  })

  it('asks the nodes of the chains whether they are what they should be', async () => {
    vi.stubEnv('FACILITATOR_1_URL', open)
    vi.stubEnv('RPC_URL_8453', `${node}/v2/my-key`)
    expect(await check([])).toBe(0)
    expect(printed).toMatch(/\n\nCHAIN +NODE +STATUS +LATENCY\neip155:8453 +127\.0\.0\.1:\d+ +ok +\d+ ms\n$/)
    expect(printed).not.toContain('my-key')
    printed = ''
    const guardedNode = await startNode('0x2105', 'me:hunter2')
    vi.stubEnv(
      'RPC_URL_8453',
      `${guardedNode.replace('//', '//me:hunter2@')},${nobody.replace('//', '//me:hunter2@')}`,
    )
    expect(await check([])).toBe(1)
    expect(printed).toMatch(/eip155:8453 +127\.0\.0\.1:\d+ +ok/)
    expect(printed).not.toContain('hunter2')
    printed = ''
    vi.stubEnv('RPC_URL_8453', node)
    vi.stubEnv('RPC_URL_10', `${node},${nobody},${open}`)
    expect(await check(['--json'])).toBe(1)
    expect(JSON.parse(printed).nodes).toMatchObject([
      { network: 'eip155:10', node: new URL(node).host, reason: 'is of the chain eip155:8453' },
      {
        network: 'eip155:10',
        node: '127.0.0.1:9',
        status: 'failed',
        reason: 'does not answer (bad port)',
      },
      { network: 'eip155:10', reason: 'is not a node of an EVM chain, or refuses us (HTTP 404)' },
      { network: 'eip155:8453', status: 'ok' },
    ])
  })

  it('asks the nodes of Solana for their cluster, and names the one that a wrong node is of', async () => {
    const devnet = await startNode('EtWTRABZaYq6iMfeYKouRu166VU2xqa1wcaWoxPkrZBG')
    vi.stubEnv('FACILITATOR_1_URL', open)
    vi.stubEnv('RPC_URL_SOLANA_DEVNET', devnet)
    expect(await check([])).toBe(0)
    printed = ''
    vi.stubEnv('RPC_URL_SOLANA', `${devnet},${node}`)
    expect(await check(['--json'])).toBe(1)
    expect(JSON.parse(printed).nodes).toMatchObject([
      { network: 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1', status: 'ok' },
      {
        network: 'solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp',
        reason: 'is of the chain solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1',
      },
      { reason: 'is not a node of a Solana cluster, or refuses us (HTTP 200)' },
    ])
  })
})

describe('status', () => {
  it('shows a running gateway as a table, or as JSON', async () => {
    expect(await status([open])).toBe(0)
    expect(printed).toMatch(/FACILITATOR +STATE/)
    expect(printed).toMatch(/inner +healthy +100%/)
    expect(printed).toContain('1 of 1 healthy, 0 unresolved settlements')
    printed = ''
    await status([open, '--json'])
    expect(JSON.parse(printed)).toMatchObject({ enabled: true, health: { summary: { total: 1 } } })
  })

  it('needs the token of a guarded one', async () => {
    await expect(status([guarded])).rejects.toThrow(
      'needs a token that may read: set FACILITATOR_GATEWAY_READ_TOKEN to it (a digest cannot be sent)',
    )
    for (const [token, code] of [
      ['wrong', 401],
      ['secret', 403],
    ] as const) {
      vi.stubEnv('FACILITATOR_GATEWAY_READ_TOKEN', token)
      await expect(status([guarded])).rejects.toThrow(
        `does not show its status for the token in FACILITATOR_GATEWAY_READ_TOKEN (HTTP ${code})`,
      )
    }
    vi.stubEnv('FACILITATOR_GATEWAY_READ_TOKEN', `sha256:${'0'.repeat(64)}, monitor=reading`)
    expect(await status([guarded])).toBe(0)
    vi.stubEnv('FACILITATOR_GATEWAY_READ_TOKEN', '')
    vi.stubEnv('FACILITATOR_GATEWAY_ADMIN_TOKEN', 'reading')
    expect(await status([guarded])).toBe(0)
    vi.stubEnv('FACILITATOR_GATEWAY_ADMIN_TOKEN', 'wrong')
    await expect(status([guarded])).rejects.toThrow('the token in FACILITATOR_GATEWAY_ADMIN_TOKEN (HTTP 401)')
    vi.stubEnv('FACILITATOR_GATEWAY_ADMIN_TOKEN', `SHA256:${'0'.repeat(64)}`)
    await expect(status([guarded])).rejects.toThrow('a digest cannot be sent')
  })

  it('lets no gateway write to the terminal', async () => {
    const answer = await (await fetch(`${open}/api/facilitator-status?include=health,stats`)).json()
    const [facilitator] = answer.health.facilitators
    facilitator.id = '\x1b]0;pwned\x07\x9b2J\u202eno\n'
    facilitator.lanes = [{ operation: 'settle', network: '\x1b[1m', circuit: 'open' }]
    answer.timestamp = '\x1b[2J'
    const url = `${await startServer(answer)}/status`
    await status([url])
    await status([url, '--json'])
    expect(printed).toContain('pwned')
    expect(printed.replaceAll('\n', '')).not.toMatch(rawControl)
    await expect(status([await startServer({ health: { facilitators: 7 } })])).rejects.toThrow(
      'answers with a status of another shape',
    )
  })

  it('knows what is not a gateway', async () => {
    await expect(status([`${open}/supported`])).rejects.toThrow('is not the status of a gateway')
  })
})

describe('a configuration file', () => {
  let folder: string
  const file = async (content: unknown) => {
    const path = join(folder, 'config.json')
    await writeFile(path, typeof content === 'string' ? content : JSON.stringify(content))
    return path
  }
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'x402-facilitator-aggregator-'))
  })
  afterAll(() => rm(folder, { recursive: true }))

  it('has the names of the variables, and variables win', async () => {
    vi.stubEnv('FACILITATOR_RETRIES', '5')
    vi.stubEnv('FACILITATOR_2_URL', '')
    const path = await file({
      ENABLE_FACILITATOR_AGGREGATOR: true,
      FACILITATOR_RETRIES: 1,
      FACILITATOR_2_URL: open,
      RPC_URL_8453: node,
    })
    expect(await readConfiguration(path)).toMatchObject({
      ENABLE_FACILITATOR_AGGREGATOR: 'true',
      FACILITATOR_RETRIES: '5',
      FACILITATOR_2_URL: open,
    })
    expect(await check(['--config', path, '--json'])).toBe(0)
    expect(JSON.parse(printed).facilitators).toMatchObject([{ id: 'facilitator-2', url: open }])
  })

  it('that is not JSON is not repeated: it may hold secrets', async () => {
    const reading = readConfiguration(await file('{ "CDP_API_KEY_SECRET": hunter2 }'))
    await expect(reading).rejects.toThrow('is not JSON; expected an object such as')
    await expect(reading).rejects.not.toThrow('hunter2')
  })

  it.each([
    ['{', 'is not JSON'],
    ['[]', 'expected a JSON object such as'],
    [
      { FACILITATOR_RETIRES: 1, FACILITATOR_1_URL: {} },
      'FACILITATOR_RETIRES is not a variable, did you mean FACILITATOR_RETRIES?; FACILITATOR_1_URL: expected',
    ],
  ])('that is wrong is explained: %j', async (content, message) => {
    await expect(readConfiguration(await file(content))).rejects.toThrow(message)
  })
})

describe('the options of a gateway in variables', () => {
  it('are its tokens by role, its hosts, its proxies and its limit', () => {
    expect(readGatewayOptions({})).toEqual({ tokens: [] })
    expect(
      readGatewayOptions({
        FACILITATOR_GATEWAY_TOKEN: 'shop-a=one, dHdv==, xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=',
        FACILITATOR_GATEWAY_READ_TOKEN: 'monitor=four',
        FACILITATOR_GATEWAY_ADMIN_TOKEN: 'five',
        FACILITATOR_GATEWAY_RATE_LIMIT: '20',
        FACILITATOR_GATEWAY_ALLOWED_HOSTS: 'pay.example, Pay2.example',
        FACILITATOR_GATEWAY_TRUSTED_PROXIES: '10.0.0.0/8,::1',
      }),
    ).toEqual({
      tokens: [
        { name: 'shop-a', token: 'one', role: 'pay' },
        { name: 'pay-2', token: 'dHdv==', role: 'pay' },
        { name: 'pay-3', token: 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx=', role: 'pay' },
        { name: 'monitor', token: 'four', role: 'read' },
        { name: 'admin-1', token: 'five', role: 'admin' },
      ],
      rateLimit: { perSecond: 20 },
      allowedHosts: ['pay.example', 'Pay2.example'],
      trustedProxies: ['10.0.0.0/8', '::1'],
    })
    expect(readGatewayOptions({ FACILITATOR_GATEWAY_RATE_LIMIT: 'off' })).toMatchObject({ rateLimit: false })
  })

  it.each([
    [
      { FACILITATOR_GATEWAY_READ_TOKEN: 'sha256:hunter2' },
      'FACILITATOR_GATEWAY_READ_TOKEN: tokens: expected 64',
    ],
    [
      { FACILITATOR_GATEWAY_TOKEN: 'hunter2', FACILITATOR_GATEWAY_ADMIN_TOKEN: 'hunter2' },
      'FACILITATOR_GATEWAY_TOKEN, FACILITATOR_GATEWAY_ADMIN_TOKEN: tokens: two have the same token',
    ],
    [
      { FACILITATOR_GATEWAY_TOKEN: `sha256=${'a'.repeat(64)}` },
      'FACILITATOR_GATEWAY_TOKEN: a digest is written with a colon',
    ],
    [{ FACILITATOR_GATEWAY_TOKEN: 'one two' }, 'FACILITATOR_GATEWAY_TOKEN: tokens: a token has blanks'],
    [{ FACILITATOR_GATEWAY_TOKEN: 'one,hunter2=' }, 'FACILITATOR_GATEWAY_TOKEN: a name without its token'],
    [{ FACILITATOR_GATEWAY_RATE_LIMIT: '0' }, 'expected requests a second, or off, got "0"'],
    [{ FACILITATOR_GATEWAY_ALLOWED_HOSTS: 'pay.example:443' }, 'expected names without a port'],
    [
      { FACILITATOR_GATEWAY_TRUSTED_PROXIES: '10.0.0.0/33' },
      'expected addresses or ranges such as 10.0.0.0/8',
    ],
    [{ FACILITATOR_GATEWAY_TRUSTED_PROXIES: 'proxy' }, 'expected addresses or ranges such as 10.0.0.0/8'],
  ])('that are wrong are explained, without a token: %j', (env, message) => {
    const reading = () => readGatewayOptions(env)
    expect(reading).toThrow(message)
    expect(reading).not.toThrow('hunter2')
  })
})
