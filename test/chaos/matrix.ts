/** The fault matrix: every row, the cells of each, and what is promised of them. */
import { runCell } from './cell.ts'
import { denials, type FaultName, faults, sequences } from './faults.ts'
import type { CellResult } from './result.ts'
import type { Bed, ClientName } from './scenario.ts'
import { agents } from './scenarios/agents.ts'
import { gatewayWallet } from './scenarios/gateway-wallet.ts'
import { capitals, nonceOutOfRange, unknownPayload, unknownV1Network } from './scenarios/identity.ts'
import {
  hangsAfterClaim,
  losesClaims,
  losesClaimsOfLostAnswers,
  losesUnresolved,
} from './scenarios/ledgers.ts'
import { cancelledBeside, nothingUsed } from './scenarios/permit2.ts'
import { clockAhead, sentToBoth } from './scenarios/replicas.ts'

export const clients: readonly ClientName[] = ['with probe', 'without probe', 'naive']
const bothPromised: readonly ClientName[] = ['with probe', 'without probe']

/** Nothing is ever lost, or delivered without a charge of its own. What is promised beyond that: */
export interface Promised {
  /** Every payment is settled and delivered. */
  readonly settles?: readonly ClientName[]
  /** Milliseconds that no purchase takes longer than. */
  readonly withinMs?: number
}

export interface Cell extends Promised {
  readonly group: GroupName
  readonly fault: string
  /** Where the fault lies: at how many facilitators of how many; empty where it does not lie there. */
  readonly at: string
  readonly client: ClientName
  run(bed: Omit<Bed, 'client'>): Promise<CellResult>
}

type Row = readonly Cell[]

const settledByBoth: Promised = { settles: bothPromised }
const settledWithProbe: Promised = { settles: ['with probe'] }

/** A fault at the edge of facilitators: at one of three, and at two. */
const atFacilitators = (group: GroupName) => (fault: FaultName) => {
  // Nobody but the chain can tell a false claim from a settlement.
  const able = fault === 'false claim' ? clients.filter(client => client !== 'without probe') : clients
  const counts = fault === 'random' ? [3 as const] : [1 as const, 2 as const]
  return counts.flatMap(facilitators => edge(group, fault, facilitators, 3, able, settledWithProbe))
}

/** Where all of them deny, the chain alone knows. */
const atAll = (fault: FaultName) => edge('denials', fault, 3, 3, ['with probe'], settledWithProbe)

/** Two facilitators with a fault each: with an honest one after them, and alone. */
const inSequence = (fault: FaultName) =>
  ([3, 2] as const).flatMap(poolSize => edge('denials', fault, 2, poolSize, clients, settledWithProbe))

function edge(
  group: GroupName,
  fault: FaultName,
  facilitators: 1 | 2 | 3,
  poolSize: 2 | 3,
  names: readonly ClientName[],
  promised: Promised = {},
): Row {
  const at = `${facilitators}/${poolSize}`
  return names.map(client => ({
    group,
    fault,
    at,
    client,
    ...promised,
    run: bed => runCell({ ...bed, client, fault, facilitators, poolSize }),
  }))
}

/** A claim of success is looked up: only where a probe can. */
const audited = ['with probe'] as const

function scenario(
  group: GroupName,
  fault: string,
  run: (bed: Bed) => Promise<CellResult>,
  promised: Promised = {},
  names: readonly ClientName[] = bothPromised,
): Row {
  return names.map(client => ({
    group,
    fault,
    at: '',
    client,
    ...promised,
    run: bed => run({ ...bed, client }),
  }))
}

