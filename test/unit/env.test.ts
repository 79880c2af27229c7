import { generateKeyPairSync } from 'node:crypto'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, it, vi } from 'vitest'
import {
  aggregatorFromEnv,
  cdpAuthHeaders,
  type Environment,
  InvalidEnvironmentError,
  optionsFromEnv,
} from '../../src/env/index.ts'
import { MemoryLedger } from '../../src/index.ts'
import { payload, requirements } from './builders.ts'

const keys = { CDP_API_KEY_ID: 'an-id', CDP_API_KEY_SECRET: 'hunter2' }
const cdpUrl = 'https://api.cdp.coinbase.com/platform/v2/x402'

const facilitators = (env: Environment) =>
  aggregatorFromEnv({ ENABLE_FACILITATOR_AGGREGATOR: 'true', ...env })
    .getConfig()
    .facilitators.map(({ id, url, priority, enabled }) => ({ id, url, priority, enabled }))
const ids = (env: Environment) => facilitators(env).map(({ id }) => id)

function problems(env: Environment): readonly string[] {
  try {
    optionsFromEnv(env)
  } catch (error) {
    expect(error).toBeInstanceOf(InvalidEnvironmentError)
    return (error as InvalidEnvironmentError).problems
  }
  return []
}

describe('which facilitators the environment names', () => {
  it('x402.rs and PayAI when nothing is set, and CDP when its keys are there', () => {
    expect(ids({})).toEqual(['x402-rs', 'payai'])
    expect(facilitators(keys)).toEqual([
      { id: 'x402-rs', url: 'https://facilitator.x402.rs', priority: 1, enabled: true },
      { id: 'payai', url: 'https://facilitator.payai.network', priority: 2, enabled: true },
      { id: 'coinbase-cdp', url: cdpUrl, priority: 3, enabled: true },
    ])
  })

  it('those of the published example, whose third is CDP by its keys', () => {
    const env = {
      ENABLE_FACILITATOR_AGGREGATOR: 'true',
      FACILITATOR_1_URL: 'https://facilitator.x402.rs',
      FACILITATOR_1_ENABLED: 'true',
      FACILITATOR_2_URL: 'https://facilitator.payai.network',
      FACILITATOR_2_ENABLED: 'true',
      FACILITATOR_3_ENABLED: 'true',
      FACILITATOR_TIMEOUT_MS: '5000',
      FACILITATOR_RETRIES: '1',
      FACILITATOR_HEALTH_CHECK: 'true',
      FACILITATOR_HEALTH_CHECK_INTERVAL_MS: '30000',
      FACILITATOR_MAX_CONSECUTIVE_FAILURES: '3',
      FACILITATOR_LOGGING: 'true',
      ...keys,
    }
    expect(ids(env)).toEqual(['x402-rs', 'payai', 'coinbase-cdp'])
    expect(facilitators({ ...env, FACILITATOR_3_ENABLED: 'false' })[2]).toMatchObject({
      id: 'coinbase-cdp',
      enabled: false,
    })
    expect(facilitators({ ...env, FACILITATOR_2_ENABLED: 'false' })[1]).toMatchObject({
      id: 'payai',
      enabled: false,
    })
    expect(
      ids({
        ...env,
        FACILITATOR_4_URL: 'https://your-custom-facilitator.com',
        FACILITATOR_4_ENABLED: 'true',
      }),
    ).toEqual(['x402-rs', 'payai', 'coinbase-cdp', 'facilitator-4'])
  })

  it('any number, with gaps, in the order of their priorities', () => {
    const env = {
      FACILITATOR_12_URL: 'https://twelve.example',
      FACILITATOR_7_URL: 'https://seven.example',
      FACILITATOR_7_PRIORITY: '0',
      FACILITATOR_20_ID: 'payai',
    }
    expect(facilitators(env)).toEqual([
      { id: 'facilitator-7', url: 'https://seven.example', priority: 0, enabled: true },
      { id: 'facilitator-12', url: 'https://twelve.example', priority: 12, enabled: true },
      { id: 'payai', url: 'https://facilitator.payai.network', priority: 20, enabled: true },
    ])
  })

  it('the usual ones, where only some of them are changed or disabled', () => {
    expect(facilitators({ FACILITATOR_2_ENABLED: 'false' })).toMatchObject([
      { id: 'x402-rs', enabled: true },
      { id: 'payai', enabled: false },
    ])
    expect(ids({ FACILITATOR_1_TIMEOUT_MS: '8000' })).toEqual(['x402-rs', 'payai'])
    expect(ids({ FACILITATOR_3_ENABLED: 'false' })).toEqual(['x402-rs', 'payai'])
    expect(ids({ FACILITATOR_4_ENABLED: 'false', ...keys })).toEqual(['x402-rs', 'payai', 'coinbase-cdp'])
  })

  it('CDP after the last, unless one of them is CDP already', () => {
    const one = { FACILITATOR_1_URL: 'https://one.example' }
    expect(facilitators({ ...one, ...keys }).at(-1)).toMatchObject({ id: 'coinbase-cdp', priority: 2 })
    expect(ids({ ...keys, FACILITATOR_1_ID: 'coinbase-cdp' })).toEqual(['coinbase-cdp'])
    expect(ids({ ...keys, FACILITATOR_1_URL: `${cdpUrl}/`, FACILITATOR_1_ID: 'mine' })).toEqual(['mine'])
  })

  it('the first enabled one alone unless aggregation is switched on', () => {
    for (const env of [
      {},
      { ENABLE_FACILITATOR_AGGREGATOR: 'false' },
      { ENABLE_FACILITATOR_AGGREGATOR: '' },
    ]) {
      const config = aggregatorFromEnv({ ...env, FACILITATOR_1_ENABLED: 'false', ...keys }).getConfig()
      expect(config).toMatchObject({ enabled: false, facilitators: [{ id: 'payai' }] })
    }
  })
})

