/** What one transaction did with an authorization. */
import { type Log, type PublicClient, parseAbi, parseEventLogs, type TransactionReceipt } from 'viem'
import type { SettlementQuery } from '../payment/payment-key.ts'
import { type UsesShown, usesByCalldata, usesByTrace } from './authorization-uses.ts'

export type Verdict =
  /** It paid the required payee at least the required amount, by this authorization. */
  | 'paid'
  /** It used or cancelled this authorization, and did not pay by it. */
  | 'otherwise'
  /** It did not pay by this authorization. */
  | 'unrelated'
  /** It made a transfer as required, and nothing shows by which authorization. */
  | 'unclear'

const tokenEvents = parseAbi([
  'event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)',
  'event Transfer(address indexed from, address indexed to, uint256 value)',
])

/**
 * A transfer counts for the authorization that made it and for no other: a buyer who cancels four authorizations in the
 * block, or in the transaction, of a fifth has paid once.
 */
export async function judge(
  client: PublicClient,
  query: SettlementQuery,
  { logs, transactionHash: hash }: TransactionReceipt,
): Promise<Verdict> {
  const events = eventsOfPayer(query, logs)
  const isPaying = events.some(({ is }) => is === 'payment')
  if (query.method === 'eip3009') {
    // Without its use it was cancelled.
    if (!isPaying || !events.some(({ is }) => is === 'our use')) return 'otherwise'
    const verdict = verdictByOrder(events)
    if (verdict !== 'unclear') return verdict
  }
  const token = query.asset.toLowerCase()
  const emitters = new Set(logs.map(({ address }) => address.toLowerCase()))
  const shown = usesByCalldata(await client.getTransaction({ hash }), token, emitters)
  const verdict = verdictOf(query, shown, events)
  if (verdict !== 'unclear') return verdict
  if (!isPaying) return 'unrelated'
  const traced = await usesByTrace(client, hash, token)
  return traced === undefined ? 'unclear' : verdictOf(query, traced, events)
}

interface PayerEvent {
  readonly is: 'our use' | 'another use' | 'payment' | 'another transfer'
}

/** What the token has emitted about the payer, in its order. */
function eventsOfPayer(query: SettlementQuery, logs: Log[]): PayerEvent[] {
  const isSame = (one: string, other = '') => one.toLowerCase() === other.toLowerCase()
  return parseEventLogs({ abi: tokenEvents, logs })
    .filter(({ address }) => isSame(address, query.asset))
    .flatMap((event): PayerEvent[] => {
      if (event.eventName === 'AuthorizationUsed') {
        if (!isSame(event.args.authorizer, query.payer)) return []
        return [{ is: BigInt(event.args.nonce) === BigInt(query.nonce) ? 'our use' : 'another use' }]
      }
      const { from, to, value } = event.args
      if (!isSame(from, query.payer)) return []
      return [
        { is: isSame(to, query.payTo) && value >= BigInt(query.amount) ? 'payment' : 'another transfer' },
      ]
    })
}

/**
 * A token emits the use of an authorization and its transfer next to each other, and always in one order. Which one may
 * be ambiguous where there are other transfers: then it must not matter.
 */
function verdictByOrder(events: readonly PayerEvent[]): Verdict {
  const uses = events.flatMap(({ is }, index) => (is.endsWith('use') ? [index] : []))
  const ours = uses.findIndex(index => events[index]?.is === 'our use')
  const transfers = events.filter(({ is }) => !is.endsWith('use'))
  if (transfers.length === uses.length) return transfers[ours]?.is === 'payment' ? 'paid' : 'otherwise'
  const pairings = [1, -1]
    .map(step => uses.map(index => events[index + step]))
    .filter(pairing => pairing.every(event => event !== undefined && !event.is.endsWith('use')))
  return pairings.length > 0 && pairings.every(pairing => pairing[ours]?.is === 'payment')
    ? 'paid'
    : 'unclear'
}

/** By what the transaction is shown to have used, held against the transfers that it has made. */
function verdictOf(
  query: SettlementQuery,
  { uses, areAll }: UsesShown,
  events: readonly PayerEvent[],
): Verdict {
  const byPayer = uses.filter(({ owner }) => owner === query.payer?.toLowerCase())
  const ours = byPayer.find(use => use.method === query.method && use.nonce === BigInt(query.nonce))
  if (ours === undefined) return areAll && query.method === 'permit2' ? 'unrelated' : 'unclear'
  const paying = byPayer.filter(
    use =>
      use.token === query.asset.toLowerCase() &&
      use.to === query.payTo.toLowerCase() &&
      use.amount >= BigInt(query.amount),
  )
  const payments = events.filter(({ is }) => is === 'payment').length
  if (payments === 0 || !paying.includes(ours)) return 'otherwise'
  const shown = byPayer.filter(({ method }) => method === 'eip3009').length
  const notShown = events.filter(({ is }) => is.endsWith('use')).length - shown
  // There are fewer where the token has kept a fee, or where one of them is not ours.
  return payments >= paying.length + Math.max(0, notShown) ? 'paid' : 'unclear'
}
