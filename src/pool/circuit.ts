/**
 * A circuit breaker for one lane (Nygard, "Release It!", 2007): closed lets calls through, open sends them to
 * the back of the route, half-open lets exactly one trial through.
 */

import type { Operation } from '../observe/attempt-report.ts'

export type CircuitState =
  | { readonly state: 'closed'; readonly failures: number }
  | { readonly state: 'open'; readonly failures: number; readonly halfOpenAt: number }
  | { readonly state: 'half-open'; readonly failures: number; readonly trial: 'free' | 'running' }

/** `open`: asked last. `half-open`: one trial decides. */
export type CircuitName = 'closed' | 'open' | 'half-open'

/** A lane whose circuit changed its state. */
export interface CircuitChange {
  readonly facilitator: string
  readonly operation: Operation
  /** Absent for `supported` and `list`, as is `network`. */
  readonly scheme?: string | undefined
  readonly network?: string | undefined
  readonly from: CircuitName
  readonly to: CircuitName
  readonly consecutiveFailures: number
}

/** The right to be the trial of a half-open circuit; it lapses when the circuit changes its state meanwhile. */
export type Trial = CircuitState & { readonly trial: 'running' }

/** What an attempt says about its lane; `nothing` for an answer that says nothing about its health. */
export type LaneSign = 'success' | 'failure' | 'nothing'

export interface CircuitOptions {
  /** Failures in a row that open the circuit. */
  readonly maxConsecutiveFailures: number
  /** Milliseconds from opening to half-open. */
  readonly coolDownMs: number
}

const healthy: CircuitState = { state: 'closed', failures: 0 }

export class Circuit {
  #current: CircuitState = healthy
  /** Until when a 429 keeps the lane at the back of the route. */
  #pausedUntil = 0

  constructor(
    private readonly options: CircuitOptions,
    private readonly onChange: (from: CircuitName, to: CircuitName, failures: number) => void,
  ) {}

  get state(): CircuitName {
    return this.#current.state
  }

  get failures(): number {
    return this.#current.failures
  }

  /** Whether an attempt may go ahead of the lanes that are in trouble. */
  isAvailable(now: number): boolean {
    return now >= this.#pausedUntil && this.#admits(now)
  }

  /** Takes the trial of a half-open circuit, if there is one to be had. */
  enter(now: number): Trial | undefined {
    const circuit = this.#current
    if (circuit.state === 'closed' || !this.#admits(now)) return undefined
    const trial: Trial = { state: 'half-open', failures: circuit.failures, trial: 'running' }
    this.#become(trial)
    return trial
  }

  /** Takes what an attempt that `enter`ed has shown. A half-open circuit listens to its trial, and to success. */
  leave(trial: Trial | undefined, sign: LaneSign, now: number): void {
    const circuit = this.#current
    if (sign === 'success') {
      if (circuit !== healthy) this.#become(healthy)
      return
    }
    if (circuit.state === 'half-open' && trial !== circuit) return
    const failures = circuit.failures + (sign === 'failure' ? 1 : 0)
    if (circuit.state === 'open') this.#become({ ...circuit, failures })
    else if (sign === 'failure' && (trial === circuit || failures >= this.options.maxConsecutiveFailures))
      this.#become({ state: 'open', failures, halfOpenAt: now + this.options.coolDownMs })
    else if (circuit.state === 'half-open') this.#become({ ...circuit, trial: 'free' })
    else this.#become({ ...circuit, failures })
  }

  /** Opens the half-open door before the cool-down has passed: an active check has been answered. */
  openDoor(): void {
    const circuit = this.#current
    if (circuit.state === 'open')
      this.#become({ state: 'half-open', failures: circuit.failures, trial: 'free' })
  }

  /** Keeps the lane at the back for `durationMs` (ms) without counting a failure. */
  pause(durationMs: number, now: number): void {
    this.#pausedUntil = Math.max(this.#pausedUntil, now + durationMs)
  }

  #admits(now: number): boolean {
    const circuit = this.#current
    if (circuit.state === 'open') return now >= circuit.halfOpenAt
    return circuit.state === 'closed' || circuit.trial === 'free'
  }

  #become(next: CircuitState): void {
    const { state: from } = this.#current
    this.#current = next
    if (from !== next.state) this.onChange(from, next.state, next.failures)
  }
}