describe('several facilitators while aggregation is switched off', () => {
  const warned = (env: Environment, overrides = {}) => {
    const logger = { debug: vi.fn(), info: vi.fn(), warn: vi.fn(), error: vi.fn() }
    aggregatorFromEnv(env, { logger, ...overrides })
    return logger.warn.mock.calls.map(([message]) => message)
  }

  it('are worth a warning, as nobody takes over when the first one fails', () => {
    const two = { FACILITATOR_1_URL: 'https://one.example', FACILITATOR_2_URL: 'https://two.example' }
    const warning =
      '[Facilitator] ENABLE_FACILITATOR_AGGREGATOR is not true: facilitator-1 is used alone, without failover'
    expect(warned(two)).toEqual([warning])
    expect(warned({ ...two, ENABLE_FACILITATOR_AGGREGATOR: 'false' })).toEqual([warning])
    expect(warned({ ...two, ENABLE_FACILITATOR_AGGREGATOR: 'true' })).toEqual([])
    expect(warned({ ...two, FACILITATOR_2_ENABLED: 'false' })).toEqual([])
    expect(warned(two, { enabled: true })).toEqual([])
  })

  it('are reported to the console where there is no logger', () => {
    const warn = vi.spyOn(console, 'warn').mockImplementation(() => {})
    aggregatorFromEnv({})
    aggregatorFromEnv({}, { logger: false })
    expect(warn.mock.calls).toEqual([[expect.stringContaining('x402-rs is used alone'), expect.anything()]])
    warn.mockRestore()
  })
})

