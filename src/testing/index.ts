/** Checks for what users of the library write themselves. */
import type { ClaimRequest, SettlementLedger, SettlementState } from '../settlement/ledger.ts'

/** One demand on a ledger. `run` throws when the ledger does not meet it. */
export interface ConformanceCase {
  readonly name: string
  run(): Promise<void>
}

/**
 * The demands on a `SettlementLedger`, to be run in any test runner. Each makes a ledger of its own.
 *
 * @param makeLedger an empty ledger, or one whose entries do not clash with those of earlier ones
 *
 * @example
 * ```ts
 * for (const { name, run } of settlementLedgerConformance(() => new MyLedger(database))) test(name, run)
 * ```
 */
export function settlementLedgerConformance(
  makeLedger: () => SettlementLedger | Promise<SettlementLedger>,
): ConformanceCase[] {
  const demand = (
    name: string,
    check: (ledger: SettlementLedger, request: ClaimRequest) => Promise<void>,
  ) => ({
    name,
    run: async () => check(await makeLedger(), newRequest()),
  })
  const final: SettlementState[] = [
    { state: 'settled', transaction: '0x01' },
    { state: 'rejected', reason: 'insufficient_funds' },
  ]
  const open: SettlementState[] = [
    { state: 'unresolved', transaction: '0x01' },
    { state: 'failed', wasSent: true },
  ]
  return [
    demand('grants the first claim', async (ledger, request) => {
      const claim = await ledger.claim(request)
      expect(claim.kind === 'claimed' && claim.before === undefined, 'the first claim is granted')
      expect(claim.kind === 'claimed' && claim.since === request.since, 'since is that of the first claim')
      const entry = await ledger.get(request.key)
      expect(entry?.settlement.state === 'settling', 'the entry is settling')
      expect(same(entry?.query, request.query), 'the query is kept as it was given')
    }),
    demand('grants one of many claims at the same time', async (ledger, request) => {
      const claims = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          ledger.claim({ ...request, claim: `${request.claim}-${index}` }),
        ),
      )
      expect(claims.filter(({ kind }) => kind === 'claimed').length === 1, 'exactly one claim is granted')
    }),
    demand('keeps payments apart', async (ledger, request) => {
      await ledger.claim(request)
      const other = await ledger.claim(newRequest())
      expect(other.kind === 'claimed', 'another payment is not refused')
    }),
    ...final.map(settlement =>
      demand(`refuses what is ${settlement.state}`, async (ledger, request) => {
        await ledger.claim(request)
        expect(await ledger.update(request.key, request.claim, settlement), 'the update is stored')
        expect(same((await ledger.get(request.key))?.settlement, settlement), 'the state is read back')
        const again = await ledger.claim({ ...request, claim: 'again' })
        expect(again.kind === 'refused' && same(again.entry.settlement, settlement), 'the claim is refused')
      }),
    ),
    ...open.map(settlement =>
      demand(
        `grants what is ${settlement.state} again, once, to the same purchase only`,
        async (ledger, request) => {
          await ledger.claim(request)
          await ledger.update(request.key, request.claim, settlement)
          const other = await ledger.claim({ ...request, claim: 'other', fingerprint: 'other' })
          expect(other.kind === 'refused', 'another fingerprint is refused')
          const query = { ...request.query, amount: '1' }
          const later = { ...request, query, since: request.since + 5_000 }
          const claims = await Promise.all(
            ['one', 'two', 'three'].map(claim => ledger.claim({ ...later, claim })),
          )
          const granted = claims.filter(claim => claim.kind === 'claimed')
          expect(granted.length === 1, 'exactly one claim is granted')
          expect(same(granted[0]?.before, settlement), 'the claim has the state before it')
          expect(granted[0]?.since === request.since, 'since stays that of the first claim')
          expect(
            same(granted[0]?.query, query),
            'the query is that of the first claim, with the least amount of any',
          )
        },
      ),
    ),
    demand('keeps the least amount of any claim', async (ledger, request) => {
      for (const [index, [amount, least]] of [
        ['10000', '10000'],
        ['9000', '9000'],
        ['20000', '9000'],
      ].entries()) {
        const claim = `${request.claim}-${index}`
        const query = { ...request.query, amount: amount ?? '' }
        const claimed = await ledger.claim({ ...request, claim, query })
        expect(
          claimed.kind === 'claimed' && claimed.query.amount === least,
          `after a claim of ${amount} the amount is ${least}, compared as numbers`,
        )
        await ledger.update(request.key, claim, { state: 'unresolved' })
      }
    }),
    demand('stores no update of a claim that is not the holder', async (ledger, request) => {
      await ledger.claim(request)
      const settled: SettlementState = { state: 'settled', transaction: '0x01' }
      expect(!(await ledger.update(request.key, 'another', settled)), 'another claim stores nothing')
      expect(!(await ledger.update('unknown key', request.claim, settled)), 'an unknown key stores nothing')
      expect((await ledger.get(request.key))?.settlement.state === 'settling', 'the entry is unchanged')
    }),
    demand('takes the same update once more', async (ledger, request) => {
      await ledger.claim(request)
      const settled: SettlementState = { state: 'settled', transaction: '0x01' }
      for (let i = 0; i < 2; i++)
        expect(await ledger.update(request.key, request.claim, settled), 'the update is stored')
      const failed: SettlementState = { state: 'failed', wasSent: false }
      expect(!(await ledger.update(request.key, request.claim, failed)), 'another update is not')
    }),
    demand('takes a lapsed claim for unresolved, and its holder for nobody', async (ledger, request) => {
      await ledger.claim({ ...request, leaseUntil: Date.now() - 1 })
      expect(await has(ledger, request.key), 'it is listed as unresolved')
      const again = await ledger.claim({ ...request, claim: 'again' })
      expect(again.kind === 'claimed' && again.before?.state === 'unresolved', 'it is granted as unresolved')
      const late = await ledger.update(request.key, request.claim, { state: 'settled', transaction: '0x01' })
      expect(!late, 'the late holder stores nothing')
    }),
    demand('lists what is unresolved, and nothing else', async (ledger, request) => {
      for (const settlement of [...final, ...open]) {
        const one = { ...newRequest(), claim: request.claim }
        await ledger.claim(one)
        expect(!(await has(ledger, one.key)), 'what is settling is not listed')
        await ledger.update(one.key, one.claim, settlement)
        expect(
          (await has(ledger, one.key)) === (settlement.state === 'unresolved'),
          `what is ${settlement.state} is listed only if unresolved`,
        )
      }
    }),
    demand('knows nothing of what was never claimed', async (ledger, request) => {
      expect((await ledger.get(request.key)) === undefined, 'get answers undefined')
    }),
  ]
}

function newRequest(): ClaimRequest {
  const nonce = crypto.randomUUID()
  const now = Date.now()
  return {
    key: `conformance|${nonce}`,
    fingerprint: `fingerprint of ${nonce}`,
    claim: crypto.randomUUID(),
    since: now,
    leaseUntil: now + 60_000,
    query: {
      method: 'eip3009',
      network: 'eip155:84532',
      asset: '0x0000000000000000000000000000000000000001',
      payer: '0x0000000000000000000000000000000000000002',
      payTo: '0x0000000000000000000000000000000000000003',
      amount: '340282366920938463463374607431768211455',
      nonce,
      validBefore: Math.floor(now / 1000) + 600,
    },
  }
}

async function has(ledger: SettlementLedger, key: string): Promise<boolean> {
  return (await ledger.unresolved()).some(entry => entry.key === key)
}

function same(a: unknown, b: unknown): boolean {
  const sorted = (value: unknown) =>
    JSON.stringify(Object.entries(value ?? {}).sort(([one], [two]) => (one < two ? -1 : 1)))
  return sorted(a) === sorted(b)
}

function expect(isMet: boolean, demand: string): void {
  if (!isMet) throw new Error(`The ledger does not conform. Expected: ${demand}.`)
}
