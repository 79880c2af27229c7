import { expect, it } from 'vitest'
import { FacilitatorAggregator } from '../../../src/index.ts'
import { newPayload, outcome, refused, requirements } from '../builders.ts'

it('a facilitator that had the payment, answered with a redirect and is down when that is followed, may have charged', async () => {
  const fetch_ = async (url: string | URL | Request) => {
    if (!String(url).endsWith('a.example/settle')) throw refused()
    return new Response(null, { status: 307, headers: { location: '/v2/settle' } })
  }
  const aggregator = new FacilitatorAggregator({
    facilitators: [{ id: 'a', url: 'https://a.example', fetch: fetch_ as typeof fetch }],
    healthCheck: false,
    retries: 0,
  })
  const settling = aggregator.settle(newPayload(), requirements())
  await expect(settling).rejects.toThrow(/^(?![\s\S]*nothing was charged)/)
  expect(await outcome(settling)).toBe('SETTLEMENT_INDETERMINATE')
})
