/** Every cell of the table, and those in which more is charged than delivered, with the reason. */
import type { CellName, CellResult } from './cell.ts'
import type { ClientName } from './clients.ts'
import { type FaultName, faults } from './faults.ts'
import type { ServerName } from './servers.ts'

const buyersOf: Readonly<Record<ServerName, readonly ClientName[]>> = {
  '@x402/express': ['@x402/fetch', '@x402/axios', 'repeats the payment'],
  '@x402/hono': ['@x402/fetch', '@x402/axios', 'repeats the payment'],
  '@x402/next': ['@x402/fetch', '@x402/axios', 'repeats the payment'],
  'Python, by the gateway': ['@x402/fetch', '@x402/axios', 'repeats the payment'],
  'x402-express': ['x402-fetch (version 1)'],
  'x402-hono': ['x402-fetch (version 1)'],
  MCP: ['MCP'],
}

export const matrix: readonly CellName[] = (Object.keys(faults) as FaultName[]).flatMap(fault =>
  (Object.keys(buyersOf) as ServerName[]).flatMap(server =>
    buyersOf[server].map(client => ({ client, server, fault })),
  ),
)

export function nameOf({ client, server, fault }: CellName): string {
  return `${client} > ${server} > ${fault}`
}

const isSeenByNobody =
  'The gateway does not see the replies of the server behind it: that the buyer got nothing is unknown.'
const isNotFollowed =
  'Version 1 does not name the requirements in the payment, so that its replies are not followed.'
const isPerhapsAnother =
  'Until the claim of the replica that died has lapsed (30 s after its deadline; 4 s in this run), a payment that is signed ' +
  'anew may be another purchase. The same payment, presented again, is not charged again.'

/** Why more may be charged than delivered; nothing where both must be equal. */
export function exceptionOf({ client, server, fault }: CellName): string | undefined {
  const isReplyLost = fault === 'reply lost after the settle' || fault === 'buyer hangs up'
  if (isReplyLost && server === 'Python, by the gateway') return isSeenByNobody
  if (isReplyLost && (server === 'x402-express' || server === 'x402-hono')) return isNotFollowed
  // The client of MCP notices so late that its connection has ended that the claim has lapsed.
  const signsAnewAtOnce = client !== 'repeats the payment' && client !== 'MCP'
  if (fault === 'replica killed' && signsAnewAtOnce) return isPerhapsAnother
  return undefined
}

/** Every purchase was charged once and delivered once; or, in an exception, delivered no more often than charged. */
export function keepsPromise(cell: CellName, { purchases, charged, delivered }: CellResult): boolean {
  if (exceptionOf(cell) !== undefined) return delivered <= charged
  return charged === purchases && delivered === purchases
}
