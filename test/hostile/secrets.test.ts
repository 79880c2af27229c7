import { describe, expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../src/index.ts'
import { redact } from '../../src/observe/redact.ts'
import { newPayload, outcome, payload, requirements } from '../unit/builders.ts'

const json = { 'content-type': 'application/json' }

/** Everything that is shown of a facilitator which repeats the headers that it was sent. */
async function shownOf(headers: Record<string, string>, echo: string, inResponses = true): Promise<string> {
  const answers: Record<string, object> = {
    verify: { isValid: false, invalidReason: echo, invalidMessage: `I was sent ${echo}, which I refuse` },
    settle: {
      success: false,
      errorReason: `unexpected_error: ${echo}`,
      errorMessage: echo,
      transaction: '',
      network: '',
    },
  }
  const lines: unknown[] = []
  const write = (...args: unknown[]) => lines.push(args)
  const aggregator = new FacilitatorAggregator({
    facilitators: [
      {
        id: 'a',
        url: 'https://a.example/v2/k3y/x402',
        createAuthHeaders: () => ({ verify: headers, settle: headers, supported: headers }),
        fetch: async url =>
          Response.json(answers[new URL(`${url}`).pathname.split('/').at(-1) ?? ''] ?? { echo }, {
            headers: json,
          }),
      },
    ],
    healthCheck: false,
    logger: { debug: write, info: write, warn: write, error: write },
    logLevel: 'debug',
  })
  const response = await aggregator.verify(payload(), requirements())
  if (inResponses) lines.push(response)
  lines.push(await outcome(aggregator.settle(newPayload(), requirements())))
  await aggregator
    .settle(newPayload(), requirements())
    .catch(error => lines.push(error.message, error.attempts))
  await aggregator.getSupported().catch(error => lines.push(error.message))
  lines.push(aggregator.getRecentLogs(), aggregator.getConfig(), aggregator.getHealthStatus())
  return JSON.stringify(lines)
}

describe('an API key that a facilitator repeats in its answers is shown nowhere', () => {
  it.each([
    ['X-Api-Key', 'plainword', 'plainword'],
    ['X-Api-Key', 'sk_live_1234', 'sk_live_1234'],
    ['X-Custom', 'k-9.7', 'k-9.7'],
    ['Authorization', 'Bearer t0k3n', 't0k3n'],
    ['Authorization', 'Custom abc.def', 'abc.def'],
  ])('sent as %s: %s', async (name, value, secret) => {
    expect(await shownOf({ [name]: value }, `${value} ${secret}`)).not.toContain(secret)
  })

  it('as a part of the path in the log, however short', async () => {
    expect(await shownOf({}, 'https://a.example/v2/k3y/x402/verify', false)).not.toContain('k3y')
  })

  it('but a word that our headers have in common with its reason by chance stays', async () => {
    expect(await shownOf({ accept: 'a', 'x-app': 'me' }, 'a reason')).toContain('a reason')
  })
})

it.each([
  ['https://node.example/v3/0a1b', 'https://node.example/v3/[redacted]'],
  ['https://node.example/KEYKEY/eth', 'https://node.example/[redacted]/eth'],
  ['https://node.example/a1', 'https://node.example/[redacted]'],
  ['https://api.example/platform/v2/x402/settle', 'https://api.example/platform/v2/x402/settle'],
  [`https://scan.example/tx/0x${'ab'.repeat(32)}`, `https://scan.example/tx/0x${'ab'.repeat(32)}`],
])('of %s the log shows %s', (url, shown) => {
  expect(redact(`see ${url} for it`)).toBe(`see ${shown} for it`)
})
