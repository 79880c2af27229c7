/**
 * Purchases of the same thing, at processes that share a ledger, with the library's own code: what it asks of its ledger,
 * its facilitator and its chain waits until the search lets it happen, in any order, and time is the search's own. A
 * world is made anew by making its moves again: so nothing is modelled that could differ from the code.
 */
import { AsyncLocalStorage } from 'node:async_hooks'
import type { PaymentPayload, PaymentRequirements, SettleResponse } from '@x402/core/types'
import { type ReplyReports, replyReports } from '../../src/delivery/index.ts'
import type { FacilitatorAggregator, LedgerEntry, ProbeAnswer, SettlementLedger } from '../../src/index.ts'

/** The code that is explored: the sources, or a mutation of them. */
export interface Code {
  readonly FacilitatorAggregator: typeof import('../../src/index.ts').FacilitatorAggregator
  readonly MemoryLedger: typeof import('../../src/index.ts').MemoryLedger
  readonly settlementProbe: typeof import('../../src/probe/index.ts').settlementProbe
}

export interface CreditSetup {
  readonly name: string
  readonly processes: number
  /** By payment, who pays: payments of one payer are for the same purchase. */
  readonly payers: readonly string[]
  /** By payment, how often it may be presented. */
  readonly presentations: readonly number[]
  readonly hasChain: boolean
  readonly redeliveries: number
  /** How often each may happen. */
  readonly most: Readonly<Record<'answersLost' | 'repliesLost' | 'departures' | 'crashes' | 'lapses', number>>
}

/** What may happen next. */
interface Move {
  readonly text: string
  /** Who notices it; everybody, where nobody is named. */
  readonly by: Task | undefined
  make(): void
}

/** What a process has asked for, and waits for. */
interface Pending {
  readonly by: Task
  readonly answers: readonly { readonly text: string; readonly give: () => void }[]
}

/** A request that presents a payment, until its reply has ended, or a loss that is being recorded. */
interface Task {
  readonly process: Process
  readonly payment: number
  readonly isLoss: boolean
  hasLeft: boolean
  /** What happened to it: as the code is deterministic, all that it knows. */
  history: string
}

interface Process {
  readonly number: number
  isDead: boolean
  readonly running: Set<Task>
  open(): Opened
}

interface Opened {
  readonly aggregator: FacilitatorAggregator
  readonly replies: ReplyReports
}

interface Timer {
  readonly at: number
  readonly by: Task | undefined
  readonly callback: () => void
}

const network = 'eip155:84532'
const windowMs = 10 * 60_000
const deadlineMs = 4_000
const leaseMs = deadlineMs + 30_000

/** For which task the code runs. */
const current = new AsyncLocalStorage<Task>()

const real = {
  dateNow: Date.now,
  performanceNow: performance.now.bind(performance),
  setTimeout: globalThis.setTimeout,
  clearTimeout: globalThis.clearTimeout,
  setImmediate: globalThis.setImmediate,
  randomUUID: crypto.randomUUID.bind(crypto),
}

const requirements: PaymentRequirements = {
  scheme: 'exact',
  network,
  asset: `0x${'03'.repeat(20)}`,
  amount: '10000',
  payTo: `0x${'22'.repeat(20)}`,
  maxTimeoutSeconds: 60,
  extra: {},
}

function sign(number: number, payer: string): PaymentPayload {
  const from = `0x${(payer.charCodeAt(0) % 16).toString(16).repeat(40)}`
  const nonce = nonceOf(number)
  const authorization = { from, to: requirements.payTo, value: '10000', validBefore: '9000000000', nonce }
  return {
    x402Version: 2,
    accepted: requirements,
    payload: { signature: `0x${'ab'.repeat(65)}`, authorization },
  }
}

function nonceOf(number: number): string {
  return `0x${`${number + 1}`.padStart(64, '0')}`
}

/** Lets everything happen that needs no further move. */
function settleDown(): Promise<void> {
  return new Promise(resolve => real.setImmediate(resolve))
}

