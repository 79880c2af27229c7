/** What must not be seen in anything that is observed, and everything that is observed. */
import type { AggregatorEvents, FacilitatorAggregator, Logger } from '../../src/index.ts'
import { signature } from './fuzz-payments.ts'
import { demand } from './fuzz-run.ts'

const mark = '5ec2e7'
export const token = `t0k-${mark}-ab-${mark}-cd-${mark}`
const base64OfSignature = Buffer.from(`{"payload":{"signature":"${signature}"}}`).toString('base64')
export const pathKey = `k3y_${mark}_${mark}_${mark}`

/** So much of a secret is a leak. A facilitator that writes a space into one can pass on any part, which nothing can know. */
const leaks = [token.slice(0, 20), pathKey.slice(0, 17), mark.repeat(11), base64OfSignature.slice(40, 80)]

/** How those who know a secret pass it on. */
export const indiscretions = [
  `the header was Authorization: Bearer ${token}`,
  `{"authorization":"${token}"}`,
  `api_key=${token}&x=1`,
  `https://facilitator.example/v1/${pathKey}/settle`,
  `bad signature ${signature}`,
  base64OfSignature,
]

type Misbehaviour = 'none' | 'throws' | 'rejects'

const eventNames = [
  ...(['attempt', 'failover', 'health:change', 'circuit:change', 'settlement:recovered'] as const),
  ...(['settlement:indeterminate', 'settlement:resolved', 'facilitator:quarantined', 'stop', 'log'] as const),
] satisfies (keyof AggregatorEvents)[]

/** Listens to everything that an aggregator emits and logs, and may misbehave while it does. */
export class Eavesdropper {
  #heard: unknown[] = []
  misbehaviour: Misbehaviour = 'none'
  readonly logger: Logger

  constructor() {
    const take = (...args: unknown[]) => this.#take(args)
    this.logger = { debug: take, info: take, warn: take, error: take }
  }

  listenTo(aggregator: FacilitatorAggregator): void {
    for (const name of eventNames) aggregator.on(name, event => this.#take(event))
  }

  /** @throws {Error} when a secret can be seen in what was heard, in `thrown`, or in what the aggregator shows */
  async demandSilence(aggregator: FacilitatorAggregator, thrown: readonly unknown[]): Promise<void> {
    const shown = [
      aggregator.getHealthStatus(),
      aggregator.getStatistics(),
      aggregator.getRecentLogs(),
      aggregator.getConfig(),
      await aggregator.getUnresolvedSettlements(),
    ]
    const text = [...this.#heard, ...shown, ...thrown.map(errorText)].map(write).join('\n')
    this.#heard = []
    const leak = leaks.find(part => text.includes(part))
    demand(leak === undefined, () => {
      const at = text.indexOf(leak ?? '')
      return `a secret is seen: …${text.slice(Math.max(0, at - 200), at + 100)}…`
    })
  }

  #take(heard: unknown): unknown {
    this.#heard.push(heard)
    if (this.misbehaviour === 'throws') throw new Error('an observer that throws')
    return this.misbehaviour === 'rejects' ? Promise.reject(new Error('an observer that rejects')) : undefined
  }
}

function errorText(thrown: unknown): unknown {
  if (!(thrown instanceof Error)) return thrown
  return [thrown.message, { ...thrown }, thrown.cause === undefined ? [] : errorText(thrown.cause)]
}

function write(value: unknown): string {
  return JSON.stringify(value, (_name, inner) => (typeof inner === 'bigint' ? `${inner}` : inner)) ?? ''
}
