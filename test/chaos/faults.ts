/** What goes wrong at facilitators while they settle. */
import { type Fault, inTurn } from '../bed/facilitator.ts'

/** `refuse` and `no gas` are conditions of the whole facilitator; a function makes a fault that keeps count. */
export type Condition = Fault | 'refuse' | 'no gas' | (() => Fault)

const answers = (status: number): Fault => ({ kind: 'answer', status })
const rejects = (errorReason: string, transaction = ''): Fault => ({
  kind: 'answer',
  status: 200,
  body: { success: false, errorReason, transaction, network: 'eip155:84532' },
})
const actsThen = (next: Fault): Fault => ({ kind: 'act-then', next })
const broadcastsThen = (next: Fault): Fault => ({ kind: 'broadcast-then', next })

/** Facilitators that are down, slow, in trouble, or silent about what they did. */
export const faults = {
  refuse: 'refuse',
  'hang before': { kind: 'hang' },
  'settle, hang': actsThen({ kind: 'hang' }),
  'settle, reset': actsThen({ kind: 'reset' }),
  'settle, 502': actsThen(answers(502)),
  'settle, garbage': actsThen({ kind: 'answer', status: 200, body: '<html>' }),
  '500 before': answers(500),
  '429': { kind: 'answer', status: 429, headers: { 'retry-after': '1' } },
  'no gas': 'no gas',
  pending: { kind: 'pending' },
  slow: { kind: 'slow', ms: 3_000 },
  'false claim': { kind: 'false claim' },
} as const satisfies Record<string, Condition>

/** Statuses with which facilitators and what stands before them refuse a request, as if nothing had been done. */
const refusals = [400, 401, 403, 404, 405, 410, 413, 415, 422, 429]
const refusesAfter = (act: (next: Fault) => Fault): Fault[] => [
  ...refusals.map(status => act(answers(status))),
  act({ kind: 'answer', status: 303, headers: { location: '/settled' } }),
]

/** Facilitators that settle, and say that they did not. */
export const denials = {
  'settle, refused status': () => inTurn(refusesAfter(actsThen)),
  'settle, unsupported': actsThen(rejects('unsupported_scheme')),
} as const satisfies Record<string, Condition>

const verdicts = [
  'invalid_payload',
  'eip2612_nonce_mismatch',
  'erc20_approval_tx_failed',
  'invalid_exact_evm_signature',
].map(reason => rejects(reason))

/** What the first facilitator does, and the second, to whom the first has left the payment. */
export const sequences = {
  'settle, denied; then a verdict': [actsThen(rejects('failed_to_execute_transfer')), () => inTurn(verdicts)],
  'broadcast, denied; then 401': [broadcastsThen(rejects('internal_error')), answers(401)],
  'broadcast, denied; then no gas': [broadcastsThen(rejects('internal_error')), 'no gas'],
  'broadcast, reset; then transaction failed': [
    broadcastsThen({ kind: 'reset' }),
    rejects('transaction_failed', `0x${'22'.repeat(32)}`),
  ],
  'hang; then a passing fault': [
    { kind: 'hang' },
    () =>
      inTurn(
        [answers(502), answers(503), { kind: 'reset' } as const].map(fault => ({
          kind: 'first-time',
          fault,
        })),
      ),
  ],
} as const satisfies Record<string, readonly [Condition, Condition]>

export type FaultName =
  | keyof typeof faults
  | keyof typeof denials
  | keyof typeof sequences
  /** A fault drawn anew for three settles in ten. */
  | 'random'

/** What each of the facilitators that have the fault does, in order of priority. */
export function conditionsOf(name: FaultName, facilitators: number, random: () => number): Condition[] {
  if (name in sequences) return [...sequences[name as keyof typeof sequences]]
  const condition = name === 'random' ? drawn(random) : { ...faults, ...denials }[name as keyof typeof faults]
  return Array.from({ length: facilitators }, () => condition)
}

function drawn(random: () => number): Fault {
  const drawable = Object.values(faults).filter(
    fault => typeof fault === 'object' && fault.kind !== 'false claim',
  )
  const draw = () =>
    random() < 0.3 ? (drawable[Math.floor(random() * drawable.length)] as Fault) : undefined
  return { kind: 'draw', draw }
}