export class CreditWorld {
  violation: string | undefined
  readonly #processes: Process[] = []
  readonly #ledger: InstanceType<Code['MemoryLedger']>
  readonly #payments: readonly PaymentPayload[]
  readonly #pending: Pending[] = []
  readonly #timers = new Map<number, Timer>()
  /** Milliseconds; processes do not notice how far the ledger's clock is ahead: it is as if they had slept. */
  #clock = 1_000_000_000_000
  #ledgerAheadMs = 0
  #names = 0
  readonly #left: Record<keyof CreditSetup['most'], number>
  readonly #presented: number[]
  /** What the chain has charged. */
  readonly #charged = new Set<number>()
  /** By payment that was charged: the successes that named its transaction, and those that reached their buyers. */
  readonly #reported: number[]
  readonly #received: number[]
  /** The processes that have been asked. */
  readonly #used = new Set<number>()
  /** As of the last move. */
  #entries: readonly LedgerEntry[] = []
  /** Charged, recorded as settled, and its process died before it could reply; or nobody came back in time. */
  readonly #excused = new Set<number>()

  constructor(
    private readonly setup: CreditSetup,
    private readonly code: Code,
  ) {
    const none = setup.payers.map(() => 0)
    this.#left = { ...setup.most }
    this.#presented = [...none]
    this.#reported = [...none]
    this.#received = [...none]
    this.#payments = setup.payers.map((payer, number) => sign(number, payer))
    this.#takeOverTime()
    this.#ledger = new code.MemoryLedger()
    for (let i = 0; i < setup.processes; i++) this.#processes.push(this.#start(i))
  }

  #takeOverTime(): void {
    const timers = this.#timers
    let handles = 0
    Date.now = () => this.#clock
    performance.now = () => this.#clock - 1_000_000_000_000
    const set = (callback: () => void, delayMs = 0) => {
      timers.set(++handles, { at: this.#clock + delayMs, by: current.getStore(), callback })
      return handles
    }
    globalThis.setTimeout = set as unknown as typeof setTimeout
    globalThis.clearTimeout = (handle => timers.delete(Number(handle))) as typeof clearTimeout
    crypto.randomUUID = () => `0-0-0-0-${++this.#names}`
  }

  /** Gives time back to the process in which the search runs. */
  static end(): void {
    Date.now = real.dateNow
    performance.now = real.performanceNow
    globalThis.setTimeout = real.setTimeout
    globalThis.clearTimeout = real.clearTimeout
    crypto.randomUUID = real.randomUUID
  }

  #start(number: number): Process {
    let opened: Opened | undefined
    const open = () => (opened ??= this.#open())
    return { number, isDead: false, running: new Set(), open }
  }

  /** An aggregator of its own, made when it is first needed. */
  #open(): Opened {
    const { FacilitatorAggregator, settlementProbe } = this.code
    const { hasChain, redeliveries } = this.setup
    const probe = settlementProbe({
      supports: () => true,
      // At once, and the truth: what a chain that lags or is silent makes of a settlement, world.ts explores.
      ask: async ({ nonce }) => this.#shown(nonce),
    })
    const only = {
      getSupported: async () => ({ kinds: [], extensions: [], signers: {} }),
      verify: async () => ({ isValid: true }),
      settle: (payment: PaymentPayload) => this.#settleAtFacilitator(payment),
    }
    const aggregator = new FacilitatorAggregator({
      facilitators: [{ id: 'only', client: only }],
      healthCheck: false,
      logger: false,
      retries: 0,
      deadlineMs: { settle: deadlineMs },
      settlement: {
        ledger: this.#connect(),
        redeliveries,
        crossExamine: false,
        failoverAfterMs: 1_000,
        probeAfterMs: 500,
        watchIntervalMs: 2_000_000_000,
        probes: hasChain ? [probe] : [],
      },
    })
    return { aggregator, replies: replyReports(aggregator) }
  }