const groups = {
  /** Facilitators that are down, slow, in trouble, or silent. */
  outages: [...(Object.keys(faults) as FaultName[]), 'random' as const].flatMap(atFacilitators('outages')),
  /** Facilitators that settle, and say that they did not. */
  denials: [
    ...(Object.keys(denials) as FaultName[]).flatMap(fault => [
      ...atFacilitators('denials')(fault),
      ...atAll(fault),
    ]),
    ...(Object.keys(sequences) as FaultName[])
      .filter(name => name !== 'hang; then a passing fault')
      .flatMap(inSequence),
  ],
  /** With every time as it is by default. */
  patience: edge('patience', 'hang; then a passing fault', 2, 2, ['with probe'], {
    ...settledWithProbe,
    withinMs: 20_000,
  }),
  replicas: [
    ...scenario('replicas', 'both at once, one facilitator', sentToBoth(1, 0), settledWithProbe),
    ...scenario('replicas', 'both at once, one each', sentToBoth(2, 0), settledWithProbe),
    ...scenario('replicas', '300 ms apart, one facilitator', sentToBoth(1, 300), settledWithProbe),
    ...scenario('replicas', '300 ms apart, one each', sentToBoth(2, 300), settledWithProbe),
    ...scenario('replicas', 'clock 90 s ahead, then dies', clockAhead(90_000)),
  ],
  ledgers: [
    ...scenario('ledgers', 'ledger loses the claim', losesClaims, settledByBoth),
    ...scenario(
      'ledgers',
      'ledger loses the claim, settle, reset',
      losesClaimsOfLostAnswers,
      settledWithProbe,
    ),
    ...scenario('ledgers', 'ledger loses the unresolved', losesUnresolved),
    ...scenario('ledgers', 'ledger hangs after the claim', hangsAfterClaim, {
      ...settledByBoth,
      withinMs: 9_000,
    }),
  ],
  agents: [...scenario('agents', 'random faults, lost replies', agents(1))],
  permit2: [
    ...scenario('permit2', 'cancelled beside a settled one', cancelledBeside),
    ...scenario('permit2', 'nothing used, audited', nothingUsed, settledByBoth, audited),
  ],
  identity: [
    ...scenario('identity', 'names in capitals', capitals, settledByBoth),
    ...scenario('identity', 'Permit2 nonce out of range', nonceOutOfRange, settledByBoth),
    ...scenario('identity', 'version 1 network unknown', unknownV1Network, settledByBoth),
    ...scenario('identity', 'payload unknown', unknownPayload, settledByBoth),
  ],
  'gateway wallet': [
    ...scenario('gateway wallet', 'Circle Gateway', gatewayWallet('arrives', 'off'), settledByBoth),
    ...scenario(
      'gateway wallet',
      'Circle Gateway, audited',
      gatewayWallet('arrives', 'always'),
      settledByBoth,
      audited,
    ),
    ...scenario('gateway wallet', 'Circle Gateway, denied', gatewayWallet('denied', 'off')),
    ...scenario('gateway wallet', 'Circle Gateway, answer lost', gatewayWallet('lost', 'off')),
    ...scenario(
      'gateway wallet',
      'Circle Gateway, answer lost, audited',
      gatewayWallet('lost', 'always'),
      {},
      audited,
    ),
  ],
} satisfies Record<string, Row>

export type GroupName =
  | 'outages'
  | 'denials'
  | 'patience'
  | 'replicas'
  | 'ledgers'
  | 'agents'
  | 'permit2'
  | 'identity'
  | 'gateway wallet'

export const groupNames = Object.keys(groups) as GroupName[]
export const matrix: readonly Cell[] = Object.values(groups).flat()

export function nameOf({ fault, at, client }: Cell): string {
  return [fault, at, client].filter(Boolean).join(', ')
}

/** Whether what came out is what is promised; of the naive fallback nothing is. */
export function keepsPromise({ client, settles, withinMs = Infinity }: Cell, result: CellResult): boolean {
  if (client === 'naive') return true
  const { lost, falseSuccess, failed, indeterminate, maxMs } = result
  const settlesAll = failed === 0 && indeterminate === 0
  return lost === 0 && falseSuccess === 0 && maxMs <= withinMs && (settlesAll || !settles?.includes(client))
}
