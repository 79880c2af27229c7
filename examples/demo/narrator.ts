/** What the demo prints. */
import { stripVTControlCharacters, styleText } from 'node:util'
import type { AggregatorEvents } from '../../src/index.ts'

type Style = Parameters<typeof styleText>[0]

export class Narrator {
  readonly #startedAt = performance.now()

  act(title: string): void {
    console.log(`\n${paint('bold', `── ${title}`)}`)
  }

  line(text: string): void {
    const seconds = ((performance.now() - this.#startedAt) / 1000).toFixed(1).padStart(5)
    console.log(`${paint('gray', `${seconds} s`)}  ${text}`)
  }

  purchase(
    number: number,
    status: number,
    servedBy: string,
    durationMs: number,
    balances: { buyer: bigint; seller: bigint },
  ): void {
    const result = status === 200 ? paint('green', 'paid') : paint('red', `failed (${status})`)
    this.line(
      `purchase ${String(number).padStart(2)}  ${result}  settled by ${servedBy.padEnd(6)}  ` +
        `${String(Math.round(durationMs)).padStart(5)} ms   ` +
        `buyer ${inDollars(balances.buyer)}  seller ${inDollars(balances.seller)}`,
    )
  }

  /** But for the trials in between, of which there is one each time that a cool-down is over. */
  circuit({ facilitator, operation, from, to }: AggregatorEvents['circuit:change']): void {
    if (to === 'half-open' || (from === 'half-open' && to === 'open')) return
    const color = to === 'open' ? 'red' : 'green'
    this.line(`  circuit of ${facilitator}/${operation}: ${from} → ${paint(color, to)}`)
  }

  rescue(transaction: string): void {
    this.line(paint('green', `  the answer is lost; the chain shows ${transaction.slice(0, 18)}…: delivered`))
  }

  failover({ operation, from, to, reason }: AggregatorEvents['failover']): void {
    this.line(paint('yellow', `  ${operation} goes on from ${from} (${reason ?? 'no reason'}) to ${to}`))
  }

  summary(result: {
    paid: number
    failed: number
    recovered: number
    rescued: number
    served: ReadonlyMap<string, number>
    due: bigint
    received: bigint
    agrees: boolean
  }): void {
    this.act('Summary')
    console.log(`paid       ${result.paid}`)
    console.log(`failed     ${result.failed}`)
    console.log(`recovered  ${result.recovered}  (paid although a facilitator failed on the way)`)
    for (const [id, count] of result.served) console.log(`  settled by ${id.padEnd(6)} ${count}`)
    console.log(`  known from the chain alone ${result.rescued}`)
    const verdict = result.agrees ? paint('green', 'the chain agrees') : paint('red', 'THE CHAIN DISAGREES')
    console.log(`due ${inDollars(result.due)}, received on chain ${inDollars(result.received)}: ${verdict}`)
  }
}

function paint(style: Style, text: string): string {
  return process.stdout.isTTY ? styleText(style, text) : stripVTControlCharacters(text)
}

function inDollars(atomicUnits: bigint): string {
  const cents = atomicUnits / 10_000n
  return `$${cents / 100n}.${String(cents % 100n).padStart(2, '0')}`
}
