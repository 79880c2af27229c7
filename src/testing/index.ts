/** Checks for what users of the library write themselves. */
import type {
  ClaimRequest,
  LedgerEntry,
  LedgerUpdate,
  SettlementLedger,
  SettlementState,
} from '../settlement/ledger.ts'

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
  const final: Stored[] = [
    { state: 'settled', transaction: '0x01', redeliveries: 1 },
    { state: 'rejected', reason: 'insufficient_funds' },
  ]
  const open: Stored[] = [
    { state: 'unresolved', transaction: '0x01', ownTransactions: ['0x01', '0x02'], redeliveries: 1 },
    { state: 'failed', wasSent: true },
  ]
  const settled: Stored = { state: 'settled', transaction: '0x01', redeliveries: 1 }
  const lost: Stored = { state: 'undelivered', transaction: '0x01', redeliveries: 0, windowMs: 60_000 }
  return [
    demand('grants the first claim', async (ledger, request) => {
      const before = await ledgerTime(ledger)
      const claim = await ledger.claim(request)
      expect(claim.kind === 'claimed' && claim.before === undefined, 'the first claim is granted')
      const since = claim.kind === 'claimed' ? claim.since : 0
      expect(since >= before && since <= before + 60_000, 'since is the time of the first claim, in Unix ms')
      const entry = await ledger.get(request.key)
      expect(entry?.settlement.state === 'settling', 'the entry is settling')
      expect(entry?.claim === request.claim, 'the entry names its claim')
      expect(entry?.since === since, 'the entry has the same since')
      expect(same(entry?.query, request.query), 'the query is kept as it was given')
      expect(entry?.fingerprint === request.fingerprint, 'the fingerprint is kept as it was given')
    }),
    demand('grants one of many claims at the same time', async (ledger, request) => {
      const claims = await Promise.all(
        Array.from({ length: 50 }, (_, index) =>
          ledger.claim({ ...request, claim: `${request.claim}-${index}` }),
        ),
      )
      expect(claims.filter(({ kind }) => kind === 'claimed').length === 1, 'exactly one claim is granted')
      for (const claim of claims)
        if (claim.kind === 'refused')
          expect(claim.entry.settlement.state === 'settling', 'the others see what is being settled')
    }),
    demand('grants the same claim once more, with the same answer', async (ledger, request) => {
      const [one, two] = [await ledger.claim(request), await ledger.claim(request)]
      expect(one.kind === 'claimed' && same(one, two), 'the first claim is granted once more')
      const [before] = open
      if (before) await ledger.update({ ...request, settlement: before })
      const again = { ...request, claim: `${request.claim}-again` }
      await ledger.claim(again)
      const repeated = await ledger.claim(again)
      expect(
        repeated.kind === 'claimed' && same(repeated.before, before),
        'it is told once more what was there before',
      )
      await ledger.update({ ...again, settlement: settled })
      expect(
        (await ledger.claim(again)).kind === 'refused',
        'what has ended is not granted to its claim again',
      )
    }),
    demand('keeps payments apart', async (ledger, request) => {
      await ledger.claim(request)
      const other = await ledger.claim(newRequest())
      expect(other.kind === 'claimed', 'another payment is not refused')
    }),
    ...final.map(settlement =>
      demand(`refuses what is ${settlement.state}`, async (ledger, request) => {
        await ledger.claim(request)
        expect(await ledger.update({ ...request, settlement }), 'the update is stored')
        expect(same((await ledger.get(request.key))?.settlement, settlement), 'the state is read back')
        const again = await ledger.claim({ ...request, claim: 'again' })
        expect(again.kind === 'refused' && same(again.entry.settlement, settlement), 'the claim is refused')
      }),
    ),
    ...open.map(settlement =>
      demand(
        `grants what is ${settlement.state} again, once, to the same purchase only`,
        async (ledger, request) => {
          const first = await ledger.claim(request)
          await ledger.update({ ...request, settlement })
          const other = await ledger.claim({ ...request, claim: 'other', fingerprint: 'other' })
          expect(other.kind === 'refused', 'another fingerprint is refused')
          const query = { ...request.query, amount: '1' }
          const claims = await Promise.all(
            ['one', 'two', 'three'].map(claim => ledger.claim({ ...request, query, claim })),
          )
          const granted = claims.filter(claim => claim.kind === 'claimed')
          expect(granted.length === 1, 'exactly one claim is granted')
          expect(same(granted[0]?.before, settlement), 'the claim has the state before it')
          expect(
            first.kind === 'claimed' && granted[0]?.since === first.since,
            'since stays that of the first claim',
          )
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
        await ledger.update({ ...request, claim, settlement: { state: 'unresolved' } })
      }
    }),
    demand('stores no update of a claim that is not the holder', async (ledger, request) => {
      await ledger.claim(request)
      const { key, claim } = request
      expect(
        !(await ledger.update({ key, claim: 'another', settlement: settled })),
        'another claim stores nothing',
      )
      expect(
        !(await ledger.update({ key: 'unknown key', claim, settlement: settled })),
        'an unknown key stores nothing',
      )
      expect((await ledger.get(key))?.settlement.state === 'settling', 'the entry is unchanged')
    }),
    demand('takes the same update once more', async (ledger, request) => {
      await ledger.claim(request)
      for (let i = 0; i < 2; i++)
        expect(await ledger.update({ ...request, settlement: settled }), 'the update is stored')
      const failed: Stored = { state: 'failed', wasSent: false }
      expect(!(await ledger.update({ ...request, settlement: failed })), 'another update is not')
    }),
    demand('takes what is settled for undelivered, from the same claim only', async (ledger, request) => {
      await ledger.claim(request)
      await ledger.update({ ...request, settlement: settled })
      expect(
        !(await ledger.update({ ...request, claim: 'another', settlement: lost })),
        'another claim stores nothing',
      )
      for (let i = 0; i < 2; i++)
        expect(await ledger.update({ ...request, settlement: lost }), 'the update is stored')
      expect(
        isLost((await ledger.get(request.key))?.settlement),
        'the state is read back, with what is left of its window',
      )
      const again = await ledger.claim({ ...request, claim: 'again' })
      expect(again.kind === 'claimed' && isLost(again.before), 'the claim is granted, and tells it')
      expect(!(await ledger.update({ ...request, settlement: lost })), 'the claim before stores nothing more')
    }),
    demand('takes what is undelivered for settled after its window', async (ledger, request) => {
      await ledger.claim(request)
      await ledger.update({ ...request, settlement: settled })
      await ledger.update({ ...request, settlement: { ...lost, windowMs: 1 } })
      await until(async () => (await ledger.get(request.key))?.settlement.state === 'settled')
      expect((await ledger.claim({ ...request, claim: 'again' })).kind === 'refused', 'the claim is refused')
    }),
    demand('finds by payer what is undelivered, if it can', async (ledger, request) => {
      if (!ledger.undelivered) return
      const payer = `0x${crypto.randomUUID().replaceAll('-', '').padStart(40, 'a')}`
      const claimOne = async (leaseMs = request.leaseMs) => {
        const one = newRequest()
        await ledger.claim({ ...one, query: { ...one.query, payer }, leaseMs })
        return one
      }
      await claimOne()
      const lapsed = await claimOne(1)
      const expected = [lapsed.key]
      for (const settlement of [...final, ...open]) {
        const one = await claimOne()
        await ledger.update({ ...one, settlement })
        if (settlement.state === 'unresolved') expected.push(one.key)
      }
      for (const windowMs of [60_000, 1]) {
        const one = await claimOne()
        await ledger.update({ ...one, settlement: settled })
        await ledger.update({ ...one, settlement: { ...lost, windowMs } })
        if (windowMs > 1) expected.push(one.key)
      }
      const find = async (query: Partial<ClaimRequest['query']> = {}) =>
        (await ledger.undelivered?.({ ...request.query, payer, ...query })) ?? []
      await until(async () => same((await find()).map(({ key }) => key).sort(), expected.sort()))
      expect(
        (await find({ payer: payer.toUpperCase().replace('0X', '0x') })).length === expected.length,
        'addresses are found in any case',
      )
      for (const other of [
        { payTo: request.query.asset },
        { asset: request.query.payTo },
        { network: 'eip155:1' },
      ])
        expect((await find(other)).length === 0, 'nothing is found for another payee, asset or network')
      await ledger.claim({ ...lapsed, query: { ...lapsed.query, payer }, claim: 'again' })
      await ledger.update({ ...lapsed, claim: 'again', settlement: settled })
      expect((await find()).length === expected.length - 1, 'what has been delivered is found no more')
    }),
    demand('takes a lapsed claim for unresolved, and its holder for nobody', async (ledger, request) => {
      await ledger.claim({ ...request, leaseMs: 1 })
      await until(async () => (await ledger.get(request.key))?.settlement.state === 'unresolved')
      expect(await has(ledger, request.key), 'it is listed as unresolved')
      const again = await ledger.claim({ ...request, claim: 'again' })
      expect(again.kind === 'claimed' && again.before?.state === 'unresolved', 'it is granted as unresolved')
      expect(!(await ledger.update({ ...request, settlement: settled })), 'the late holder stores nothing')
    }),
    demand('lists what is unresolved, and nothing else', async (ledger, request) => {
      for (const settlement of [...final, ...open]) {
        const one = { ...newRequest(), claim: request.claim }
        await ledger.claim(one)
        expect(!(await has(ledger, one.key)), 'what is settling is not listed')
        await ledger.update({ ...one, settlement })
        expect(
          (await has(ledger, one.key)) === (settlement.state === 'unresolved'),
          `what is ${settlement.state} is listed only if unresolved`,
        )
      }
    }),
    demand('lists in pages, each entry once, the oldest first', async (ledger, request) => {
      const from = await ledgerTime(ledger)
      const keys: string[] = []
      for (let i = 0; i < 7; i++) {
        const one = { ...newRequest(), claim: request.claim }
        await ledger.claim(one)
        await ledger.update({ ...one, settlement: { state: 'unresolved' } })
        keys.push(one.key)
      }
      const listed: LedgerEntry[] = []
      let cursor: string | undefined
      do {
        const page = await ledger.list({ states: ['unresolved'], from, limit: 3, cursor })
        expect(page.entries.length <= 3, 'a page has no more entries than asked for')
        listed.push(...page.entries)
        cursor = page.cursor
      } while (cursor !== undefined)
      const own = listed.filter(({ key }) => keys.includes(key))
      expect(same(own.map(({ key }) => key).sort(), [...keys].sort()), 'each entry is listed once')
      expect(
        own.every(({ since }, i) => since >= (own[i - 1]?.since ?? 0)),
        'the oldest come first',
      )
      const until = own.at(-1)?.since ?? 0
      const { entries } = await ledger.list({ from: until + 1, limit: 100 })
      expect(!entries.some(({ key }) => keys.includes(key)), 'nothing older than `from` is listed')
      const before = await ledger.list({ until: from, limit: 1_000 })
      expect(!before.entries.some(({ key }) => keys.includes(key)), 'nothing newer than `until` is listed')
    }),
    demand('forgets what is over, and nothing else, if it can', async (ledger, request) => {
      if (!ledger.prune) return
      const expired = Math.floor((await ledgerTime(ledger)) / 1000) - 24 * 60 * 60
      const claimOne = async (validBefore: number | undefined, ...settlements: Stored[]) => {
        const one = newRequest()
        await ledger.claim({ ...one, query: { ...one.query, validBefore } })
        for (const settlement of settlements) await ledger.update({ ...one, settlement })
        return one.key
      }
      const claimEach = async (validBefore: number | undefined, settlements: readonly Stored[]) => {
        const keys: string[] = []
        for (const settlement of settlements) keys.push(await claimOne(validBefore, settlement))
        return keys
      }
      const ended: Stored[] = [
        ...final,
        { state: 'failed', wasSent: false },
        { state: 'failed', wasSent: true },
      ]
      const over = await claimEach(expired, ended)
      const kept = [
        await claimOne(expired),
        await claimOne(expired, { state: 'unresolved' }),
        await claimOne(expired, settled, lost),
        ...(await claimEach(request.query.validBefore, ended)),
        ...(await claimEach(undefined, ended)),
      ]
      await ledger.prune({ olderThanMs: 60_000 })
      for (const key of over) expect((await ledger.get(key)) !== undefined, 'what is newer stays')
      await until(async () => {
        await ledger.prune?.({ olderThanMs: 1 })
        return (await Promise.all(over.map(key => ledger.get(key)))).every(entry => !entry)
      }, 'what is settled, failed or rejected, and cannot be used any more, is forgotten')
      for (const key of kept)
        expect((await ledger.get(key)) !== undefined, 'what is open, or can still be used, stays')
    }),
    demand('knows nothing of what was never claimed', async (ledger, request) => {
      expect((await ledger.get(request.key)) === undefined, 'get answers undefined')
    }),
  ]
}

