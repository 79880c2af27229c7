import { afterEach, describe, expect, it, vi } from 'vitest'
import { FacilitatorAggregator } from '../../src/index.ts'
import * as node from '../../src/node/index.ts'
import * as unsupportedRuntime from '../../src/node/unsupported-runtime.ts'
import { FakeFacilitator } from './builders.ts'

const withMode = (mode?: 'interval' | 'lazy') =>
  new FacilitatorAggregator({
    facilitators: [{ id: 'a', client: new FakeFacilitator() }],
    healthCheck: mode === undefined ? {} : { mode },
  }).getConfig().healthCheck

afterEach(() => vi.unstubAllGlobals())

describe('in a runtime that runs no timers between requests', () => {
  it.each([
    ['the Edge runtime', () => vi.stubGlobal('EdgeRuntime', 'edge-runtime')],
    ['Cloudflare Workers', () => vi.stubGlobal('navigator', { userAgent: 'Cloudflare-Workers' })],
  ])('%s, health is checked beside requests, and nothing else is accepted', (runtime, enter) => {
    expect(withMode()).toMatchObject({ mode: 'interval' })
    enter()
    expect(withMode()).toMatchObject({ mode: 'lazy' })
    expect(withMode('lazy')).toMatchObject({ mode: 'lazy' })
    expect(() => withMode('interval')).toThrow(
      `healthCheck.mode: ${runtime} runs no timers between requests: use 'lazy', and waitUntil`,
    )
  })
})

describe('the entry point for Node.js, in another runtime', () => {
  it('has the same names, and each says what to use instead', () => {
    for (const [name, value] of Object.entries(node)) {
      const other = (unsupportedRuntime as Record<string, unknown>)[name]
      expect(typeof other, name).toBe(typeof value)
      if (name.endsWith('Error')) continue
      expect(other).toThrow(`${name} of x402-facilitator-aggregator/node needs Node.js, Bun or Deno`)
      expect(other).toThrow('createGateway() of x402-facilitator-aggregator/http')
    }
  })
})