describe('the other variables', () => {
  it('set timeouts, deadlines that leave room for another try, retries and health checks', () => {
    const config = aggregatorFromEnv({
      FACILITATOR_TIMEOUT_MS: '10000',
      FACILITATOR_SETTLE_TIMEOUT_MS: '40000',
      FACILITATOR_RETRIES: '2',
      FACILITATOR_HEALTH_CHECK_INTERVAL_MS: '60000',
      FACILITATOR_MAX_CONSECUTIVE_FAILURES: '5',
      FACILITATOR_1_URL: 'https://one.example',
      FACILITATOR_1_TIMEOUT_MS: '700',
      FACILITATOR_2_URL: 'https://two.example',
    }).getConfig()
    expect(config).toMatchObject({
      facilitators: [{ timeoutMs: { verify: 700, settle: 40_000, supported: 700, list: 700 }, retries: 2 }],
      deadlineMs: { verify: 20_000, settle: 80_000 },
      healthCheck: { intervalMs: 60_000, maxConsecutiveFailures: 5 },
    })
    expect(aggregatorFromEnv({ FACILITATOR_HEALTH_CHECK: 'off' }).getConfig().healthCheck).toBe(false)
    expect(aggregatorFromEnv({}).getConfig()).toMatchObject({
      facilitators: [{ timeoutMs: { verify: 5_000, settle: 30_000 }, retries: 1 }],
      deadlineMs: { verify: 10_000, settle: 60_000 },
    })
  })

  it('FACILITATOR_LOGGING logs everything to the console', () => {
    expect(optionsFromEnv({ FACILITATOR_LOGGING: 'true' })).toMatchObject({
      logger: console,
      logLevel: 'debug',
    })
    expect(optionsFromEnv({})).not.toHaveProperty('logger')
  })

  it('overrides win, and keep what they do not name', () => {
    const ledger = new MemoryLedger()
    const aggregator = aggregatorFromEnv(
      { RPC_URL_8453: 'https://node.example' },
      { retries: 7, settlement: { ledger } },
    )
    expect(aggregator.getConfig().facilitators[0]?.retries).toBe(7)
  })

  const mainnet = '5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp'
  it.each([
    ['RPC_URL_SOLANA', `solana:${mainnet}`],
    ['RPC_URL_SOLANA_DEVNET', 'solana:EtWTRABZaYq6iMfeYKouRu166VU2xqa1'],
    ['RPC_URL_SOLANA_TESTNET', 'solana:4uhcVJyU9pJkvQyS88uRDiswHXSCkY3z'],
    [`RPC_URL_SOLANA_${mainnet}`, `solana:${mainnet}`],
    [`RPC_URL_solana:${mainnet}`, `solana:${mainnet}`],
  ])('%s gives a probe for %s', async (name, network) => {
    const { settlement } = optionsFromEnv({ [name]: 'http://127.0.0.1:9' })
    const [probe] = settlement?.probes ?? []
    expect(probe?.supports(network, 'svm')).toBe(true)
    expect(probe?.supports(network, 'payload')).toBe(false)
    expect(probe?.supports('solana', 'svm')).toBe(false)
    const query = { method: 'svm' as const, network, asset: '', payTo: '', nonce: '', amount: '1' }
    expect(await probe?.ask(query, { signal: new AbortController().signal })).toEqual({
      state: 'cannot-tell',
      reason: 'the transaction was not recorded',
    })
  })

  it('RPC_URL_eip155:<chain id> is RPC_URL_<chain id>', () => {
    const { settlement } = optionsFromEnv({ 'RPC_URL_eip155:8453': 'http://127.0.0.1:9' })
    expect(settlement?.probes?.[0]?.supports('eip155:8453', 'eip3009')).toBe(true)
  })

  it('RPC_URL_<chain id> gives a probe for that chain, from several nodes if need be', async () => {
    const { settlement } = optionsFromEnv({ RPC_URL_84532: 'http://127.0.0.1:9, http://127.0.0.1:9' })
    const [probe] = settlement?.probes ?? []
    expect(probe?.supports('eip155:84532', 'eip3009')).toBe(true)
    expect(probe?.supports('eip155:84532', 'svm')).toBe(false)
    expect(probe?.supports('eip155:1', 'eip3009')).toBe(false)
    const query = {
      method: 'eip3009' as const,
      network: 'eip155:84532',
      asset: requirements().asset,
      payTo: requirements().payTo,
      payer: requirements().payTo,
      nonce: `0x${'01'.repeat(32)}`,
      amount: '1',
    }
    expect(await probe?.ask(query, { signal: AbortSignal.timeout(5_000) })).toMatchObject({
      state: 'cannot-tell',
    })
  })
})

describe('credentials', () => {
  let close = () => {}
  afterEach(() => close())

  async function headersSent(header: string): Promise<Record<string, unknown>> {
    let headers: Record<string, unknown> = {}
    const server = createServer((request, response) => {
      headers = request.headers
      response.end(JSON.stringify({ isValid: true }))
    }).listen(0, '127.0.0.1')
    close = () => server.close()
    await new Promise(resolve => server.once('listening', resolve))
    const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    const aggregator = aggregatorFromEnv({
      FACILITATOR_1_URL: url,
      FACILITATOR_1_AUTH_HEADER: header,
      FACILITATOR_HEALTH_CHECK: 'false',
    })
    await aggregator.verify(payload(), requirements())
    return headers
  }

  it('FACILITATOR_<n>_AUTH_HEADER is sent, under its own name or as Authorization', async () => {
    expect(await headersSent('Bearer a:b')).toMatchObject({ authorization: 'Bearer a:b' })
    close()
    expect(await headersSent('X-Custom-Auth: your-token')).toMatchObject({ 'x-custom-auth': 'your-token' })
  })

  it('CDP gets a token for each operation, signed by its SDK', async () => {
    const headers = await cdpAuthHeaders({ apiKeyId: 'an-id', apiKeySecret: 'hunter2' })()
    expect(headers).toEqual({
      verify: { Authorization: 'Bearer an-id POST api.cdp.coinbase.com/platform/v2/x402/verify' },
      settle: { Authorization: 'Bearer an-id POST api.cdp.coinbase.com/platform/v2/x402/settle' },
      supported: { Authorization: 'Bearer an-id GET api.cdp.coinbase.com/platform/v2/x402/supported' },
      list: { Authorization: 'Bearer an-id GET api.cdp.coinbase.com/platform/v2/x402/discovery/resources' },
    })
  })
})

