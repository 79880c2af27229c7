/** Callers that leave before they are answered: some runtimes end all work of such a request at once. */
import type { SettleResponse, SupportedResponse } from '@x402/core/types'
import { openBed } from '../bed.ts'
import type { Case } from '../case.ts'
import { check, until, within } from '../expect.ts'
import { expectPaidOnce } from './serving.ts'
import { pay, read } from './visiting.ts'

/** What other requests wait for must not die with the one that began it. */
export const abandonedCheck: Case = {
  name: 'abandoned check',
  async run({ place, visit }) {
    const bed = await openBed(place)
    const slow = { supported: { kind: 'slow', ms: 300 } } as const
    await Promise.all([bed.facilitator(0).fault(slow), bed.facilitator(1).fault(slow)])
    const leaving = new AbortController()
    const left = read(visit('/unchecked/supported', { signal: leaving.signal })).catch(() => {})
    await until('the facilitator was asked', async () => (await bed.facilitator(0).calls()).supported > 0)
    leaving.abort()
    await left

    const next = read<SupportedResponse>(visit('/unchecked/supported'))
    const { kinds } = await within(5_000, 'the request after the abandoned one', next)
    check(kinds?.length > 0, `expected kinds, got ${JSON.stringify(await next)}`)
  },
}

/** Who asks again with the same key must learn that the payment was made. */
export const abandonedSettle: Case = {
  name: 'abandoned settle',
  async run(env) {
    const bed = await openBed(env.place)
    const payment = await bed.payment()
    const headers = { 'idempotency-key': payment.nonce }
    await expectPaidOnce(bed, payment, async () => {
      const leaving = new AbortController()
      const left = pay(env, 'settle', payment, { headers, signal: leaving.signal }).catch(() => {})
      await until('the facilitator was asked', async () => (await bed.facilitator(0).calls()).settle > 0)
      leaving.abort()
      await left
      await until('the payment was made', () => bed.isSpent(payment))
      const again = pay<SettleResponse>(env, 'settle', payment, { headers })
      const { success } = await within(5_000, 'the same settle again', again)
      check(success, `expected a success, got ${JSON.stringify(await again)}`)
    })
  },
}