type Stored = LedgerUpdate['settlement']

function isLost(settlement: SettlementState | undefined): boolean {
  return (
    settlement?.state === 'undelivered' &&
    settlement.transaction === '0x01' &&
    settlement.redeliveries === 0 &&
    settlement.windowMs > 0 &&
    settlement.windowMs <= 60_000
  )
}

/** The ledger's clock may differ from ours by anything. */
async function ledgerTime(ledger: SettlementLedger): Promise<number> {
  const claimed = await ledger.claim(newRequest())
  return claimed.kind === 'claimed' ? claimed.since : 0
}

/** Waits until the ledger's own clock has passed an end that lies some milliseconds ahead. */
async function until(
  isSo: () => Promise<boolean>,
  demand = 'leases and windows end by the ledger\u2019s own clock',
): Promise<void> {
  for (let tries = 0; !(await isSo()); tries++) {
    expect(tries < 200, demand)
    await new Promise(resolve => setTimeout(resolve, 10))
  }
}

function newRequest(): ClaimRequest {
  const nonce = crypto.randomUUID()
  const now = Date.now()
  return {
    key: `conformance|${nonce}`,
    fingerprint: `fingerprint of ${nonce}`,
    claim: crypto.randomUUID(),
    leaseMs: 60_000,
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
  let cursor: string | undefined
  do {
    const page = await ledger.list({ states: ['unresolved'], limit: 1_000, cursor })
    if (page.entries.some(entry => entry.key === key)) return true
    cursor = page.cursor
  } while (cursor !== undefined)
  return false
}

function same(a: unknown, b: unknown): boolean {
  const sorted = (value: unknown) =>
    JSON.stringify(Object.entries(value ?? {}).sort(([one], [two]) => (one < two ? -1 : 1)))
  return sorted(a) === sorted(b)
}

function expect(isMet: boolean, demand: string): void {
  if (!isMet) throw new Error(`The ledger does not conform. Expected: ${demand}.`)
}