describe('wrong variables are reported together', () => {
  it('each with its name, its problem and an example', () => {
    expect(
      problems({
        ENABLE_FACILITATOR_AGGREGATOR: 'maybe',
        FACILITATOR_TIMEOUT_MS: '5s',
        FACILITATOR_RETRIES: '-1',
        FACILITATOR_1_URL: 'not a url',
        FACILITATOR_2_URLL: 'https://x.example',
        FACILITATOR_2_COLOUR: 'red',
        FACILITATOR_4_ID: 'mine',
        FACILITATOR_5_ENABLED: 'true',
        RPC_URL_8453: 'mainnet',
        CDP_API_KEY_SECRET: 'hunter2',
      }),
    ).toEqual([
      'FACILITATOR_TIMEOUT_MS: expected milliseconds, a whole number from 100, got "5s"; for example FACILITATOR_TIMEOUT_MS=5000',
      'ENABLE_FACILITATOR_AGGREGATOR: expected true or false, got "maybe"; for example ENABLE_FACILITATOR_AGGREGATOR=true',
      expect.stringMatching(/^CDP_API_KEY_ID: is missing beside CDP_API_KEY_SECRET; for example/),
      'FACILITATOR_2_URLL: is not a variable; did you mean FACILITATOR_2_URL?',
      expect.stringMatching(/^FACILITATOR_2_COLOUR: is not a variable; there are FACILITATOR_2_URL, /),
      expect.stringMatching(/^FACILITATOR_1_URL: is not a URL.*for example FACILITATOR_1_URL=https/),
      expect.stringMatching(/^FACILITATOR_4_URL: is missing, as "mine" is none of x402-rs, payai/),
      expect.stringMatching(/^FACILITATOR_5_URL: is missing; for example/),
      expect.stringContaining('FACILITATOR_RETRIES: expected a whole number from 0, got "-1"'),
      expect.stringMatching(/^RPC_URL_8453: expected one or more URLs/),
    ])
  })

  it('CDP without keys', () => {
    expect(problems({ FACILITATOR_3_ENABLED: 'true' })).toEqual([
      expect.stringContaining('CDP_API_KEY_SECRET are missing, which Coinbase CDP (facilitator 3) needs'),
    ])
    expect(problems({ FACILITATOR_1_URL: 'https://x.example', FACILITATOR_3_ENABLED: 'false' })).toEqual([])
  })

  it('a number with zeros before it, a header without its space, and nobody left', () => {
    expect(problems({ FACILITATOR_01_URL: 'https://x.example' })[0]).toContain('write FACILITATOR_1_URL')
    expect(problems({ FACILITATOR_1_AUTH_HEADER: 'X-Api-Key:hunter2' })).toEqual([
      'FACILITATOR_1_AUTH_HEADER: has no space after its colon; for example FACILITATOR_1_AUTH_HEADER=X-Api-Key: …',
    ])
    expect(problems({ FACILITATOR_1_URL: 'https://x.example', FACILITATOR_1_ENABLED: 'false' })[0]).toContain(
      'leaves no facilitator',
    )
  })

  it('one id for two', () => {
    expect(problems({ FACILITATOR_1_ID: 'payai', FACILITATOR_2_ID: 'payai' })).toEqual([
      expect.stringContaining('"payai" names two facilitators'),
    ])
  })

  it('without their secrets', () => {
    const secret = 'hunter2'
    const { privateKey } = generateKeyPairSync('ed25519')
    const text = problems({
      FACILITATOR_1_URL: `https://me:${secret}@x.example`,
      FACILITATOR_1_AUTH_HEADER: `Bearer ${secret}\u0007`,
      RPC_URL_1: `wss://node.example/${secret}`,
      CDP_API_KEY_SECRET: `${secret}${privateKey.export({ type: 'pkcs8', format: 'pem' })}`,
    }).join('\n')
    expect(text.split('\n')).toHaveLength(4)
    expect(text).not.toContain(secret)
    expect(text).not.toContain('PRIVATE KEY')
  })

  it('but leaves alone what is not its own, and what is yet to be filled in', () => {
    const foreign = {
      FACILITATOR_PRIVATE_KEY: 'x',
      FACILITATOR_ABI: 'x',
      RPC_URL: 'x',
      RPC_URL_8453: 'https://node.example',
      RPC_URL_BASE: 'x',
      RPC_URL_ANVIL: 'x',
      PORT: 'x',
      FACILITATOR_2_URL: '',
      KV: { get() {} },
      PATH: '/bin',
    }
    expect(problems(foreign)).toEqual([])
    expect(ids(foreign)).toEqual(['x402-rs', 'payai'])
  })

  it.each([
    [
      { FACILITATOR_URL: 'https://x.example' },
      'FACILITATOR_URL: is not read; did you mean FACILITATOR_1_URL?',
    ],
    [
      { FACILITATOR_GATEWAY_TOKENS: 'x' },
      'FACILITATOR_GATEWAY_TOKENS: is not a variable; did you mean FACILITATOR_GATEWAY_TOKEN?',
    ],
    [{ ENABLE_FACILITATOR_AGREGATOR: 'true' }, 'did you mean ENABLE_FACILITATOR_AGGREGATOR?'],
    [{ ENABLE_FACILITATORS_AGGREGATOR: 'true' }, 'did you mean ENABLE_FACILITATOR_AGGREGATOR?'],
    [{ FACILITATOR_LOGING: 'true' }, 'did you mean FACILITATOR_LOGGING?'],
    [{ facilitator_retries: '3' }, 'did you mean FACILITATOR_RETRIES?'],
    [{ FACILITATOR_RETRYS: '3', FACILITATOR_RETRIES: '1' }, 'did you mean FACILITATOR_RETRIES?'],
    [{ FACILTATOR_2_URL: 'https://x.example' }, 'did you mean FACILITATOR_2_URL?'],
    [{ FACILITATOR2_AUTH_HEADER: 'Bearer x' }, 'did you mean FACILITATOR_2_AUTH_HEADER?'],
    [{ CDP_APIKEY_ID: 'x' }, 'did you mean CDP_API_KEY_ID?'],
    [{ RPC_URL_base: 'https://x.example' }, 'did you mean RPC_URL_8453?'],
    [{ RPC_URL_BASE_SEPOLIA: 'https://x.example' }, 'did you mean RPC_URL_84532?'],
    [{ RPC_URLS_8453: 'https://x.example' }, 'did you mean RPC_URL_8453?'],
    [{ RPC_URL_SOLANA_MAINNET: 'https://x.example' }, 'did you mean RPC_URL_SOLANA?'],
    [{ RPC_URL_solana_devnet: 'https://x.example' }, 'did you mean RPC_URL_SOLANA_DEVNET?'],
    [{ RPC_URL_SOLANA: 'api.mainnet-beta.solana.com' }, 'expected one or more URLs'],
    [{ FACILITATOR_1_URL: 'https://x.example/verify' }, 'ends in an operation'],
    [{ RPC_URL_8453: 'https://[x' }, 'expected one or more URLs'],
    [{ FACILITATOR_TIMEOUT_MS: '5' }, 'expected milliseconds, a whole number from 100, got "5"'],
    [{ FACILITATOR_TIMEOUT: '5' }, 'did you mean FACILITATOR_TIMEOUT_MS?'],
    [{ FACILITATOR_HEALTH_CHECK_INTERVAL: '5' }, 'did you mean FACILITATOR_HEALTH_CHECK_INTERVAL_MS?'],
  ])('those that nobody reads: %j', (env, problem) => {
    expect(problems(env)).toEqual([expect.stringContaining(problem)])
  })

  it('nor what Kubernetes makes for services of such names', () => {
    const services = ['FACILITATOR', 'FACILITATOR_2'].flatMap(name =>
      ['SERVICE_HOST', 'SERVICE_PORT', 'PORT', 'PORT_80_TCP', 'PORT_80_TCP_ADDR'].map(end => [
        `${name}_${end}`,
        'x',
      ]),
    )
    expect(problems({ FACILITATOR_1_URL: 'https://x.example', ...Object.fromEntries(services) })).toEqual([])
  })

  it('but not what older middleware reads, where the facilitators are named', () => {
    const both = { FACILITATOR_URL: 'https://x.example', FACILITATOR_1_URL: 'https://x.example' }
    expect(problems(both)).toEqual([])
  })
})
