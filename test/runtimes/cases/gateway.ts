import type { SettleResponse, SupportedResponse, VerifyResponse } from '@x402/core/types'
import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, equal } from '../expect.ts'
import { expectPaidOnce } from './serving.ts'
import { pay, read } from './visiting.ts'

/** One gateway and its aggregator, made in the global scope, serve requests that overlap. */
export const gateway: Case = {
  name: 'gateway',
  async run(env) {
    const bed = await openBed(env.place)
    const payment = await bed.payment()

    const [supported, ...verified] = await Promise.all([
      read<SupportedResponse>(env.visit('/supported')),
      ...[1, 2, 3].map(() => pay<VerifyResponse>(env, 'verify', payment)),
    ])
    const networks = supported.kinds.map(({ network }) => network)
    check(
      networks.some(network => network === env.place.network),
      `supported: ${networks} lacks ${env.place.network}`,
    )
    equal(
      verified.map(({ isValid }) => isValid),
      [true, true, true],
      'verifies',
    )

    await bed.facilitator(0).fault({ settle: { kind: 'act-then', next: { kind: 'reset' } } })
    await expectPaidOnce(bed, payment, async () => {
      const settled = await Promise.all([1, 2, 3].map(() => pay<SettleResponse>(env, 'settle', payment)))
      settled.push(await pay<SettleResponse>(env, 'settle', payment))
      equal(settled.filter(({ success }) => success).length, 1, 'successes among four settles of one payment')
    })
    equal((await bed.facilitator(1).calls()).settle, 0, 'settles at the second facilitator')

    const missing = await env.visit('/nowhere')
    equal(missing.status, 404, 'the status of an unknown path')
    await missing.text()
  },
}
