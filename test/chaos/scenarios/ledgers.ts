/** Ledgers that lose what they were given, or do not answer. */
import {
  type ChainReader,
  type ClaimRequest,
  type LedgerFilter,
  type LedgerUpdate,
  MemoryLedger,
} from '../../../src/index.ts'
import { type LedgerStore, sharedLedger } from '../../../src/ledger/index.ts'
import { settlementProbe } from '../../../src/probe/index.ts'
import { createBuyer } from '../../bed/buyer.ts'
import { type Fault, startFacilitator } from '../../bed/facilitator.ts'
import { price, startSeller } from '../../bed/seller.ts'
import { aggregatorOver, probesOf } from '../clients.ts'
import { answerOf, type Sale, tally } from '../result.ts'
import { type Bed, forEachPayment, type Scenario } from '../scenario.ts'

/** A ledger of one entry each, so that one can be lost. */
abstract class FaultyLedger implements LedgerStore {
  isFaulty = true
  readonly #entries = new Map<string, MemoryLedger>()

  claim(request: ClaimRequest) {
    return this.#of(request.key).claim(request)
  }
  update(update: LedgerUpdate) {
    return this.#of(update.key).update(update)
  }
  get(key: string) {
    return this.#of(key).get(key)
  }
  async list(filter: LedgerFilter) {
    const pages = await Promise.all([...this.#entries.values()].map(entry => entry.list(filter)))
    return { entries: pages.flatMap(page => page.entries) }
  }
  protected lose(key: string): void {
    this.#entries.delete(key)
  }
  #of(key: string): MemoryLedger {
    const entry = this.#entries.get(key) ?? new MemoryLedger()
    this.#entries.set(key, entry)
    return entry
  }
}

class LosesClaims extends FaultyLedger {
  readonly #lost = new Set<string>()

  override async claim(request: ClaimRequest) {
    const claim = await super.claim(request)
    // Once, or a second claim would find nothing either.
    if (this.isFaulty && !this.#lost.has(request.key)) this.lose(request.key)
    this.#lost.add(request.key)
    return claim
  }
}

class LosesUnresolved extends FaultyLedger {
  override async update(update: LedgerUpdate) {
    const isStored = await super.update(update)
    if (this.isFaulty && update.settlement.state === 'unresolved') this.lose(update.key)
    return isStored
  }
}

class HangsAfterClaim extends FaultyLedger {
  override update(update: LedgerUpdate) {
    return this.isFaulty ? new Promise<boolean>(() => {}) : super.update(update)
  }
}

/** Reads by a node that answers nothing at first. */
class LateReader implements ChainReader {
  isBlind = true

  constructor(private readonly inner: ChainReader) {}

  supports(...about: Parameters<ChainReader['supports']>) {
    return this.inner.supports(...about)
  }
  async ask(...question: Parameters<ChainReader['ask']>) {
    return this.isBlind
      ? { state: 'cannot-tell' as const, reason: 'the node does not answer' }
      : this.inner.ask(...question)
  }
}

export const losesClaims: Scenario = bed => sellWith(bed, new LosesClaims())
export const losesClaimsOfLostAnswers: Scenario = bed =>
  sellWith(bed, new LosesClaims(), { kind: 'act-then', next: { kind: 'reset' } })
export const hangsAfterClaim: Scenario = bed => sellWith(bed, new HangsAfterClaim())

/** The first try ends in a 502, as no chain can be asked; then the chain can. */
export const losesUnresolved: Scenario = bed => {
  const readers = probesOf(bed).map(probe => new LateReader(probe))
  const fault: Fault = { kind: 'act-then', next: { kind: 'reset' } }
  return sellWith(bed, new LosesUnresolved(), fault, readers)
}

/** Each payment is sent twice, one after the other. */
async function sellWith(
  bed: Bed,
  ledger: FaultyLedger,
  fault?: Fault,
  lateReaders: readonly LateReader[] = [],
) {
  const { chain } = bed
  const pool = await Promise.all(['first', 'second'].map(id => startFacilitator({ chain, id })))
  const members = pool.map(({ id, url }) => ({ id, url }))
  const probes = lateReaders.length > 0 ? lateReaders.map(settlementProbe) : probesOf(bed)
  const aggregator = aggregatorOver(bed, members, {
    settlement: { ledger: sharedLedger(ledger), probes },
    ...(lateReaders.length > 0 ? { deadlineMs: { settle: 4_000 } } : {}),
  })
  const seller = await startSeller(chain, aggregator)
  const buyer = await createBuyer(chain, price * BigInt(bed.payments))
  await aggregator.getSupported()
  await fetch(seller.url)
  if (fault !== undefined) pool[0]?.fault({ settle: fault })

  const firsts = await forEachPayment(bed, async () => {
    const payment = await buyer.sign(seller.url)
    return { payment, first: await buyer.replay(seller.url, payment.headers) }
  })
  for (const reader of lateReaders) reader.isBlind = false
  const sales = await Promise.all(
    firsts.map(async ({ payment, first }): Promise<Sale> => {
      const second = await buyer.replay(seller.url, payment.headers)
      const answers = [answerOf(first), answerOf(second)]
      const deliveries = answers.filter(answer => answer === 'delivered').length
      return {
        charges: Number(await chain.isSpent(buyer.address, payment.nonce)),
        deliveries,
        // Who has the goods does not ask again; who was told that nobody knows asks again, and believes the answer.
        answer: deliveries > 0 ? 'delivered' : answerOf(second),
        durationMs: first.durationMs,
      }
    }),
  )
  ledger.isFaulty = false
  await aggregator.stop({ inFlight: 'abort' })
  await seller.stop()
  await Promise.all(pool.map(one => one.stop()))
  return tally(
    sales,
    pool.reduce((sum, { broadcasts }) => sum + broadcasts, 0),
  )
}
