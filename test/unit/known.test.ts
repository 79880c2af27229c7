import { describe, expect, it } from 'vitest'
import { type AggregatorOptions, FacilitatorAggregator, InvalidOptionsError } from '../../src/index.ts'
import { known } from '../../src/known/index.ts'
import { untyped } from '../untyped.ts'

describe('a facilitator known by name', () => {
  it('has its URL and its name as id', () => {
    const aggregator = new FacilitatorAggregator({
      facilitators: [known('payai'), known('x402-rs', { id: 'mine', priority: 0 })],
    })
    expect(aggregator.getConfig().facilitators).toMatchObject([
      { id: 'payai', url: 'https://facilitator.payai.network', priority: 1 },
      { id: 'mine', url: 'https://facilitator.x402.rs', priority: 0 },
    ])
  })

  it.each([
    [
      'under a name that nobody has',
      () => known(untyped('payee')),
      'there is no known facilitator "payee"; there are x402-rs, payai, coinbase-cdp, x402-org, monad',
    ],
    [
      'under a name that every object has',
      () => known(untyped('constructor')),
      'there is no known facilitator "constructor"',
    ],
    [
      'without the headers that it needs',
      () => known('coinbase-cdp'),
      'known("coinbase-cdp"): createAuthHeaders is missing: cdpAuthHeaders of /env makes it',
    ],
    [
      'with a URL beside its name',
      () => known('payai', { url: 'https://x.example' } as object),
      'known("payai"): url is given beside the name',
    ],
  ])('is refused %s', (_, make, problem) => {
    expect(make).toThrow(InvalidOptionsError)
    expect(make).toThrow(problem)
  })

  it('can be in the pool once under one id', () => {
    const facilitators = [known('payai'), known('payai')]
    expect(() => new FacilitatorAggregator({ facilitators })).toThrow(
      'facilitators[1] "payai".id is not unique',
    )
  })

  it('is refused in the options by the name alone, which says where names are known', () => {
    const facilitators: AggregatorOptions['facilitators'] = untyped([{ known: 'payai' }])
    expect(() => new FacilitatorAggregator({ facilitators })).toThrow('known of /known makes public ones')
  })
})