  /** A replica's connection to the ledger. */
  #connect(): SettlementLedger {
    const inner = this.#ledger
    const call = <T>(text: string, work: () => Promise<T>) => this.#ask(text, () => this.#byLedger(work))
    return {
      isShared: true,
      claim: request => call(`claims ${nameOf(request.key)}`, () => inner.claim(request)),
      update: update =>
        call(`records ${nameOf(update.key)} ${update.settlement.state}`, () => inner.update(update)),
      get: key => call(`reads ${nameOf(key)}`, () => inner.get(key)),
      list: filter => inner.list(filter),
      undelivered: query => call('reads what is undelivered', () => inner.undelivered(query)),
    }
  }

  /** The ledger's clock is its own. */
  #byLedger<T>(work: () => Promise<T>): Promise<T> {
    const clock = this.#clock
    this.#clock += this.#ledgerAheadMs
    try {
      // It works at once, before the first await.
      return work()
    } finally {
      this.#clock = clock
    }
  }

  #ask<T>(text: string, work: () => Promise<T>): Promise<T> {
    return new Promise(resolve => {
      this.#wait(current.getStore(), [{ text, give: () => resolve(work()) }])
    })
  }

  #wait(by: Task | undefined, answers: Pending['answers']): void {
    if (by === undefined) throw new Error('nobody asks')
    if (by.process.isDead) return
    const pending: Pending = {
      by,
      answers: answers.map(({ text, give }) => ({
        text,
        give: () => {
          this.#pending.splice(this.#pending.indexOf(pending), 1)
          give()
        },
      })),
    }
    this.#pending.push(pending)
  }

  #shown(nonce: string): ProbeAnswer {
    const asOf = Math.floor(this.#clock / 1000) + 1
    const number = this.#payments.findIndex((_, at) => nonceOf(at) === nonce)
    return this.#charged.has(number)
      ? { state: 'paid', transaction: transactionOf(number), minedAt: asOf, asOf }
      : { state: 'unspent', asOf }
  }

  #settleAtFacilitator(payment: PaymentPayload): Promise<SettleResponse> {
    const number = this.#payments.indexOf(payment)
    const transaction = transactionOf(number)
    return new Promise((resolve, reject) => {
      const lose = () => {
        this.#left.answersLost--
        reject(new Error('Facilitator settle failed (502): <html>'))
      }
      const charge = () => this.#charged.add(number)
      if (this.#charged.has(number))
        return resolve({
          success: false,
          errorReason: 'invalid_exact_evm_nonce_already_used',
          transaction: '',
          network,
        })
      const answers: Pending['answers'][number][] = [
        {
          text: `the facilitator settles ${letterOf(number)}`,
          give: () => {
            charge()
            resolve({ success: true, transaction, network })
          },
        },
      ]
      if (this.#left.answersLost > 0)
        answers.push(
          {
            text: `the facilitator settles ${letterOf(number)}, and its answer is lost`,
            give: () => {
              charge()
              lose()
            },
          },
          { text: `the request to settle ${letterOf(number)} is lost`, give: lose },
        )
      this.#wait(current.getStore(), answers)
    })
  }

  /** All that may happen now. */
  moves(): Move[] {
    if (this.violation !== undefined) return []
    const left = this.#left
    const found: Move[] = []
    for (const { by, answers } of this.#pending)
      for (const { text, give } of answers)
        found.push({ text: `${whoIs(by.process)}: ${text}`, by, make: give })
    if (this.#pending.length === 0 && this.#isAnybodyRunning) {
      const next = this.#nextTimer()
      if (next === undefined) this.violation = 'nobody goes on'
      else
        found.push({
          text: `${((next.timer.at - this.#clock) / 1000).toFixed(2)} s pass`,
          by: undefined,
          make: () => this.#fire(next),
        })
    }
    // Processes that have done nothing are alike, and so are payments that were not presented.
    const unused = this.#processes.findIndex(process => !this.#used.has(process.number))
    for (const process of this.#processes) {
      if (unused < 0 || process.number <= unused)
        for (const number of this.#payments.keys())
          if (this.#mayPresent(number))
            found.push({
              text: `${letterOf(number)} is presented at ${whoIs(process)}`,
              by: undefined,
              make: () => this.#present(process, number),
            })
      for (const task of process.running)
        if (left.departures > 0 && !task.isLoss && !task.hasLeft && this.#isAlone(task))
          found.push({
            text: `the buyer of ${letterOf(task.payment)} leaves ${whoIs(process)}`,
            by: undefined,
            make: () => this.#leave(task),
          })
      if (left.crashes > 0 && process.running.size > 0)
        found.push({ text: `${whoIs(process)} dies`, by: undefined, make: () => this.#crash(process) })
    }
    const mayLapse = (...states: string[]) =>
      left.lapses > 0 && this.#entries.some(({ settlement }) => states.includes(settlement.state))
    if (mayLapse('settling'))
      found.push({ text: 'every lease lapses', by: undefined, make: () => this.#lapse(leaseMs) })
    if (mayLapse('undelivered'))
      found.push({ text: 'every window ends', by: undefined, make: () => this.#lapse(windowMs) })
    return found
  }

  /** Makes a move, and whatever follows from it alone. */
  async make({ text, by, make }: Move): Promise<void> {
    if (by === undefined)
      for (const { running } of this.#processes) for (const task of running) task.history += `${text}\n`
    else by.history += `${text}\n`
    make()
    await settleDown()
    this.#entries = (await this.#byLedger(() => this.#ledger.list({ limit: 100 }))).entries
    this.#judge()
  }

  #mayPresent(number: number): boolean {
    const { payers, presentations } = this.setup
    if ((this.#presented[number] ?? 0) >= (presentations[number] ?? 0)) return false
    return payers.every(
      (payer, other) => other >= number || payer !== payers[number] || this.#presented[other],
    )
  }

  get #isAnybodyRunning(): boolean {
    return this.#processes.some(({ running }) => running.size > 0)
  }

  #nextTimer(): { readonly handle: number; readonly timer: Timer } | undefined {
    let next: { handle: number; timer: Timer } | undefined
    for (const [handle, timer] of this.#timers)
      if (next === undefined || timer.at < next.timer.at) next = { handle, timer }
    // What comes so late is no part of a purchase.
    return next && next.timer.at < this.#clock + windowMs ? next : undefined
  }

  #fire({ handle, timer }: { readonly handle: number; readonly timer: Timer }): void {
    this.#timers.delete(handle)
    this.#clock = Math.max(this.#clock, timer.at)
    if (timer.by === undefined) timer.callback()
    else current.run(timer.by, timer.callback)
  }

  #isAlone(task: Task): boolean {
    return ![...task.process.running].some(
      other => other !== task && !other.isLoss && other.payment === task.payment && !other.hasLeft,
    )
  }

  #present(process: Process, number: number): void {
    const payload = this.#payments[number] as PaymentPayload
    const task: Task = { process, payment: number, isLoss: false, hasLeft: false, history: '' }
    this.#presented[number] = (this.#presented[number] ?? 0) + 1
    this.#used.add(process.number)
    process.running.add(task)
    const end = () => process.running.delete(task)
    const settling = current.run(task, () => process.open().aggregator.settle(payload, requirements))
    settling.then(response => {
      if (process.isDead) return
      if (response.success) return this.#reply(task, response.transaction)
      end()
      if (this.#charged.has(number) && !this.#reported[number] && !this.#excused.has(number))
        this.violation = `${letterOf(number)} was charged and reported to nobody, and is answered 402`
    }, end)
  }

  /** Reports a reply that is lost to the aggregator, and waits until it has been recorded. */
  #report(task: Task, how: 'lost' | 'abandoned'): void {
    const { process, payment } = task
    const loss: Task = { process, payment, isLoss: true, hasLeft: false, history: `${how}\n` }
    process.running.add(loss)
    const recorded = current.run(loss, () =>
      process.open().replies[how](this.#payments[payment] as PaymentPayload),
    )
    void recorded.then(() => process.running.delete(loss))
    // What is waited for later is not what is waited for now.
    for (const other of process.running) if (other !== loss) other.history += `loss of ${payment}\n`
  }

  /** The success is on its way to the buyer, as far as its process lives. */
  #reply(task: Task, transaction: string): void {
    const { process } = task
    const charge = this.#payments.findIndex((_, number) => transactionOf(number) === transaction)
    if (!this.#charged.has(charge)) {
      this.violation = `${letterOf(task.payment)} is delivered for nothing`
      return
    }
    if (this.setup.payers[charge] !== this.setup.payers[task.payment]) {
      this.violation = `${letterOf(task.payment)} is delivered for the charge of another payer`
      return
    }
    this.#reported[charge] = (this.#reported[charge] ?? 0) + 1
    const end = () => process.running.delete(task)
    const lost = {
      text: `loses its reply to ${letterOf(task.payment)}`,
      give: () => {
        if (!task.hasLeft) this.#left.repliesLost--
        end()
        this.#report(task, 'lost')
      },
    }
    const arrives = {
      text: `delivers ${letterOf(task.payment)}`,
      give: () => {
        this.#received[charge] = (this.#received[charge] ?? 0) + 1
        end()
      },
    }
    if (task.hasLeft) this.#wait(task, [lost])
    else this.#wait(task, this.#left.repliesLost > 0 ? [arrives, lost] : [arrives])
  }

  #leave(task: Task): void {
    this.#left.departures--
    task.hasLeft = true
    this.#report(task, 'abandoned')
  }

  #crash(process: Process): void {
    this.#left.crashes--
    process.isDead = true
    for (const [handle, timer] of this.#timers) if (timer.by?.process === process) this.#timers.delete(handle)
    this.#pending.splice(0, Infinity, ...this.#pending.filter(({ by }) => by.process !== process))
    // Who dies after his payment was recorded, and before his reply, has no witness.
    for (const { payment } of process.running) this.#dead.add(payment)
    this.#processes[process.number] = this.#start(process.number)
  }

  /** The payments that were presented to a process as it died. */
  readonly #dead = new Set<number>()

  #lapse(ms: number): void {
    this.#left.lapses--
    this.#ledgerAheadMs += ms
    this.#hasLapsed = true
    if (ms === windowMs) for (const number of this.#charged) this.#excused.add(number)
  }

  #hasLapsed = false

  #judge(): void {
    const entries = this.#entries
    for (const number of this.#charged) {
      const reported = this.#reported[number] ?? 0
      const received = this.#received[number] ?? 0
      if (received > 1)
        this.violation ??= `one charge, of ${letterOf(number)}, is delivered ${received} times`
      if (reported > 1 + this.setup.redeliveries)
        this.violation ??= `one charge, of ${letterOf(number)}, is reported ${reported} times`
    }
    // Recorded for the payment that was presented there, so that only its reply is missing.
    for (const { key, settlement } of entries)
      if (settlement.state === 'settled' && this.#dead.has(numberOf(key)))
        this.#excused.add(numberOfTransaction(settlement.transaction))
    if (this.#isAnybodyRunning) return
    for (const number of this.#charged) {
      if ((this.#received[number] ?? 0) > 0 || this.#excused.has(number)) continue
      const isFound = entries.some(
        ({ key, settlement }) =>
          (numberOf(key) === number &&
            ['settling', 'unresolved', 'undelivered'].includes(settlement.state)) ||
          (settlement.state === 'undelivered' && settlement.transaction === transactionOf(number)),
      )
      const reported = this.#reported[number] ?? 0
      // Of a claim that has lapsed nobody knows whether it was the last redelivery.
      const isUsedUp = reported > this.setup.redeliveries || (this.#hasLapsed && reported > 0)
      if (!isFound && !isUsedUp)
        this.violation ??= `${letterOf(number)} was charged, and nobody will ever know`
    }
  }

  /** Equal for worlds in which the same may happen. */
  get key(): string {
    const entries = this.#entries.map(({ key, settlement, since }) => [
      numberOf(key),
      settlement,
      since - this.#clock,
    ])
    return JSON.stringify([
      entries.sort(([one], [other]) => Number(one) - Number(other)),
      this.#processes.map(({ running }) =>
        [...running]
          .map(({ payment, hasLeft, isLoss, history }) => [payment, hasLeft, isLoss, history])
          .sort(),
      ),
      this.#left,
      this.#presented,
      [...this.#used],
      [...this.#charged].sort(),
      [...this.#excused].sort(),
      [...this.#dead].sort(),
      this.#reported,
      this.#received,
      this.#ledgerAheadMs,
    ])
  }
}

function whoIs(process: Process): string {
  return `process ${process.number + 1}`
}
function letterOf(number: number): string {
  return `payment ${String.fromCharCode(65 + number)}`
}
function transactionOf(number: number): string {
  return `0x${`${number + 1}`.padStart(64, 'e')}`
}
function numberOfTransaction(transaction: string): number {
  return Number(transaction.replace(/^0xe+/, '')) - 1
}
/** Keys end with the nonce. */
function numberOf(key: string): number {
  return Number(key.slice(key.lastIndexOf('0x') + 2)) - 1
}
function nameOf(key: string): string {
  return letterOf(numberOf(key))
}
